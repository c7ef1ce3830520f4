"""Test the statements of arXiv 2309.15111: one module per claim, with findings and a verdict."""
