"""The canonical experiment."""
