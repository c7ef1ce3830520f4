"""How far an optimizer's steps move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from phasetrack.snapshot import StepSizes
from phasetrack.weights import Weight

Group = Mapping[str, Any]


class _Layer(NamedTuple):
    """What moves a layer: its parameter, its group and the place of that, and the rate."""

    parameter: nn.Parameter
    place: int
    group: Group
    rate: float


class _Pace(NamedTuple):
    """Eta of one step, and what it hangs on."""

    eta: float
    scale: float | None
    layers: list[_Layer]

    def lasts(self, groups: Sequence[Group], scale: float | None) -> bool:
        """Whether nothing of that has changed."""
        if scale is not self.scale:
            return False
        for parameter, place, group, rate in self.layers:
            if place >= len(groups) or groups[place] is not group:
                return False
            if group["lr"] is not rate or not parameter.requires_grad:
                return False
        return True


class Pacing:
    """An optimizer's rates for two layers, as they are when asked.

    Args:
        optimizer: whose groups may change their rates, be replaced or grow at any time.
        first: the neurons' weights.
        second: the head's weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, first: Weight, second: Weight) -> None:
        self._optimizer = optimizer
        self._trained = [next(iter(weight.parameters), None) for weight in (first, second)]
        self._last: _Pace | None = None

    def sizes(self, scale: float | None) -> StepSizes:
        """Length of the coming step for each layer; `scale` is the view's."""
        groups = [layer and layer.group for layer in self._layers()]
        plain = type(self._optimizer) is torch.optim.SGD and all(map(_plain, groups))
        first, second = (_eta(group, scale) for group in groups)
        return StepSizes(first, second, plain)

    def eta(self, scale: float | None) -> float:
        """`StepSizes.eta` of the step just taken; quickly where nothing has changed since the last."""
        if self._last is not None and self._last.lasts(self._optimizer.param_groups, scale):
            return self._last.eta
        layers = self._layers()
        eta = max(_eta(layer and layer.group, scale) for layer in layers)
        # a rate that is a tensor changes and stays the same object
        lasting = [layer for layer in layers if layer and isinstance(layer.rate, int | float)]
        self._last = _Pace(eta, scale, lasting) if len(lasting) == len(layers) else None
        return eta

    def _layers(self) -> list[_Layer | None]:
        """Each layer as it is trained now; None where it is not."""
        return [self._found(parameter) for parameter in self._trained]

    def _found(self, parameter: nn.Parameter | None) -> _Layer | None:
        if parameter is None or not parameter.requires_grad:
            return None
        for place, group in enumerate(self._optimizer.param_groups):
            if any(candidate is parameter for candidate in group["params"]):
                return _Layer(parameter, place, group, group["lr"])
        return None


def _eta(group: Group | None, scale: float | None) -> float:
    """How far a step moves a layer that the group trains."""
    if group is None:
        return 0.0
    return float(group["lr"]) * (1.0 if scale is None else scale)


def _plain(group: Group | None) -> bool:
    """Whether a group of SGD moves its parameters along their gradients and nothing else."""
    return group is None or not (group.get("momentum", 0) or group.get("weight_decay", 0))
