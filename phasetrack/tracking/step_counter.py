"""An optimizer's steps, counted, and how far they move the two layers, from its own groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.snapshot import StepSizes


class _Moved(NamedTuple):
    """What the length of a layer's step hangs on: its parameter, its group's place and options, and the rate."""

    parameter: nn.Parameter
    place: int
    options: Mapping[str, Any]
    rate: float


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
        watched: whether the coming step is. Where `wake` counts nothing, no step is counted.
    """

    __slots__ = (
        "_eta",
        "_etas",
        "_groups",
        "_lasting",
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
        self._groups: list[Mapping[str, Any]] = []
        # both layers, if their rates last while what those hang on is as it was
        self._lasting: tuple[_Moved, ...] = ()

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
        if self._lasting:
            groups = self._optimizer.param_groups
            for parameter, place, options, rate in self._lasting:
                if not (
                    len(groups) > place
                    and groups[place] is options
                    and options["lr"] is rate
                    and parameter.requires_grad
                ):
                    break
            else:
                return self._eta
        self._find()
        return self._eta

    def _find(self) -> None:
        """Read everything from the groups as they are now."""
        found = [self._moved(parameter) for parameter in self._trained]
        first, second = (_eta(layer, self._scale) for layer in found)
        self._etas, self._eta = (first, second), max(first, second)
        moved = [layer for layer in found if layer]
        self._groups = list({layer.place: layer.options for layer in moved}.values())
        # a layer that is not trained may be later; a rate that is a tensor changes and stays the same object
        numbers = all(isinstance(layer.rate, int | float) for layer in moved)
        self._lasting = tuple(moved) if numbers and len(moved) == len(found) else ()

    def _moved(self, parameter: nn.Parameter | None) -> _Moved | None:
        """How a layer is trained now; None where it is not."""
        if parameter is None or not parameter.requires_grad:
            return None
        for place, group in enumerate(self._optimizer.param_groups):
            if any(candidate is parameter for candidate in group["params"]):
                return _Moved(parameter, place, group, group["lr"])
        return None


def _eta(layer: _Moved | None, scale: float | None) -> float:
    """How far a step moves a layer."""
    if layer is None:
        return 0.0
    return float(layer.rate) * (1.0 if scale is None else scale)


def _plain(group: Mapping[str, Any]) -> bool:
    """Whether SGD moves a layer along its gradient and nothing else."""
    return not (group.get("momentum", 0) or group.get("weight_decay", 0))
