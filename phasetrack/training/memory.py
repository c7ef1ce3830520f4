"""How much memory there is, and how many samples of a batch to hold at once."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

# Bytes that the samples in hand may take, and at most this share of all memory (large
# enough that the two matrix products run at full speed at d = 65,536, small beside the weights there).
PIECE_BYTES = 2**30
PIECE_SHARE = 1 / 8
# On a processor, numbers in a piece's inputs and activations: what its cache holds (2048
# samples at d = p = 512, where whole batches take 10 to 40 percent longer), and at least so many for
# each weight, which every piece reads and adds a gradient to.
CACHED_NUMBERS, NUMBERS_PER_WEIGHT = 2**21, 4
# Times as many where products are taken in digits (they wait for memory in any case, and every
# piece makes the digits of all weights).
DIGITS_PIECE = 4
# The C library's allocator (glibc's malloc.h): what it is told, and up to how many freed bytes it keeps, in
# parts of at most so many (what a step takes and frees; glibc allows no larger parts).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, KEPT_PART = 2**28, 2**25
# The limit that Linux sets a container.
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def keep_freed() -> None:
    """Let this process keep freed memory for the next step, which takes as much again.

    glibc may give it back to the system at each step and have it cleared anew, which at d = p = 512
    lengthens one by a fifth to a third. Elsewhere this does nothing.
    """
    with suppress(AttributeError, OSError, TypeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_PART)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def host_memory() -> int | None:
    """Bytes of memory that this process may use at most; None where the system does not say."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no container, or one without a limit
        limits.append(int(CGROUP_LIMIT.read_text()))
    return min(limits, default=None)


def bytes_per_sample(d: int, width: int) -> int:
    """Memory that one sample takes in a step of the canonical run, float32.

    Its inputs while they are unpacked (4 d bytes, and d/2 + d/8 of packed bits; on a GPU 2 d + d/8, for which
    `PIECE_SHARE` leaves room), those of the piece before, which the tracker still holds, and five tables of
    hidden values.
    """
    return 9 * d + 20 * width


def cached_bytes(d: int, width: int) -> int:
    """Bytes that the samples in hand may take on a processor: those of its cache, or more for speed."""
    numbers = max(CACHED_NUMBERS, NUMBERS_PER_WEIGHT * d * width)
    return bytes_per_sample(d, width) * (numbers // (d + width))


def micro_batch(
    d: int, width: int, batch: int, memory: int | None = None, *, budget: float = PIECE_BYTES
) -> int:
    """Samples to hold at once so that a step's memory does not grow with the batch.

    The batch is split into as few pieces of nearly one size as fit; it is not split where it fits.

    Args:
        d: input dimension.
        width: number of neurons.
        batch: samples a step.
        memory: bytes on the device that trains; None means unknown, and plenty.
        budget: bytes that the samples in hand may take, `PIECE_BYTES` at most.

    Example:
        >>> micro_batch(512, 512, 8192), micro_batch(65_536, 512, 65_536)
        (8192, 1772)
        >>> micro_batch(512, 512, 8192, budget=cached_bytes(512, 512))
        2048
    """
    budget = min(budget, PIECE_BYTES)
    if memory is not None:
        budget = min(budget, PIECE_SHARE * memory)
    most = max(1, int(budget // bytes_per_sample(d, width)))
    pieces = -(-batch // most)
    return -(-batch // pieces)
