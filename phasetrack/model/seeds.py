"""A random generator of torch's that every bit of a seed decides."""

from __future__ import annotations

import numpy as np
import torch

TORCH_SEEDS = 2**32  # of which torch's generator on the host takes the last 32 bits alone


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the host.

    Args:
        seed: from -2^63 to 2^64 - 1. Up to 2^32 - 1 the numbers are those of torch's own `manual_seed`; any
            other is mixed, so that seeds 2^32 apart do not share their numbers.
    """
    if not 0 <= seed < TORCH_SEEDS:
        seed = int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0])
    return torch.Generator(device="cpu").manual_seed(seed)
