"""Random bits by counter: sample i of step t is a pure function of (seed, stream, t, i).

Philox 4x64 (Salmon et al. 2011, numpy's implementation) turns a 256-bit counter and a 128-bit key
into bits, so that any part of any batch can be made anywhere, in any order.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

CHANCES = 2  # stream of random bits, after boolean.py's
CHANCE_BITS = 24  # a chance is met to 2^-24
WORDS_PER_COUNT = 4  # one Philox counter value yields four 64-bit words


def signs(
    rows: int,
    columns: int,
    *,
    seed: int,
    stream: int,
    step: int,
    start: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Independent fair signs, (rows, columns), each -1 or +1.

    Args:
        rows: how many rows, from row `start` on.
        columns: signs in a row.
        seed: the key.
        stream: what the bits are for; different streams are independent.
        step: the optimizer step.
        start: number of the first row within the step.
        device: where the result is made; bits travel packed, 64 to a word.
        dtype: of the result.
    """
    row_words = -(-columns // 64)
    first = start * row_words
    counter = np.array([first // WORDS_PER_COUNT, stream, step, 0], dtype=np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, 0], dtype=np.uint64))
    skipped = first % WORDS_PER_COUNT
    words = generator.random_raw(skipped + rows * row_words)[skipped:]
    packed = words.astype("<u8", copy=False).view(np.uint8)
    # indices are widened where they are used: numpy is fast at it here, and to a GPU bytes travel
    if torch.device(device).type == "cpu":
        index = torch.from_numpy(packed.astype(np.int32))
    else:
        index = sent(torch.from_numpy(packed), device).to(torch.int32)
    # a table of all 256 bytes unpacks eight signs at a time
    unpacked = torch.index_select(_byte_table(torch.device(device), dtype), 0, index)
    return unpacked.view(rows, row_words * 64)[:, :columns]


def sent(values: Tensor, device: torch.device | str) -> Tensor:
    """Values of the host on a device; to a GPU they travel while the host goes on."""
    where = torch.device(device)
    if where.type != "cuda":
        return values.to(where)
    # a GPU reads by itself from page-locked memory alone; PyTorch hands that memory out again only
    # once the GPU has read it, so that nobody need keep the copy
    return values.pin_memory().to(where, non_blocking=True)


def chance(share: float, count: int, seed: int, step: int, start: int) -> Tensor:
    """Whether each sample is among a share of them, bool (count,)."""
    return uniform(count, 1, CHANCE_BITS, CHANCES, seed, step, start)[:, 0] < share


def uniform(
    rows: int, columns: int, bits: int, stream: int, seed: int, step: int, start: int
) -> Tensor:
    """Uniform numbers in (0, 1), midpoints of 2^bits cells, float64 (rows, columns)."""
    drawn = signs(
        rows,
        columns * bits,
        seed=seed,
        stream=stream,
        step=step,
        start=start,
        dtype=torch.float64,
    ).reshape(rows, columns, bits)
    weights = 0.5 ** torch.arange(2, bits + 2, dtype=torch.float64)
    return 0.5 + drawn @ weights


@cache
def _byte_table(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Signs of the eight bits of each byte, lowest bit first: (256, 8)."""
    bits = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1
    return (1 - 2 * bits).to(device=device, dtype=dtype)
