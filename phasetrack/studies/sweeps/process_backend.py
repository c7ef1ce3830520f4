"""Jobs in processes of this machine. A worker that is killed costs its job one of a few attempts."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from phasetrack.studies.sweeps.job import Job, compute
from phasetrack.studies.sweeps.point import Outcome

# How often a job is begun before it counts as failed: a worker may be killed for lack of memory
# that a neighbour took (chosen here).
ATTEMPTS = 3


def run_locally(
    jobs: Iterable[Job],
    workers: int,
    work: Callable[[Job], list[Outcome]] = compute,
) -> Iterator[list[Outcome]]:
    """Compute jobs in some processes and yield their outcomes as they come.

    When a worker dies, those who worked beside it are stopped by `concurrent.futures` too. Their
    jobs are begun again one at a time, so that the one which kills its worker is known by it and
    costs the others nothing.

    Args:
        jobs: what to compute.
        workers: processes at work at once.
        work: what computes a job; a function of a module.
    """
    waiting, suspects = deque(jobs), deque[tuple[Job, int]]()
    while waiting or suspects:
        with _Pool(workers if waiting and not suspects else 1) as pool:
            if suspects:
                job, attempts = suspects.popleft()
                outcome = pool.alone(work, job)
                if outcome is not None:
                    yield outcome
                elif attempts + 1 < ATTEMPTS:
                    suspects.append((job, attempts + 1))
                else:
                    reason = f"its process was killed, {ATTEMPTS} times"
                    yield [Outcome(point, reason) for point in job.points]
                continue
            # never more than there are workers: whatever is handed over is under way
            under_way: dict[Future[list[Outcome]], Job] = {}
            broken = False
            while not broken and (waiting or under_way):
                while waiting and len(under_way) < workers:
                    job = waiting.popleft()
                    try:
                        under_way[pool.executor.submit(work, job)] = job
                    except BrokenProcessPool:
                        waiting.appendleft(job)
                        break
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    job = under_way.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        broken = True
                        suspects.append((job, 1))
                    else:
                        yield future.result()
            suspects.extend((job, 1) for job in under_way.values())


class _Pool:
    """A ProcessPoolExecutor whose processes end with it, even in the middle of a job."""

    def __init__(self, workers: int) -> None:
        self._before = set(multiprocessing.active_children())
        # spawned: a forked copy of a process with threads, such as torch's, can hang
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()
        self.executor.shutdown(cancel_futures=True)

    def alone(self, work: Callable[[Job], list[Outcome]], job: Job) -> list[Outcome] | None:
        """A job's outcomes, or None if its process died."""
        try:
            return self.executor.submit(work, job).result()
        except BrokenProcessPool:
            return None


def _begin() -> None:
    """Have a worker end with the sweep, and only with it.

    Ctrl-C reaches all processes of a terminal; the first one ends the others. If that is killed, a
    worker that went on would write into what the next sweep computes again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
