"""Worker processes that end with the block they work for, even in the middle of a call. No torch."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class WorkerPool:
    """A ProcessPoolExecutor that terminates its processes when its block is left by an exception.

    A worker ignores Ctrl-C, which reaches every process of a terminal, and ends with the process
    that started it: a surviving worker would write into directories that the next command clears.
    When a worker dies, every call under way raises `BrokenProcessPool`.

    Args:
        workers: number of processes.

    Example:
        >>> with WorkerPool(1) as pool:
        ...     pool.submit(abs, -3).result()
        3
    """

    def __init__(self, workers: int) -> None:
        self._others = set(multiprocessing.active_children())
        self._executor = ProcessPoolExecutor(workers, _Context(), initializer=_start_worker)

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a worker call a function of a module; arguments and result are pickled."""
        return self._executor.submit(function, *args, **kwargs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._executor.shutdown(cancel_futures=True)


class _Worker(SpawnProcess):
    """A process that does not import the caller's main module.

    It needs nothing of it, and many cannot be imported again: a script without ``if __name__ ==
    "__main__"`` would start a sweep of its own, and one from standard input has no file.
    """

    def start(self) -> None:
        """Start the process with the main module's name and file hidden from it."""
        main = vars(sys.modules["__main__"])
        shown: dict[str, Any] = {key: main[key] for key in ("__spec__", "__file__") if key in main}
        main.update({key: None for key in shown})
        try:
            super().start()
        finally:
            main.update(shown)


class _Context(SpawnContext):
    """Spawns workers: a forked copy of a process with threads, such as torch's, can hang."""

    Process = _Worker


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
