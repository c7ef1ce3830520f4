"""An optimizer's steps, counted, and how far they move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


# What a step's length hangs on, if it lasts while that is as it was: both layers, each with its group.
_Known = tuple[
    nn.Parameter, int, Mapping[str, Any], float, nn.Parameter, int, Mapping[str, Any], float
]


class Pacing:
    """Counts an optimizer's steps, and knows its rates for two layers as they are when asked.

    Where few steps are captured, counting the others is what most of them cost. What that reads is seldom
    in a cache by then: it is little, and stands together.

    Args:
        optimizer: whose groups may change their rates, be replaced or grow at any time.
        view: the two layers.
        wake: called after a step that is `watched`, which it has to count itself (`add`); and, once
            `due` steps are counted, after each.

    Attributes:
        step: optimizer steps counted so far.
        time: sum of eta over those steps.
        due: see `wake`.
        watched: whether the coming step is.
    """

    __slots__ = (
        "_eta",
        "_etas",
        "_groups",
        "_known",
        "_optimizer",
        "_scale",
        "_trained",
        "due",
        "step",
        "time",
        "wake",
        "watched",
    )

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        view: TwoLayerView,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        self._optimizer, self.wake = optimizer, wake
        self.step, self.time, self.due, self.watched = 0, 0.0, 1, False
        weights = (view.first, view.second)
        self._trained = [next(iter(weight.parameters), None) for weight in weights]
        self.settle(view.scale)

    def settle(self, scale: float | None) -> None:
        """Go on with the view's `scale`, once that is known."""
        self._scale = scale
        self._etas, self._eta = (0.0, 0.0), 0.0
        self._groups: list[_Group] = []
        self._known: _Known | None = None

    def count(self, *_: object) -> None:
        """A step was taken; a hook of the optimizer, called after every one."""
        if self.watched:
            self.wake()
            return
        self.time += self.eta()
        self.step += 1
        if self.step >= self.due:
            self.wake()

    def add(self, eta: float) -> None:
        """Count a step whose length is known."""
        self.time += eta
        self.step += 1

    def sizes(self) -> StepSizes:
        """Length of the coming step for each layer."""
        self.eta()
        plain = type(self._optimizer) is torch.optim.SGD and all(map(_plain, self._groups))
        return StepSizes(*self._etas, plain)

    def eta(self) -> float:
        """Length of the coming step, the larger of both layers'; quick where nothing has changed."""
        if self._known is not None:
            one, place, options, rate, other, other_place, other_options, other_rate = self._known
            groups = self._optimizer.param_groups
            if (
                len(groups) > place
                and groups[place] is options
                and options["lr"] is rate
                and one.requires_grad
                and len(groups) > other_place
                and groups[other_place] is other_options
                and other_options["lr"] is other_rate
                and other.requires_grad
            ):
                return self._eta
        self._find()
        return self._eta

    def _find(self) -> None:
        """Read everything from the groups as they are now."""
        found = [self._group_of(parameter) for parameter in self._trained]
        self._etas = _eta(found[0], self._scale), _eta(found[1], self._scale)
        self._eta = max(self._etas)
        self._groups = list({group.place: group for group in found if group}.values())
        # a layer that is not trained may be later; a rate that is a tensor changes and stays the same object
        numbers = all(isinstance(group.rate, int | float) for group in self._groups)
        (one, other), (first, second) = self._trained, found
        self._known = None
        if numbers and one is not None and first and other is not None and second:
            self._known = (one, *first, other, *second)

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
