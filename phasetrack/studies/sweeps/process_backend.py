"""Compute jobs in processes of this machine; a job whose worker was killed is retried."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from phasetrack.studies.sweeps.job import Job, compute
from phasetrack.studies.sweeps.point import PointOutcome
from phasetrack.studies.worker_pool import WorkerPool

# How often a job is started before it counts as failed: the system may kill a worker because a
# neighbour took the memory.
ATTEMPTS = 3

Work = Callable[[Job], list[PointOutcome]]


def run_locally(
    jobs: Iterable[Job], workers: int, work: Work = compute
) -> Iterator[list[PointOutcome]]:
    """Compute jobs in several processes and yield the outcomes of each job as it finishes.

    `concurrent.futures` stops every worker when one dies. Their jobs are then retried one at a
    time, which tells the job that kills its worker from those that ran beside it.

    Args:
        jobs: the jobs, each tried up to `ATTEMPTS` times.
        workers: largest number of processes at one time.
        work: a function of a module that computes a job.
    """
    waiting = deque(jobs)
    while waiting:
        for job in (yield from _run_until_a_worker_dies(waiting, workers, work)):
            yield _retry_alone(job, work)


def _run_until_a_worker_dies(
    waiting: deque[Job], workers: int, work: Work
) -> Generator[list[PointOutcome], None, list[Job]]:
    """Compute waiting jobs in one pool; return the jobs that the death of a worker stopped."""
    stopped: list[Job] = []
    running: dict[Future[list[PointOutcome]], Job] = {}
    with WorkerPool(workers) as pool, suppress(BrokenProcessPool):
        while (waiting or running) and not stopped:
            # one job per worker: a job that was submitted is under way
            while waiting and len(running) < workers:
                running[pool.submit(work, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    stopped.append(job)
                else:
                    yield future.result()
    return [*stopped, *running.values()]


def _retry_alone(job: Job, work: Work) -> list[PointOutcome]:
    for _ in range(ATTEMPTS - 1):
        with WorkerPool(1) as pool, suppress(BrokenProcessPool):
            return pool.submit(work, job).result()
    reason = f"its process was killed, {ATTEMPTS} times"
    return [PointOutcome(point, reason) for point in job.points]
