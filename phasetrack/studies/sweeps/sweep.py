"""A sweep: the points of a grid that have no result yet are computed, and all are tabulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from phasetrack._cores import available_cores
from phasetrack.errors import check_int, expected_error
from phasetrack.storage.directory import write_json
from phasetrack.storage.lock import RunLock
from phasetrack.studies.sweeps.grid import Grid
from phasetrack.studies.sweeps.job import Job, clear
from phasetrack.studies.sweeps.point import Outcome, Point, is_finished
from phasetrack.studies.sweeps.process_backend import run_locally
from phasetrack.studies.sweeps.table import write_table

SWEEP = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """A grid in a folder.

    Attributes:
        grid: what is computed.
        folder: where each point has its run directory; sweeps with points in common may share it.
    """

    grid: Grid
    folder: Path

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
    ) -> Iterator[Outcome]:
        """Compute what is missing, in several processes, and yield each outcome as it comes.

        Whatever ends it, a point that was finished is never computed again, and the table holds
        what there is. The folder is locked meanwhile.

        Args:
            workers: processes at work at once; None means one a core. They share the cores.
            ray: a Ray cluster's address, or ``local``, in place of processes of our own.
            begun: called once with the points that will be computed.

        Raises:
            ExpectedError: if the folder cannot be written, another sweep is at work in it, or Ray
                cannot be reached.
        """
        check_int("jobs", available_cores() if workers is None else workers, minimum=1)
        lock = self._locked()
        try:
            yield from self._run(workers, ray, begun)
        finally:
            lock.release()

    def _run(
        self, workers: int | None, ray: str | None, begun: Callable[[list[Point]], None]
    ) -> Iterator[Outcome]:
        cores, missing = available_cores(), self.missing()
        # without more workers than points, nor fewer threads than one
        count = max(1, min(cores if workers is None else workers, len(missing)))
        for point in missing:
            clear(self.folder, point)
        begun(missing)
        failed: dict[str, str] = {}
        jobs = [Job((point,), max(1, cores // count), self.folder) for point in missing]
        try:
            if ray is None:
                results = run_locally(jobs, count)
            else:
                from phasetrack.studies.sweeps.ray_backend import run_on_ray

                jobs = [Job(job.points, 1, self.folder) for job in jobs]
                results = run_on_ray(jobs, ray, cores if workers is None else workers)
            for outcomes in results if jobs else ():
                for outcome in outcomes:
                    if outcome.reason:
                        failed[outcome.point.name] = outcome.reason
                    yield outcome
        finally:
            write_table(self.folder, self.points, failed)

    def _locked(self) -> RunLock:
        """The folder, made if need be, with what is computed in it written down."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(self.folder, "out")
            write_json(
                self.folder / SWEEP,
                {
                    "base": asdict(self.grid.base),
                    "axes": {name: list(values) for name, values in self.grid.axes.items()},
                    "seeds": self.grid.seeds,
                },
            )
        except OSError as error:
            raise expected_error(
                "out", "a folder that can be written", f"{self.folder} ({error.strerror})"
            ) from None
        return lock
