"""What is predicted before training."""
