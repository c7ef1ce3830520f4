"""A point of a sweep, its outcome, and whether its run has finished. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phasetrack.storage.file_names import SUMMARY
from phasetrack.storage.json_schema import read_object
from phasetrack.theory.settings import RunSettings

# Values of `stopped` in the summary of a finished run; an interrupted run is not finished.
ENDED = ("fitted", "steps", "diverged")


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its directory's name and its settings."""

    name: str
    settings: RunSettings


@dataclass(frozen=True)
class PointOutcome:
    """The outcome of training a point.

    Attributes:
        point: the point.
        reason: why the point has no result; empty if it has one.
    """

    point: Point
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run directory is complete."""
        return not self.reason


def is_finished(folder: Path, point: Point) -> bool:
    """Whether a point's run reached its end; a diverged run did."""
    summary = folder / point.name / SUMMARY
    return summary.is_file() and read_object(summary).get("stopped") in ENDED
