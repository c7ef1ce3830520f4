"""Which samples are on the right side, as the loss means its targets."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.measures.margins import ahead
from phasetrack.tracking.host_loss import SIGNS, UNIT, HostLoss

# The reasons of samples that are on no side.
NO_CLASSES = "the targets are not those of classes: they take more than two values per output"
ONE_CLASS = (
    "the targets of one class alone were seen so far, and the loss's decision depends on both"
)
NO_LEVEL = "the loss does not decide between its two targets at 0 or at their middle"
OUT_OF_RANGE = "a class index names no class of the outputs"
# How far the targets of a sample may be from probabilities, which sum to 1.
ROUNDING = 1e-4


class Decisions(NamedTuple):
    """How far each sample is on the right side.

    Attributes:
        margins: y (f - level) for one output; for classes by how much the target's is ahead of the
            next; for several labels per sample the least of theirs. (..., m), NaN where undefined.
        wrong: share of a sample's labels on the wrong side (a margin of 0 counts as wrong), (..., m).
        counted: whether the loss takes a sample in, bool (..., m).
        undefined: why margins are NaN: masks (...) of the states, each with its reason.
    """

    margins: Tensor
    wrong: Tensor
    counted: Tensor
    undefined: tuple[tuple[Tensor, str], ...] = ()


def decide(outputs: Tensor, targets: Tensor, loss: HostLoss, *, many: bool) -> Decisions:
    """Decide each sample.

    Args:
        outputs: as the loss takes them, float64 (..., m), or (..., m, n) if `many`.
        targets: as the loss takes them: float64, bool or class indices, (..., m) or (..., m, n).
        loss: the loss, which says what the targets mean.
        many: whether there are several outputs per sample.
    """
    if not outputs.shape[-1 - many]:
        return _undefined(outputs.sum(dim=-1) if many else outputs, NO_CLASSES)
    if not many:
        return _of_one_output(outputs, targets, loss)
    if targets.ndim < outputs.ndim:
        return _of_classes(outputs, targets.long(), loss.ignored)
    return _of_many_outputs(outputs, targets.double(), loss)


def _of_one_output(outputs: Tensor, targets: Tensor, loss: HostLoss) -> Decisions:
    aims = targets.double()
    pair = _pair(loss, aims)
    if pair is not None:
        low, high = pair
        binary = ((aims == low) | (aims == high)).all(dim=-1)
        level = loss.level_of(low, high)
        reason = NO_LEVEL
    else:
        binary, level, reason = (
            torch.ones(aims.shape[:-1], dtype=torch.bool, device="cpu"),
            None,
            ONE_CLASS,
        )
        low, high = SIGNS
    middle = (low + high) / 2
    if not binary.all():  # soft labels, where 0 and 1 are decided at 0
        unit = ((aims >= 0) & (aims <= 1)).all(dim=-1) & ~binary
        soft = unit if unit.any() and loss.level_of(*UNIT) == 0 else torch.zeros_like(unit)
        apart = soft.unsqueeze(-1)
        positive = torch.where(apart, aims > 0.5, aims > middle)
        levels = torch.where(apart, 0.0, math.nan if level is None else level)
        defined = soft | (binary if level is not None else torch.zeros_like(binary))
        undefined = ((~(soft | binary), NO_CLASSES), (binary & ~defined, reason))
        signed = torch.where(positive, outputs - levels, levels - outputs)
        margins = torch.where(defined.unsqueeze(-1), signed, math.nan)
        return _decided(margins, undefined)
    if level is None:
        return _undefined(outputs, reason)
    shifted = outputs if level == 0 else outputs - level
    return _decided(torch.where(aims > middle, shifted, -shifted))


def _pair(loss: HostLoss, aims: Tensor) -> tuple[float, float] | None:
    """Return the targets of the two classes; None where one class alone leaves them open."""
    low, high = loss.levels or tuple(float(value) for value in torch.aminmax(aims))
    if low < high:
        return low, high
    if low == 1.0:
        return UNIT if loss.level_of(*UNIT) == 0 else None
    return SIGNS if low == -1.0 else UNIT if low == 0.0 else None


def _of_classes(outputs: Tensor, classes: Tensor, ignored: int) -> Decisions:
    counted = classes != ignored
    inside = ((classes >= 0) & (classes < outputs.shape[-1])) | ~counted
    safe = classes.where(counted & inside, 0)
    margins = ahead(outputs, safe).where(counted, math.nan)
    fine = inside.all(dim=-1)
    if fine.all():
        return _decided(margins, counted=counted)
    return _decided(
        margins.where(fine.unsqueeze(-1), math.nan), ((~fine, OUT_OF_RANGE),), counted=counted
    )


def _of_many_outputs(outputs: Tensor, aims: Tensor, loss: HostLoss) -> Decisions:
    """Decide samples whose targets are as many as their outputs: classes, or several labels."""
    largest, least = aims.amax(dim=-1, keepdim=True), aims.amin(dim=-1, keepdim=True)
    alone = (aims == largest).sum(dim=-1) == 1
    one_of_all = alone & ((aims == largest) | (aims == least)).all(dim=-1)
    shares = (aims >= 0).all(dim=-1) & ((aims.sum(dim=-1) - 1).abs() <= ROUNDING)
    classes = (one_of_all | shares).all(dim=-1)
    pair = tuple(float(value) for value in torch.aminmax(aims))
    is_pair = pair in (SIGNS, UNIT)
    labels = ((aims == pair[0]) | (aims == pair[1])).flatten(-2).all(dim=-1) & is_pair & ~classes
    level = loss.level_of(*pair) if labels.any() else None
    labels &= level is not None
    signed = torch.where(aims > sum(pair) / 2, outputs - (level or 0), (level or 0) - outputs)
    margins = torch.where(
        classes.unsqueeze(-1), ahead(outputs, aims.argmax(dim=-1)), signed.amin(dim=-1)
    )
    wrong = torch.where(
        classes.unsqueeze(-1), (margins <= 0).double(), (signed <= 0).double().mean(dim=-1)
    )
    fine = (classes | labels).unsqueeze(-1)
    return Decisions(
        margins.where(fine, math.nan),
        wrong.where(fine, math.nan),
        torch.ones_like(margins, dtype=torch.bool),
        ((~fine.squeeze(-1), NO_CLASSES),),
    )


def _decided(
    margins: Tensor,
    undefined: tuple[tuple[Tensor, str], ...] = (),
    counted: Tensor | None = None,
) -> Decisions:
    if counted is None:
        counted = torch.ones_like(margins, dtype=torch.bool)
    wrong = (margins <= 0).double()
    # NaN outputs are wrong; a margin that is not defined is neither
    for mask, _ in undefined:
        wrong = wrong.where(~mask.unsqueeze(-1), math.nan)
    return Decisions(margins, wrong, counted, undefined)


def _undefined(like: Tensor, reason: str) -> Decisions:
    nothing = torch.full_like(like, math.nan)
    every = torch.ones(like.shape[:-1], dtype=torch.bool, device="cpu")
    return Decisions(nothing, nothing, torch.ones_like(like, dtype=torch.bool), ((every, reason),))
