"""StepCounter: an optimizer's steps, and how far each moves the two layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.step_copies import StepSizes


class StepCounter:
    """Counts an optimizer's steps, and reads their lengths off its parameter groups.

    Args:
        optimizer: the optimizer; its groups may change their rates, be replaced or grow at any time.
        view: the two layers.

    Attributes:
        step: optimizer steps counted so far.
        time: sum of eta over those steps.
        scale: factor on the sum over neurons; None while it is not known, which counts as 1.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, view: TwoLayerView) -> None:
        self._optimizer = optimizer
        self._first, self._second = (
            next(iter(weight.parameters), None) for weight in (view.first, view.second)
        )
        self.step, self.time, self.scale = 0, 0.0, view.scale

    def count(self) -> None:
        """Count a step that was taken."""
        self.step += 1  # first: a step whose length cannot be read counts as well
        first, second = self._eta(self._group(self._first)), self._eta(self._group(self._second))
        self.time += max(first, second) if first == first else first  # NaN stays

    def sizes(self) -> StepSizes:
        """Return the length of the coming step for each layer."""
        first, second = self._group(self._first), self._group(self._second)
        plain = type(self._optimizer) is torch.optim.SGD and _is_plain(first) and _is_plain(second)
        return StepSizes(self._eta(first), self._eta(second), plain)

    def signs(self) -> tuple[float, float]:
        """Return for each layer -1 where the optimizer maximizes, and moves it along its gradient; else 1."""
        groups = (self._group(self._first), self._group(self._second))
        first, second = (-1.0 if group and group.get("maximize") else 1.0 for group in groups)
        return first, second

    def _eta(self, group: Mapping[str, Any] | None) -> float:
        """How far a step moves a layer that a group trains; NaN where the group has no rate."""
        if group is None:
            return 0.0
        try:
            rate = float(group["lr"])
        except (KeyError, TypeError, ValueError):
            return math.nan
        return rate * (1.0 if self.scale is None else self.scale)

    def _group(self, parameter: nn.Parameter | None) -> Mapping[str, Any] | None:
        """Return the group that trains a layer now; None if none does."""
        if parameter is None or not parameter.requires_grad:
            return None
        for group in self._optimizer.param_groups:
            for candidate in group["params"]:
                if candidate is parameter:
                    return group
        return None


def _is_plain(group: Mapping[str, Any] | None) -> bool:
    """Whether SGD moves a layer along its gradient and nothing else."""
    return group is None or not (group.get("momentum", 0) or group.get("weight_decay", 0))
