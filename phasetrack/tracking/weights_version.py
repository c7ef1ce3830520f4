"""WeightsVersion: whether weights were written to, in whatever way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

# Rows, and columns in each, whose weights are looked at. A heuristic of ours.
SAMPLED = 6
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightsVersion:
    """Numbers the states of some weights: another number once they are written to.

    PyTorch counts in-place writes. It does not count those through ``p.data``, as older optimizers
    make them: a replaced tensor is seen by its address, and an in-place write by some of the weights
    themselves. That takes a look at their values, which a GPU would have to be waited for; there
    in-place writes through ``p.data`` stay unseen.

    Args:
        parameters: the weights.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._placed = [parameter for parameter in parameters if _has_place(parameter)]
        self._places: list[int] = []
        self._samples: list[np.ndarray[Any, Any]] = []

    def __call__(self) -> int:
        """Return the number of the weights as they are now."""
        version = sum([parameter._version for parameter in self._parameters])
        places = [parameter.data_ptr() for parameter in self._placed]
        if places != self._places:
            self._places = places
            self._samples = [_sample(p) for p in self._placed if p.device.type == "cpu"]
        values = [sample.tobytes() for sample in self._samples]
        return hash((version, *places, *values))


def _has_place(parameter: nn.Parameter) -> bool:
    """Whether a tensor has memory of its own; some subclasses wrap one that does."""
    try:
        return bool(parameter.data_ptr())
    except RuntimeError:
        return False


def _sample(parameter: nn.Parameter) -> np.ndarray[Any, Any]:
    """Return a view of some of the weights, as integers of their bits: NumPy knows no bfloat16."""
    places = tuple(slice(None, None, -(-size // SAMPLED)) for size in parameter.shape)
    weights = parameter.detach()[places]
    weights = torch.view_as_real(weights) if weights.is_complex() else weights
    return weights.view(_BITS[weights.element_size()]).numpy()
