"""The unit of work of a sweep: points that one process trains into their run directories."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from phasetrack.storage.file_names import CONFIG
from phasetrack.studies.sweeps.point import ENDED, Point, PointOutcome
from phasetrack.theory.settings import RunSettings

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast

# Forecasts that a worker keeps, of the combinations that it met last: 0.1 MB each at 160 steps.
FORECASTS_KEPT = 16


@dataclass(frozen=True)
class Job:
    """Points that one process trains.

    Attributes:
        points: one or more points.
        threads: number of threads of the process.
        folder: the sweep's folder.
        first_seed: of the sweep; the forecast of all seeds of a combination is drawn from it.
    """

    points: tuple[Point, ...]
    threads: int
    folder: Path
    first_seed: int = 0


def compute(job: Job) -> list[PointOutcome]:
    """Train a job's points; a failure becomes an outcome, not an exception."""
    return [_compute(point, job) for point in job.points]


def compute_elsewhere(job: Job) -> tuple[list[PointOutcome], bytes]:
    """Train a job's points on a machine that does not see the sweep's folder.

    Returns:
        The outcomes, and the run directories as a tar archive for `unpack`.
    """
    with tempfile.TemporaryDirectory(prefix="phasetrack-") as folder:
        there = replace(job, folder=Path(folder))
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
        summary = train(
            point.settings,
            out=job.folder,
            name=point.name,
            threads=job.threads,
            predicted=_forecast(replace(point.settings, seed=job.first_seed)),
        )
    except Exception as error:
        return PointOutcome(point, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return PointOutcome(point, "" if summary["stopped"] in ENDED else str(summary["stopped"]))


@lru_cache(maxsize=FORECASTS_KEPT)
def _forecast(settings: RunSettings) -> Forecast:
    """Predict a combination once per worker: half of a small point's time is its forecast."""
    from phasetrack.training.run import forecast_of

    return forecast_of(settings)
