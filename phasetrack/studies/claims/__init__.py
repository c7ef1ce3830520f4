"""Statements of arXiv 2309.15111 on trial: one file a statement, each with numbers and a verdict."""
