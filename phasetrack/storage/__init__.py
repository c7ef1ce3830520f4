"""A run on disk: the file sinks, the readers of the same files, locks and checkpoints."""
