"""How far an optimizer's steps move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Mapping
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


class Pace(NamedTuple):
    """How far a step moves either layer, the larger of both, and what that hangs on."""

    first: float
    second: float
    eta: float
    scale: float | None
    layers: list[_Layer]


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
        self._last: Pace | None = None

    def sizes(self, scale: float | None) -> StepSizes:
        """Length of the coming step for each layer; `scale` is the view's."""
        pace = self.pace(scale)
        plain = type(self._optimizer) is torch.optim.SGD and all(map(_plain, pace.layers))
        return StepSizes(pace.first, pace.second, plain)

    def pace(self, scale: float | None) -> Pace:
        """The rates now; quickly where nothing has changed since they were last asked for."""
        last = self._last
        if last is None or scale is not last.scale:
            return self._found_pace(scale)
        groups = self._optimizer.param_groups
        for parameter, place, group, rate in last.layers:
            if place >= len(groups) or groups[place] is not group:
                return self._found_pace(scale)
            if group["lr"] is not rate or not parameter.requires_grad:
                return self._found_pace(scale)
        return last

    def _found_pace(self, scale: float | None) -> Pace:
        found = [self._found(parameter) for parameter in self._trained]
        layers = [layer for layer in found if layer]
        first, second = (_eta(layer, scale) for layer in found)
        pace = Pace(first, second, max(first, second), scale, layers)
        # a layer that is not trained may be later; a rate that is a tensor changes and stays the same object
        lasting = len(layers) == len(found) and all(isinstance(x.rate, int | float) for x in layers)
        self._last = pace if lasting else None
        return pace

    def _found(self, parameter: nn.Parameter | None) -> _Layer | None:
        """A layer as it is trained now; None where it is not."""
        if parameter is None or not parameter.requires_grad:
            return None
        for place, group in enumerate(self._optimizer.param_groups):
            if any(candidate is parameter for candidate in group["params"]):
                return _Layer(parameter, place, group, group["lr"])
        return None


def _eta(layer: _Layer | None, scale: float | None) -> float:
    """How far a step moves a layer."""
    if layer is None:
        return 0.0
    return float(layer.rate) * (1.0 if scale is None else scale)


def _plain(layer: _Layer) -> bool:
    """Whether SGD moves a layer along its gradient and nothing else."""
    return not (layer.group.get("momentum", 0) or layer.group.get("weight_decay", 0))
