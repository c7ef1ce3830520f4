"""What is one optimizer step: rounds of hooks within hooks, closures, and steps that are left out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FrameType

import torch
from torch import Tensor

# Packages whose frames lie between the optimizer's wrapper and the caller of `begin` or `end`.
_BETWEEN = ("phasetrack.", "torch._dynamo.")


class StepRounds:
    """Tells the outermost round of step hooks from the rounds within it.

    PyTorch wraps `step` of every optimizer class, so that ``super().step()`` runs the hooks once more
    within the step. A round that an exception ended has no end: its frame is no longer on the stack.
    """

    def __init__(self) -> None:
        self._open: list[FrameType] = []

    def begin(self) -> bool:
        """Note that a round begins; return whether it is a step's own."""
        frame = _caller()
        self._drop_ended(frame)
        self._open.append(frame)
        return len(self._open) == 1

    def end(self) -> bool:
        """Note that a round ends; return whether it is a step's own."""
        self._drop_ended(_caller())
        if self._open:
            self._open.pop()
        return not self._open

    def _drop_ended(self, frame: FrameType) -> None:
        while self._open and not _is_within(frame, self._open[-1]):
            self._open.pop()


def _caller() -> FrameType:
    """Return the frame that calls the optimizer's hooks."""
    frame: FrameType = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
    return frame


def _is_within(frame: FrameType | None, outer: FrameType) -> bool:
    while frame is not None:
        if frame is outer:
            return True
        frame = frame.f_back
    return False


def has_closure(values: Iterable[object]) -> bool:
    """Whether a function is among the arguments of a step, or within a collection among them."""
    return any(
        callable(value)
        or (isinstance(value, Mapping) and has_closure(value.values()))
        or (isinstance(value, list | tuple) and has_closure(value))
        for value in values
    )


def is_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a gradient scaler has told a fused optimizer to leave the weights as they are."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())
