"""Recognise a loss that is not seen, by the gradient that arrives at the network's outputs.

A loop that writes ``F.cross_entropy(model(x), y)`` in place shows neither the loss nor its targets. The
gradient at the outputs shows both, where the targets are classes: they are those under which a loss
has that gradient. A loss counts as recognised only if its own gradient, at those targets, is the one
that arrived, up to one factor. A heuristic of ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.losses import LogisticLoss, Loss, setting_of, value_and_slope
from phasetrack.tracking.host_loss import IGNORED, SIGNS, UNIT, HostLoss

# How far the gradient of a recognised loss may be from the one that arrived, relative to it, and how
# much further that of the loss's first-order approximation has to be: small outputs tell no loss.
GRADIENT_TOLERANCE = 1e-4
ROUNDINGS = 4
TOLD_APART = 10.0
# How far a gradient may be from the loss's own, or its sum's, in size, relative to it.
FACTOR_TOLERANCE = 1e-2
# From here on a power of two is that of a gradient scaler. A heuristic of ours.
LEAST_SCALE = 2.0**10
CODINGS = (UNIT, SIGNS)
# The share of a label that is smoothed away, as it may be read off a gradient. A heuristic of ours.
SMOOTHINGS = (1e-3, 0.9)


class Recognised(NamedTuple):
    """A loss, the targets that it was given, (m,) or (m, n), and its value, ()."""

    loss: HostLoss
    targets: Tensor
    value: Tensor


def half_squared_distance(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance of outputs from targets, (m,) or (m, n), as a mean over samples."""
    return (outputs - targets).square().sum() / (2 * len(outputs))


SQUARES: tuple[Loss, ...] = (nn.functional.mse_loss, half_squared_distance)
# Losses of several labels per sample, each by itself.
OF_LABELS: tuple[Loss, ...] = (nn.functional.binary_cross_entropy_with_logits,)


def usual_losses(many: bool) -> list[HostLoss]:
    """Return the losses that are tried where the loop's own is not given."""
    functional = nn.functional
    of_logits, of_shares = (
        functional.binary_cross_entropy_with_logits,
        functional.binary_cross_entropy,
    )
    one: Sequence[Loss] = (of_logits, LogisticLoss(), of_shares)
    several: Sequence[Loss] = (functional.cross_entropy, functional.nll_loss, *OF_LABELS)
    return [HostLoss.of(loss) for loss in (*(several if many else one), *SQUARES)]


def recognised(
    outputs: Tensor,
    gradient: Tensor,
    losses: Sequence[HostLoss],
    *,
    known: int = 0,
    parts: int = 1,
) -> Recognised | None:
    """Return the first loss whose gradient is the one that arrived; None if none is.

    A loss of which the gradient is any multiple does not count: its value would not be the loop's.

    Args:
        outputs: of the network, (m,) or (m, n).
        gradient: of the loop's loss by them, as they are.
        losses: those that are tried.
        known: how many of them, from the first on, the loop is known to use or has used before.
        parts: the number of batches whose gradients are added up for one step.
    """
    f, g = (values.detach().cpu().double() for values in (outputs, gradient))
    if not (f.numel() and g.isfinite().all() and g.any()):
        return None
    tolerance = max(GRADIENT_TOLERANCE, ROUNDINGS * torch.finfo(outputs.dtype).eps)
    for place, loss in enumerate((*losses, *_smoothed(f, g, parts))):
        for targets in _guesses(f, g, loss, parts):
            miss = _fit(f, g, loss, targets)[1]
            if not miss <= tolerance:  # NaN does not fit
                continue
            if _fit(f, g, loss, _other_targets(targets, f))[1] < TOLD_APART * miss:
                continue  # as of outputs beside which targets are nothing
            if place >= known and not _is_told_apart(f, g, loss, targets):
                continue
            factor, value = _own_factor(f, g, loss, targets)
            size = _whole(factor, f, targets, parts)
            if size:
                return Recognised(loss.with_targets(targets), targets, size * value)
    return None


def _own_factor(f: Tensor, g: Tensor, loss: HostLoss, targets: Tensor) -> tuple[float, Tensor]:
    """Return the factor from a loss's own gradient to the one that arrived, and the loss's value."""
    with torch.enable_grad():
        at = f.clone().requires_grad_(True)
        value = loss(at, targets).mean()  # of a scalar, or of each sample
        (own,) = torch.autograd.grad(value, at)
    return float((g * own).sum() / own.square().sum()), value.detach()


def _whole(factor: float, f: Tensor, targets: Tensor, parts: int) -> float:
    """Return the factor from a loss's value to the loop's: 1 of a mean, the count of a sum; else 0.

    Of several numbers per sample, a loop may add up those of each sample and take the mean of these. It
    may divide the loss by the parts of a step, or have a gradient scaler multiply it.
    """
    one_by_one = targets.ndim == f.ndim
    counted = float(len(f)) if one_by_one else float((targets != IGNORED).sum())
    means = (1.0, float(f.shape[1])) if one_by_one and f.ndim > 1 else (1.0,)
    for mean in means:
        if _is_near(factor, mean):
            return mean
    for count in (counted, float(f.numel())):
        if _is_near(factor, count):
            return count * parts
    for mean in means:
        wholes = (factor / mean, factor / mean * parts)
        if any(_is_near(whole, 1) or _is_power_of_scale(whole) for whole in wholes):
            return mean
    return 0.0


def _is_power_of_scale(value: float) -> bool:
    if not (1 - FACTOR_TOLERANCE) * LEAST_SCALE <= value < math.inf:
        return False
    return _is_near(value, 2.0 ** round(math.log2(value)))


def _is_near(value: float, wanted: float) -> bool:
    return abs(value / wanted - 1) <= FACTOR_TOLERANCE


def _smoothed(f: Tensor, g: Tensor, parts: int) -> Iterator[HostLoss]:
    """Yield cross entropies with the label smoothing under which the gradient shows two shares alone."""
    for shares in _shares(f, g, parts):
        others = shares.scatter(-1, shares.argmax(dim=-1, keepdim=True), torch.nan)
        smoothing = round(f.shape[-1] * float(others.nanmedian()), 4)
        if SMOOTHINGS[0] <= smoothing <= SMOOTHINGS[1]:
            cross_entropy = nn.functional.cross_entropy
            yield HostLoss.of(partial(cross_entropy, label_smoothing=smoothing))


def _shares(f: Tensor, g: Tensor, parts: int) -> Iterator[Tensor]:
    """Yield the share of each class in the targets of a cross entropy: of a mean, of a sum."""
    if f.ndim == 2:
        for size in dict.fromkeys((len(f), len(f) * parts, 1)):
            yield f.softmax(dim=-1) - size * g


def _is_smoothed(loss: HostLoss) -> bool:
    said = setting_of(loss.function, "label_smoothing")
    return isinstance(said, float) and said > 0


def _guesses(f: Tensor, g: Tensor, loss: HostLoss, parts: int) -> Iterator[Tensor]:
    """Yield the targets that a loss may have been given, in each coding."""
    if f.ndim > 1 and _is_smoothed(loss):
        yield from (shares.argmax(dim=-1) for shares in _shares(f, g, parts))
        return
    if f.ndim > 1 and loss.function in OF_LABELS:
        yield from _binary(f, g, loss)
        return
    if f.ndim > 1 and loss.function in SQUARES:
        # f - y is a multiple of the gradient, and each row of y sums to 1
        aims = f - g * (f.sum() - len(f)) / g.sum()
        yield nn.functional.one_hot(aims.argmax(dim=-1), f.shape[-1]).double()
        return
    if f.ndim > 1:
        classes = g.argmin(dim=-1)
        silent = ~g.any(dim=-1)  # left out, or as good as fitted
        sure = f.amax(dim=-1) - f.logsumexp(dim=-1) > -1e-6
        classes = torch.where(silent, torch.where(sure, f.argmax(dim=-1), IGNORED), classes)
        yield classes
        if not silent.any():
            yield nn.functional.one_hot(classes, f.shape[-1]).double()
        return
    yield from _binary(f, g, loss)


def _binary(f: Tensor, g: Tensor, loss: HostLoss) -> Iterator[Tensor]:
    """Yield targets of two values for each output."""
    for low, high in CODINGS:
        lows, highs = torch.full_like(f, low), torch.full_like(f, high)
        try:
            slope_low = value_and_slope(loss, f, lows)[1]
            slope_high = value_and_slope(loss, f, highs)[1]
        except Exception:
            continue
        for size in dict.fromkeys((f.numel(), len(f), 1)):  # of a mean, of a sum
            nearer = (size * g - slope_high).abs() < (size * g - slope_low).abs()
            yield torch.where(nearer, highs, lows)
        yield torch.where(g < 0, highs, lows)


def _fit(f: Tensor, g: Tensor, loss: HostLoss, targets: Tensor) -> tuple[float, float]:
    """Return the factor from a loss's slopes at some outputs to the gradient, and what it leaves."""
    try:
        slopes = value_and_slope(loss, f, targets)[1]
    except Exception:
        return math.nan, math.inf
    factor = (g * slopes).sum() / slopes.square().sum()
    return float(factor), float((g - factor * slopes).norm() / g.norm())


def _other_targets(targets: Tensor, f: Tensor) -> Tensor:
    """Return targets of which every one is wrong."""
    if targets.ndim > 1:
        one_hot = bool((targets.sum(dim=-1) == 1).all())
        return targets.roll(1, dims=-1) if one_hot else 1 - targets
    if f.ndim > 1:
        return torch.where(targets < 0, targets, (targets + 1) % f.shape[-1])
    low, high = CODINGS[1] if (targets < 0).any() else CODINGS[0]
    return low + high - targets


def _is_told_apart(f: Tensor, g: Tensor, loss: HostLoss, targets: Tensor) -> bool:
    """Whether the gradient shows two classes, and more of the loss than its slope at output 0."""
    rows = targets if targets.ndim == 1 else targets.argmax(dim=-1)
    miss = _fit(f, g, loss, targets)[1]
    rough = _fit(torch.zeros_like(f), g, loss, targets)[1]
    told = bool((rows != rows[0]).any()) and rough >= TOLD_APART * miss
    if f.ndim > 1:
        return told
    # losses of one output may have one slope and one curvature at 0: only the squares tell them
    rounding = torch.finfo(torch.float32).eps
    return told and float(f.square().mean()) >= TOLD_APART * max(miss, rounding)
