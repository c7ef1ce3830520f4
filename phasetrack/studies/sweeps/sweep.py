"""Train the points of a grid that have no result yet, and write the table of all points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from phasetrack._cores import available_cores
from phasetrack.errors import ExpectedError, check_int
from phasetrack.storage.directory import write_json
from phasetrack.storage.json_schema import read_object
from phasetrack.storage.lock import RunLock
from phasetrack.studies.sweeps.grid import Grid
from phasetrack.studies.sweeps.job import Job, clear
from phasetrack.studies.sweeps.point import Point, PointOutcome, is_finished
from phasetrack.studies.sweeps.process_backend import run_locally
from phasetrack.studies.sweeps.table import write_table

SWEEP = "sweep.json"
# The pictures of `phasetrack sweep --plot`: they show one sweep.
PICTURES = ("curves.png", "phases.png")


@dataclass(frozen=True)
class Sweep:
    """A grid of runs and the folder that holds them.

    Attributes:
        grid: the points.
        folder: holds a run directory per point; sweeps may share it, and the table lists the points of all.
        removed: pictures of another sweep that `run` found in the folder and removed.
    """

    grid: Grid
    folder: Path
    removed: list[Path] = field(default_factory=list, init=False, compare=False)

    @property
    def points(self) -> list[Point]:
        """Every point, in the grid's order."""
        return [Point(self.grid.name(settings), settings) for settings in self.grid.points()]

    def missing(self) -> list[Point]:
        """The points that have no result yet."""
        return [point for point in self.points if not is_finished(self.folder, point)]

    def run(
        self,
        *,
        workers: int | None = None,
        ray: str | None = None,
        begun: Callable[[list[Point]], None] = lambda _: None,
    ) -> Iterator[PointOutcome]:
        """Train the missing points in several processes and yield each outcome as it comes.

        A finished point is never trained again. The table is written however the sweep ends. The
        folder is locked while the sweep runs.

        Args:
            workers: number of processes, which share the cores; None for one per core.
            ray: address of a Ray cluster, ``auto`` or ``local``; None for processes of this machine.
            begun: called once with the missing points.

        Raises:
            ExpectedError: if the folder cannot be written, another sweep holds its lock, or no Ray
                cluster answers.
        """
        if workers is not None:
            check_int("workers", workers, minimum=1)
        lock = self._locked()
        try:
            yield from self._run(workers, ray, begun)
        finally:
            lock.release()

    def _run(
        self, workers: int | None, ray: str | None, begun: Callable[[list[Point]], None]
    ) -> Iterator[PointOutcome]:
        cores, missing = available_cores(), self.missing()
        # a worker without a point would leave its cores idle
        count = max(1, min(cores if workers is None else workers, len(missing)))
        for point in missing:
            clear(self.folder, point)
        begun(missing)
        failed: dict[str, str] = {}
        first = self.grid.base.seed
        jobs = [Job((point,), max(1, cores // count), self.folder, first) for point in missing]
        try:
            if ray is None:
                results = run_locally(jobs, count)
            else:
                from phasetrack.studies.sweeps.ray_backend import run_on_ray

                jobs = [replace(job, threads=1) for job in jobs]
                results = run_on_ray(jobs, ray, cores if workers is None else workers)
            for outcomes in results if jobs else ():
                for outcome in outcomes:
                    if outcome.reason:
                        failed[outcome.point.name] = outcome.reason
                    yield outcome
        finally:
            write_table(self.folder, self.points, failed)

    def _locked(self) -> RunLock:
        """Make the folder, lock it and write the sweep's description into it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(self.folder, "folder")
            self._describe()
        except OSError as error:
            raise ExpectedError(
                "folder",
                f"{str(self.folder)!r} cannot be written ({error.strerror}).",
                "Choose another folder.",
            ) from None
        return lock

    def _describe(self) -> None:
        """Write the sweep's description; remove the pictures if it differs from the one before."""
        description = {
            "base": asdict(self.grid.base),
            "axes": {name: list(values) for name, values in self.grid.axes.items()},
            "seeds": self.grid.seeds,
        }
        file = self.folder / SWEEP
        if file.is_file() and read_object(file) != description:
            stale = [self.folder / name for name in PICTURES if (self.folder / name).is_file()]
            for picture in stale:
                picture.unlink()
            self.removed.extend(stale)
        write_json(file, description)
