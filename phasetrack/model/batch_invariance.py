"""Rows whose last digits do not depend on how many rows are computed together.

PyTorch's elementwise functions take the elements in groups and the last few one by one, by other code
that can differ in the last digit (softplus and sigmoid do). Where a row fills whole groups, there are no
last few, whatever comes before or after it; unless the work is divided among threads, where each has its
own last few.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A multiple of every group that PyTorch uses: 2 vectors of 8 doubles at most.
GROUP = 64
# PyTorch leaves so much elementwise work to one thread; twice as much it divides in the middle.
UNDIVIDED = 2**15


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


def undivided(function: Callable[..., tuple[Tensor, ...]], *tables: Tensor) -> tuple[Tensor, ...]:
    """An elementwise function of tables of rows (K, ...), a few rows at a time.

    Args:
        function: of tables of rows, as many each, to tables of as many rows.
        tables: of filled rows, at least one.

    >>> import torch
    >>> [made] = undivided(lambda table: (table + len(table),), torch.zeros(3, UNDIVIDED // 2))
    >>> made[:, 0].tolist()
    [2.0, 2.0, 1.0]
    """
    most = max(1, UNDIVIDED // tables[0][0].numel())
    if len(tables[0]) <= most:
        return function(*tables)
    parts = zip(*(torch.split(table, most) for table in tables), strict=True)
    return tuple(map(torch.cat, zip(*(function(*part) for part in parts), strict=True)))
