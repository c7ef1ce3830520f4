"""Scalars in, labels out; histories and summaries. No torch."""
