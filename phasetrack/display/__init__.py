"""For people: figures, reports, the terminal, TensorBoard."""
