"""Orders of rows, by numpy: its sort is vectorised, and many times as fast as PyTorch's."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def order(values: Tensor, *, stable: bool = False) -> Tensor:
    """The places of each row's values from the least to the largest, NaN last: int64 (..., n).

    Equal values stand in any order, or in that of their places if `stable`.

    >>> order(torch.tensor([3.0, float("nan"), 1.0]))
    tensor([2, 0, 1])
    """
    rows = _hosted(values)
    places = np.argsort(rows, axis=-1, kind="stable") if stable else np.argsort(rows, axis=-1)
    return torch.from_numpy(places).to(values.device)


def _hosted(values: Tensor) -> NDArray[np.float64]:
    # float64 holds the numbers of every floating dtype, of which numpy knows not all
    return values.detach().cpu().double().numpy()
