"""The "Phases" tab of TensorBoard: found by a plain ``tensorboard --logdir``, read from histories."""
