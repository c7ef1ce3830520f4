"""Where records go: history file, TensorBoard, terminal."""
