"""How much memory there is, and how many samples of a batch to hold at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Bytes that the samples in hand may take, and at most this share of all memory (chosen here: large
# enough that the two matrix products run at full speed at d = 65,536, small beside the weights there).
PIECE_BYTES = 2**30
PIECE_SHARE = 1 / 8
# The limit that Linux sets a container.
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


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

    Its inputs while they are unpacked (4 d bytes, and d/2 + d/8 of packed bits), those of the piece
    before, which the tracker still holds, and five tables of hidden values.
    """
    return 9 * d + 20 * width


def micro_batch(d: int, width: int, batch: int, memory: int | None = None) -> int:
    """Samples to hold at once so that a step's memory does not grow with the batch.

    The batch is split into as few pieces of nearly one size as fit; it is not split where it fits.

    Args:
        d: input dimension.
        width: number of neurons.
        batch: samples a step.
        memory: bytes on the device that trains; None means unknown, and plenty.

    Example:
        >>> micro_batch(512, 512, 2048), micro_batch(65_536, 512, 65_536)
        (2048, 1772)
    """
    budget = PIECE_BYTES if memory is None else min(PIECE_BYTES, PIECE_SHARE * memory)
    most = max(1, int(budget // bytes_per_sample(d, width)))
    pieces = -(-batch // most)
    return -(-batch // pieces)
