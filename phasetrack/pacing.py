"""How far an optimizer's steps move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from phasetrack.snapshot import StepSizes
from phasetrack.weights import Weight

Group = Mapping[str, Any]


class _Pace(NamedTuple):
    """Eta of one step, and what it hangs on: scale, layers, and place and rate of the group of each."""

    eta: float
    scale: float | None
    first: nn.Parameter
    second: nn.Parameter
    here: int
    there: int
    rate: float
    other: float


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
        self._places: dict[int, int] = {}  # the parameter's id: its group's number
        self._last: _Pace | None = None

    def sizes(self, scale: float | None) -> StepSizes:
        """Length of the coming step for each layer; `scale` is the view's."""
        first, second = map(self._group, self._trained)
        plain = type(self._optimizer) is torch.optim.SGD and _plain(first)
        if second is not first:
            plain = plain and _plain(second)
        return StepSizes(_eta(first, scale), _eta(second, scale), plain)

    def eta(self, scale: float | None) -> float:
        """`StepSizes.eta` of the step just taken; quickly where nothing has changed since the last."""
        groups, last = self._optimizer.param_groups, self._last
        if last is not None:
            eta, before, first, second, here, there, rate, other = last
            same = groups[here]["lr"] is rate and groups[there]["lr"] is other
            if same and scale is before and first.requires_grad and second.requires_grad:
                return eta
        return self._looked_up(scale)

    def _looked_up(self, scale: float | None) -> float:
        eta = max(_eta(self._group(parameter), scale) for parameter in self._trained)
        self._last = None
        if all(parameter is not None and parameter.requires_grad for parameter in self._trained):
            groups = self._optimizer.param_groups
            places = [self._places.get(id(parameter)) for parameter in self._trained]
            rates = [None if place is None else groups[place]["lr"] for place in places]
            # a rate that is a tensor changes and stays the same object
            if all(isinstance(rate, int | float) for rate in rates):
                self._last = _Pace(eta, scale, *self._trained, *places, *rates)  # type: ignore[arg-type]
        return eta

    def _group(self, parameter: nn.Parameter | None) -> Group | None:
        """The optimizer's group that trains a weight now; None if none does."""
        if parameter is None or not parameter.requires_grad:
            return None
        groups = self._optimizer.param_groups
        place = self._places.get(id(parameter))
        if place is None:
            for place, group in enumerate(groups):
                if any(candidate is parameter for candidate in group["params"]):
                    self._places[id(parameter)] = place
                    return group
            return None
        return groups[place]


def _eta(group: Group | None, scale: float | None) -> float:
    """How far a step moves a layer that the group trains."""
    if group is None:
        return 0.0
    return float(group["lr"]) * (1.0 if scale is None else scale)


def _plain(group: Group | None) -> bool:
    """Whether a group of SGD moves its parameters along their gradients and nothing else."""
    return group is None or not (group.get("momentum", 0) or group.get("weight_decay", 0))
