"""Probes: what reads a Snapshot (public names)."""

from phasetrack.tracking.probes.default import *  # noqa: F403
