"""The unit of work of a sweep: some points, computed in one process into their run directories."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phasetrack.storage.directory import CONFIG
from phasetrack.studies.sweeps.point import ENDED, Outcome, Point


@dataclass(frozen=True)
class Job:
    """Points that one process computes together.

    Attributes:
        points: one or more; points of one shape could be trained side by side.
        threads: cores that they may use.
        folder: the sweep's folder.
    """

    points: tuple[Point, ...]
    threads: int
    folder: Path


def compute(job: Job) -> list[Outcome]:
    """Train a job's points; a failure is an outcome, not an exception."""
    return [_compute(point, job) for point in job.points]


def compute_elsewhere(job: Job) -> tuple[list[Outcome], bytes]:
    """`compute` on a machine that does not see the sweep's folder.

    Returns:
        The outcomes, and the run directories as a tar archive for `unpack`.
    """
    with tempfile.TemporaryDirectory(prefix="phasetrack-") as folder:
        there = Job(job.points, job.threads, Path(folder))
        outcomes, packed = compute(there), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for outcome in outcomes:
                if outcome.finished:
                    archive.add(Path(folder) / outcome.point.name, outcome.point.name)
    return outcomes, packed.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Lay the run directories of `compute_elsewhere` into a folder; paths cannot lead out of it."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def clear(folder: Path, point: Point) -> None:
    """Take away what an earlier, unfinished attempt at a point has left."""
    left = folder / point.name
    if left.is_symlink() or (
        left.exists() and not (left / CONFIG).exists() and any(left.iterdir())
    ):
        return  # not ours: training will say that the name is taken
    shutil.rmtree(left, ignore_errors=True)


def _compute(point: Point, job: Job) -> Outcome:
    from phasetrack.training.run import train as trained

    clear(job.folder, point)
    try:
        summary = trained(point.settings, out=job.folder, name=point.name, threads=job.threads)
    except Exception as error:
        return Outcome(point, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Outcome(point, "" if summary["stopped"] in ENDED else str(summary["stopped"]))
