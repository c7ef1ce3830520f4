"""The unit of work of a sweep: points that one process trains into their run directories."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phasetrack.storage.file_names import CONFIG
from phasetrack.studies.sweeps.point import ENDED, Point, PointOutcome


@dataclass(frozen=True)
class Job:
    """Points that one process trains.

    Attributes:
        points: one or more points.
        threads: number of threads of the process.
        folder: the sweep's folder.
    """

    points: tuple[Point, ...]
    threads: int
    folder: Path


def compute(job: Job) -> list[PointOutcome]:
    """Train a job's points; a failure becomes an outcome, not an exception."""
    return [_compute(point, job) for point in job.points]


def compute_elsewhere(job: Job) -> tuple[list[PointOutcome], bytes]:
    """Train a job's points on a machine that does not see the sweep's folder.

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
    """Extract the archive of `compute_elsewhere`; paths cannot lead out of the folder."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def clear(folder: Path, point: Point) -> None:
    """Remove the run directory of an unfinished attempt at a point; leave anything else alone."""
    left = folder / point.name
    if left.is_symlink() or (
        left.exists() and not (left / CONFIG).exists() and any(left.iterdir())
    ):
        return  # not a run directory: training will report that the name is taken
    shutil.rmtree(left, ignore_errors=True)


def _compute(point: Point, job: Job) -> PointOutcome:
    from phasetrack.training.run import train

    clear(job.folder, point)
    try:
        summary = train(point.settings, out=job.folder, name=point.name, threads=job.threads)
    except Exception as error:
        return PointOutcome(point, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return PointOutcome(point, "" if summary["stopped"] in ENDED else str(summary["stopped"]))
