"""How far an optimizer's steps move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from phasetrack.snapshot import StepSizes
from phasetrack.views import TwoLayerView


class _Group(NamedTuple):
    """A group of the optimizer, its place among them, and its rate."""

    place: int
    options: Mapping[str, Any]
    rate: float


class Pacing:
    """An optimizer's rates for two layers, as they are when asked.

    Args:
        optimizer: whose groups may change their rates, be replaced or grow at any time.
        view: the two layers.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, view: TwoLayerView) -> None:
        self._optimizer = optimizer
        weights = (view.first, view.second)
        self._trained = [next(iter(weight.parameters), None) for weight in weights]
        self.settle(view.scale)

    def settle(self, scale: float | None) -> None:
        """Go on with the view's `scale`, once that is known."""
        self._scale = scale
        self._etas, self._eta = (0.0, 0.0), 0.0
        # what they hang on, and whether they last while that is as it was
        self._groups: list[_Group] = []
        self._moved: list[nn.Parameter] = []
        self._lasting = False

    def sizes(self) -> StepSizes:
        """Length of the coming step for each layer."""
        self.eta()
        plain = type(self._optimizer) is torch.optim.SGD and all(map(_plain, self._groups))
        return StepSizes(*self._etas, plain)

    def eta(self) -> float:
        """Length of the coming step, the larger of both layers'.

        Asked at every step of a training: written out, so that it is quick where nothing has changed.
        """
        if self._lasting:
            groups = self._optimizer.param_groups
            for place, options, rate in self._groups:
                if (
                    place >= len(groups)
                    or groups[place] is not options
                    or options["lr"] is not rate
                ):
                    break
            else:
                first, second = self._moved
                if first.requires_grad and second.requires_grad:
                    return self._eta
        self._find()
        return self._eta

    def _find(self) -> None:
        """Read everything from the groups as they are now."""
        found = [self._group_of(parameter) for parameter in self._trained]
        first, second = (_eta(group, self._scale) for group in found)
        self._etas, self._eta = (first, second), max(first, second)
        self._groups = list({group.place: group for group in found if group}.values())
        self._moved = [
            p for p, group in zip(self._trained, found, strict=True) if p is not None and group
        ]
        # a layer that is not trained may be later; a rate that is a tensor changes and stays the same object
        numbers = all(isinstance(group.rate, int | float) for group in self._groups)
        self._lasting = numbers and len(self._moved) == len(found)

    def _group_of(self, parameter: nn.Parameter | None) -> _Group | None:
        """The group that a parameter is trained in now; None where it is not."""
        if parameter is None or not parameter.requires_grad:
            return None
        for place, group in enumerate(self._optimizer.param_groups):
            if any(candidate is parameter for candidate in group["params"]):
                return _Group(place, group, group["lr"])
        return None


def _eta(group: _Group | None, scale: float | None) -> float:
    """How far a step moves a layer."""
    if group is None:
        return 0.0
    return float(group.rate) * (1.0 if scale is None else scale)


def _plain(group: _Group) -> bool:
    """Whether SGD moves a layer along its gradient and nothing else."""
    return not (group.options.get("momentum", 0) or group.options.get("weight_decay", 0))
