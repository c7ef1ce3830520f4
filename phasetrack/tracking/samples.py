"""Outputs and targets of a loss call as samples, whatever shape the loop gives them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from phasetrack._precision import is_away
from phasetrack.model.losses import Loss

# The losses that take the classes in the second dimension, as PyTorch documents them.
_CLASSES_SECOND = (nn.CrossEntropyLoss, nn.NLLLoss)
_CLASSES_SECOND_FUNCTIONS = (nn.functional.cross_entropy, nn.functional.nll_loss)


def as_samples(
    outputs: Tensor, targets: object, *, single: bool, loss: Loss | None
) -> tuple[Tensor, Tensor] | None:
    """Return outputs (m,) or (m, n) and targets (m,) or (m, n), detached; None if they do not fit.

    Args:
        outputs: (m,), (m, 1), (m, n), (B, T, n), or (B, n, T) where the loss has the classes second.
        targets: class indices, one for each row of outputs, or as many numbers as outputs.
        single: whether the layers have one output, so that outputs in several dimensions are samples.
        loss: the loss, whose convention decides where the shapes leave it open.
    """
    if not isinstance(targets, Tensor) or not targets.numel():
        return None
    f, aims = outputs.detach(), targets.detach()
    if f.ndim == 1 and f.shape == aims.shape:
        return f, aims
    if f.ndim > 2 and _has_classes_second(f, aims, loss):
        f = f.movedim(1, -1)
        aims = aims.movedim(1, -1) if aims.shape == outputs.shape else aims
    if aims.numel() == f.numel():
        return _elementwise(f, aims, single)
    columns = f.shape[-1] if f.ndim else 1
    if aims.numel() * columns != f.numel():
        return None
    return f.reshape(-1, columns), aims.reshape(-1)


def _elementwise(f: Tensor, aims: Tensor, single: bool) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of one number each."""
    if single or f.ndim < 2 or f.shape[-1] == 1:
        return (f if f.ndim == 1 else f.reshape(-1)), (aims if aims.ndim == 1 else aims.reshape(-1))
    return f.reshape(-1, f.shape[-1]), aims.reshape(-1, f.shape[-1])


def _has_classes_second(f: Tensor, aims: Tensor, loss: Loss | None) -> bool:
    second = f.shape[:1] + f.shape[2:]
    known = isinstance(loss, _CLASSES_SECOND) or loss in _CLASSES_SECOND_FUNCTIONS
    if aims.shape == f.shape:
        return known
    if aims.shape != second or aims.is_floating_point():
        return False
    return known or aims.shape != f.shape[:-1] or aims.dtype == torch.bool


def finite(outputs: Tensor, inputs: Tensor) -> Tensor | None:
    """Return whether no input is NaN or infinite, bool (); None where the outputs are finite."""
    # not on a GPU, where the host would wait; and the sum of finite outputs may overflow
    if not is_away(outputs) and math.isfinite(outputs.sum()):
        return None
    return _all_finite(outputs) | _all_finite(inputs)


def _all_finite(values: Tensor) -> Tensor:
    """Return whether all values are finite, bool (); in one pass."""
    if not (values.is_floating_point() and values.numel()):
        return torch.ones((), dtype=torch.bool, device=values.device)
    largest: Tensor = torch.linalg.vector_norm(values, math.inf)
    return largest < math.inf
