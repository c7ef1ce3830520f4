"""How far the loss is from its first-order approximation at output 0 (theory.md 5).

``l_lin(f, y) = l(0, y) + dl/df(0, y) f``. Every error is 0 at exactly f = 0: 0/0 counts as 0 here,
since no output means no deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.batch_invariance import filled, undivided
from phasetrack.model.losses import Loss, value_and_slope


def value_error(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """Mean |l - l_lin| / mean |l - l(0)| over the batch, a scalar.

    Args:
        outputs: network outputs f, (m,), or logits (m, K).
        targets: targets as the loss takes them.
        loss: any loss of (outputs, targets), whatever its reduction (see `losses.pointwise`).

    Example:
        >>> from phasetrack.model.losses import LogisticLoss
        >>> value_error(torch.zeros(2), torch.ones(2), LogisticLoss())
        tensor(0.)
    """
    return errors_of(first_order(outputs, targets, loss))[0]


def slope_drift(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """Mean |dl/df(f) - dl/df(0)| / mean |dl/df(0)|, a scalar; arguments as in `value_error`.

    For the logistic loss this is mean tanh(|f| / 2).
    """
    return errors_of(first_order(outputs, targets, loss))[1]


class FirstOrder(NamedTuple):
    """A batch's losses (..., m) and loss slopes (as the outputs), at the outputs and at output 0."""

    outputs: Tensor
    values: Tensor
    slopes: Tensor
    start_values: Tensor
    start_slopes: Tensor


def first_order(outputs: Tensor, targets: Tensor, loss: Loss, rank: int = 1) -> FirstOrder:
    """Evaluate the loss of each sample and its slope, at the outputs and at 0.

    Args:
        outputs: network outputs (..., m), or logits (..., m, n).
        targets: targets as the loss takes them, (..., m) or (..., m, n).
        loss: of outputs (m,) or (m, n) and their targets.
        rank: dimensions of the samples: 1 for (m,), 2 for a block of steps (K, m).

    Raises:
        ExpectedError: if a step's samples are too many for a loss that is called one by one.
    """
    try:
        return _together(outputs, targets, loss, rank)
    except ExpectedError:  # what a step's samples allow does not depend on how many steps there are
        if rank == 1:
            raise
    steps = zip(outputs, targets, strict=True)
    rows = [first_order(one, aims, loss, rank - 1) for one, aims in steps]
    return FirstOrder(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def _together(outputs: Tensor, targets: Tensor, loss: Loss, rank: int) -> FirstOrder:
    count = outputs.shape[rank - 1]
    at, aim = (filled(values, rank - 1) for values in (outputs, targets))
    if at.ndim > aim.ndim and not aim.is_floating_point():
        evaluated = _of_classes(loss, at, aim, rank)
    else:
        evaluated = _rowwise(partial(_beside_start, loss, rank=rank), rank, at, aim)
    return FirstOrder(outputs, *(values.narrow(rank - 1, 0, count) for values in evaluated))


def _rowwise(
    evaluate: Callable[..., tuple[Tensor, ...]], rank: int, *tables: Tensor
) -> tuple[Tensor, ...]:
    return undivided(evaluate, *tables) if rank > 1 else evaluate(*tables)


def _of_classes(loss: Loss, at: Tensor, aim: Tensor, rank: int) -> tuple[Tensor, ...]:
    """`_beside_start` where a class index stands for many samples, which share one loss at output 0."""
    classes, places = torch.unique(aim, return_inverse=True)
    zeros = torch.zeros((len(classes), at.shape[-1]), dtype=at.dtype, device=at.device)
    starts = value_and_slope(loss, zeros, classes)
    values, slopes = _rowwise(partial(_evaluated, loss, rank=rank), rank, at, aim)
    start_values, start_slopes = (start.index_select(0, places.flatten()) for start in starts)
    return values, slopes, start_values.view_as(values), start_slopes.view_as(slopes)


def _beside_start(loss: Loss, at: Tensor, aim: Tensor, rank: int) -> tuple[Tensor, ...]:
    """Losses and slopes at some outputs, then those at 0; all in the outputs' rows."""
    # both in one go: on small batches most of a loss call is Python's own
    both = torch.cat([at, torch.zeros_like(at)], dim=rank - 1), torch.cat([aim, aim], dim=rank - 1)
    tables = (table.chunk(2, dim=rank - 1) for table in _evaluated(loss, *both, rank=rank))
    (values, start_values), (slopes, start_slopes) = tables
    return values, slopes, start_values, start_slopes


def _evaluated(loss: Loss, at: Tensor, aim: Tensor, rank: int) -> tuple[Tensor, ...]:
    """Losses and slopes at some outputs, in their rows."""
    rows = at.shape[:rank]
    found = value_and_slope(loss, at.flatten(0, rank - 1), aim.flatten(0, rank - 1))
    return tuple(table.view(*rows, *table.shape[1:]) for table in found)


def errors_of(batch: FirstOrder, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`value_error` and `slope_drift` of an evaluated batch, (...) each.

    Args:
        batch: the evaluated losses.
        weights: how much each sample counts, (..., m) of mean 1; None where all count alike.
    """
    change = batch.values - batch.start_values
    linear = batch.start_slopes * batch.outputs
    if linear.ndim > change.ndim:
        linear = linear.sum(dim=-1)
    gap = (change - linear).abs()
    # what rounding of the values alone can make counts as no deviation
    floor = 4 * torch.finfo(gap.dtype).eps * batch.start_values.abs()
    gap = torch.where(gap <= floor, 0.0, gap)
    many = batch.slopes.ndim > batch.values.ndim
    drift = _size(batch.slopes - batch.start_slopes, many, weights)
    errors = torch.stack([_mean(gap, weights), drift])
    start = _size(batch.start_slopes, many, weights)
    sizes = torch.stack([_mean(change.abs(), weights), start])
    value_error, slope_drift = _relative(errors, sizes)
    return value_error, slope_drift


def loss_change(batch: FirstOrder, weights: Tensor | None = None) -> Tensor:
    """Mean |l - l(0)|, to which the value error is relative, (...); arguments as in `errors_of`."""
    return _mean((batch.values - batch.start_values).abs(), weights)


def gradient_error(
    gradients: tuple[Tensor, ...], first_order: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """|grad L - grad L_0| / |grad L_0| for each layer (Frobenius norms), scalars.

    Args:
        gradients: gradient of the mean loss, one tensor a layer.
        first_order: gradient of the mean of l_lin, in the same order and shapes.
    """
    return tuple(
        _relative((g - g0).norm(), g0.norm()) for g, g0 in zip(gradients, first_order, strict=True)
    )


def _size(slopes: Tensor, many: bool, weights: Tensor | None) -> Tensor:
    """Mean length of the samples' slopes, (..., m), or (..., m, n) where there are many: (...)."""
    return _mean(torch.linalg.vector_norm(slopes, dim=-1) if many else slopes.abs(), weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the samples, (..., m) to (...)."""
    return (values if weights is None else values * weights).mean(dim=-1)


def _relative(error: Tensor, size: Tensor) -> Tensor:
    return torch.where((error == 0) & (size == 0), torch.zeros_like(error), error / size)
