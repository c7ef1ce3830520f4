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


def packed_signs(
    rows: int, columns: int, *, seed: int, stream: int, step: int, start: int = 0
) -> Tensor:
    """Independent fair signs as `unpacked` takes them: a bit each, uint8 (rows, bytes), on the host.

    Args:
        rows: how many rows, from row `start` on.
        columns: signs in a row; a row begins with a word of 64.
        seed: the key.
        stream: what the bits are for; different streams are independent.
        step: the optimizer step.
        start: number of the first row within the step.
    """
    row_words = -(-columns // 64)
    first = start * row_words
    counter = np.array([first // WORDS_PER_COUNT, stream, step, 0], dtype=np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, 0], dtype=np.uint64))
    skipped = first % WORDS_PER_COUNT
    words = generator.random_raw(skipped + rows * row_words)[skipped:]
    packed = words.astype("<u8", copy=False).view(np.uint8)
    return torch.from_numpy(packed.reshape(rows, row_words * 8))


def unpacked(packed: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Signs -1 and +1, (rows, columns), made on the device where the bits are."""
    if packed.device.type == "cpu":
        # a table of all 256 bytes unpacks eight signs at a time; numpy widens its indices fast
        index = torch.from_numpy(packed.numpy().reshape(-1).astype(np.int32))
        made = torch.index_select(_byte_table(dtype), 0, index)
    else:
        # a GPU is slow at small rows of a table, and fast at all bits at once
        masks, plus, minus = _places(packed.device, dtype)
        made = torch.where((packed.unsqueeze(-1) & masks) == 0, plus, minus)
    return made.view(len(packed), 8 * packed.shape[1])[:, :columns]


def signs(
    rows: int,
    columns: int,
    *,
    seed: int,
    stream: int,
    step: int,
    start: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The signs of `packed_signs`, (rows, columns), on the host."""
    packed = packed_signs(rows, columns, seed=seed, stream=stream, step=step, start=start)
    return unpacked(packed, columns, dtype)


def sent(values: Tensor, device: torch.device | str) -> Tensor:
    """Values of the host on a device; to a GPU they travel while the host goes on."""
    where = torch.device(device)
    if where.type == "cpu":
        return values
    return readable(values, where).to(where, non_blocking=True)


def readable(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host where a device reads them by itself."""
    # a GPU does so from page-locked memory alone; PyTorch hands that memory out again only once the
    # GPU has read it, so that nobody need keep the copy
    return values.pin_memory() if device.type == "cuda" else values


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
    weights = 0.5 ** torch.arange(2, bits + 2, dtype=torch.float64, device="cpu")
    return 0.5 + drawn @ weights


@cache
def _byte_table(dtype: torch.dtype) -> Tensor:
    """Signs of the eight bits of each byte, lowest bit first: (256, 8)."""
    bits = (torch.arange(256, device="cpu").unsqueeze(1) >> torch.arange(8, device="cpu")) & 1
    return (1 - 2 * bits).to("cpu", dtype)


@cache
def _places(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The eight places of a byte as masks, lowest first, and what a bit stands for: 1 if it is not set, -1."""
    masks = 2 ** torch.arange(8, dtype=torch.uint8, device="cpu")
    plus, minus = torch.tensor([1, -1], dtype=dtype, device="cpu").to(device)
    return masks.to(device), plus, minus
