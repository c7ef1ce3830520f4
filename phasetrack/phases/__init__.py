"""Phases, boundaries and alerts from scalars; histories and summaries. No torch."""
