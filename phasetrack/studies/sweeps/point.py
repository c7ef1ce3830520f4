"""A point of a sweep, what became of it, and whether its run is there. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phasetrack.storage.directory import SUMMARY
from phasetrack.storage.json_schema import read_object
from phasetrack.theory.settings import RunSettings

# Why a run stopped, where that is its end. A run that was interrupted is none.
ENDED = ("fitted", "steps", "diverged")


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its directory's name and its settings."""

    name: str
    settings: RunSettings


@dataclass(frozen=True)
class Outcome:
    """What became of a point: finished, or not, with the reason.

    Attributes:
        point: the point.
        reason: why it has no result; empty if it has one.
    """

    point: Point
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether its run directory is complete."""
        return not self.reason


def is_finished(folder: Path, point: Point) -> bool:
    """Whether a point's run came to its end, diverged or not; no torch is needed to know."""
    summary = folder / point.name / SUMMARY
    return summary.is_file() and read_object(summary).get("stopped") in ENDED
