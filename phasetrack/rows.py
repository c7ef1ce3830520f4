"""Rows whose last digits do not depend on how many rows are computed together.

PyTorch's elementwise functions take the elements in groups and the last few one by one, by other code
that can differ in the last digit (softplus and sigmoid do). Where a row fills whole groups, there are no
last few, whatever comes before or after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A multiple of every group that PyTorch uses: 2 vectors of 8 doubles at most.
GROUP = 64


def filled(values: Tensor, dim: int = -1) -> Tensor:
    """Rows along `dim` made a multiple of `GROUP` long, by repeating what stands last.

    >>> import torch
    >>> filled(torch.arange(3.0)).shape, float(filled(torch.arange(3.0))[-1])
    (torch.Size([64]), 2.0)
    """
    size = values.shape[dim]
    missing = -size % GROUP
    if not missing:
        return values
    shape = list(values.shape)
    shape[dim] = missing
    return torch.cat([values, values.narrow(dim, size - 1, 1).expand(shape)], dim=dim)
