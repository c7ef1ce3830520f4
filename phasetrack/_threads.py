"""Work in small pieces, which more threads than one only slow down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within, and as many as before afterwards.

    The setting is the process's. Threads that wait for each other at every small operation cost a
    multiple of the work itself where the machine has other things to do.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
