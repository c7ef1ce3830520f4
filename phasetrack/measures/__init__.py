"""Pure tensor functions: no hooks, no files, no state. All broadcast over leading dimensions."""
