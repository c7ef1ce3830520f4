"""Callbacks for training frameworks, thin over `phasetrack.attach`; each needs its own extra."""
