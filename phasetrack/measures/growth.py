"""Growth rates of groups of neurons, measured and predicted (theory.md 6).

A rate is d(log r)/dt with r the root mean square of a part over a group of neurons, and t the time
unit of the paper: one step lasts eta. Per step the factor 1 + eta * rate shows up as
log(1 + eta * rate) / eta, and the prediction is reported in that same form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.measures.mean_field import Law, activity_variance, law
from phasetrack.model.geometry import Neurons

PARTS = ("signal", "opposing", "perp", "second_layer")


Time = Tensor | float


class Squares(NamedTuple):
    """Squared size of each part of each neuron, (..., p) each, in the order of `PARTS`."""

    signal: Tensor
    opposing: Tensor
    perp: Tensor
    second_layer: Tensor


def squares(neurons: Neurons, votes: Tensor | None = None) -> Squares:
    """Squared size of each part of each neuron.

    Args:
        neurons: the network.
        votes: classes that decide which part is signal, int64 (..., p); None takes their own.
    """
    sig, opp = neurons.sizes(neurons.votes if votes is None else votes)
    return Squares(
        sig.square(),
        opp.square(),
        neurons.perp.square(),
        neurons.second_layer.square(),
    )


def rate(before: Tensor, after: Tensor, group: Tensor, elapsed: Time) -> Tensor:
    """Growth rate of one part's root mean square over a group, per unit time: (...).

    Args:
        before: squared sizes before, (..., p).
        after: squared sizes after, (..., p).
        group: which neurons count, bool (..., p).
        elapsed: time between the two, steps times eta, (...).

    Returns:
        NaN for an empty group, or where the part is zero before or after.

    Example:
        >>> rate(torch.tensor([1.0]), torch.tensor([4.0]), torch.tensor([True]), elapsed=2.0)
        tensor(0.3466)
    """
    return rate_between((before * group).sum(dim=-1), (after * group).sum(dim=-1), elapsed)


def rate_between(start: Tensor, end: Tensor, elapsed: Time) -> Tensor:
    """`rate` from a group's sums of squares before and after, (...) each."""
    value = (end / start).log() / (2 * elapsed)
    return torch.where((start > 0) & (end > 0), value, torch.nan)


def group_sums(values: Tensor, members: Tensor) -> Tensor:
    """Sums over all neurons, over some, and over the others.

    Args:
        values: one a neuron, (..., n, p).
        members: which neurons are the some, bool (..., p).

    Returns:
        (..., n, 3), in this order.
    """
    chosen = members.to(values).unsqueeze(-2)
    parts = (values, values * chosen, values * (1 - chosen))
    return torch.stack([part.sum(dim=-1) for part in parts], dim=-1)


def predicted_squares(
    neurons: Neurons,
    slopes: Tensor,
    shares: Tensor,
    steps: tuple[Time, Time],
    batch: int,
    squares: Tensor | None = None,
) -> Squares:
    """Expected squared sizes one step later, by the mean-field law of bias-free ReLU networks.

    Args:
        neurons: the network now.
        slopes: mean of -label_c dl/df on each cluster now, (..., K), g_c where all labels are the clusters'.
        shares: share of the samples in each cluster, (..., K).
        steps: eta of the first and of the second layer, (...) each; 0 for one that is not trained.
        batch: samples per step, whose sampling noise adds to each squared size.
        squares: mean of (dl/df)^2 on each cluster, (..., K); None takes the squares of the slopes.
    """
    squares = slopes.square() if squares is None else squares
    motion = law(neurons, slopes, shares, squares)
    return _moved(neurons, motion, steps, _kicks(neurons, motion, shares * squares), batch)


def squares_after_batch(
    neurons: Neurons, motion: Law, squares: Tensor, steps: tuple[Time, Time], batch: int
) -> Squares:
    """`predicted_squares` by the law of the step's own batch, whose slopes and shares are no longer random.

    Args:
        neurons: the network now.
        motion: its law under the batch's slopes and shares.
        squares: mean of (dl/df)^2 on each cluster times the cluster's share, (..., K).
        steps: eta of the first and of the second layer, (...) each.
        batch: samples in it.
    """
    kicks = _kicks_within(neurons, motion, squares)
    return _moved(neurons, motion, steps, kicks, batch)


def _moved(
    neurons: Neurons, motion: Law, steps: tuple[Time, Time], kicks: Squares, batch: int
) -> Squares:
    """Squared sizes after one step; `kicks` are the variances that one sample adds per eta^2."""
    a = neurons.second_layer
    eta, second_eta = (
        torch.as_tensor(step, dtype=a.dtype, device=a.device).unsqueeze(-1) for step in steps
    )
    # the split into sig and opp goes by the sign of a now, as the measured rates do
    coordinates = neurons.coordinates + eta.unsqueeze(-1) * motion.coordinates
    moved = Neurons(neurons.geometry, coordinates, neurons.perp + eta * motion.perp, a)
    factor, second_factor = eta**2 / batch, second_eta**2 / batch
    return Squares(
        moved.sig.square() + factor * kicks.signal,
        moved.opp.square() + factor * kicks.opposing,
        moved.perp.square() + factor * kicks.perp,
        (a + second_eta * motion.second_layer).square() + second_factor * kicks.second_layer,
    )


def _kicks(neurons: Neurons, motion: Law, squares: Tensor) -> Squares:
    """Variance of what one sample adds to each part, (..., p) each: a^2 q per coordinate of w."""
    geometry = neurons.geometry
    kick, k = neurons.second_layer.square() * motion.noise, geometry.signal_dim
    own = torch.tensor([span.stop - span.start for span in geometry.spans], device=kick.device)
    sig_dim = own[neurons.votes]
    moment = activity_variance(neurons, motion) + motion.activity.square()
    second = (squares.unsqueeze(-2) * moment).sum(dim=-1) - motion.second_layer.square()
    return Squares(kick * sig_dim, kick * (k - sig_dim), _perp_kick(neurons, kick), second)


def _kicks_within(neurons: Neurons, motion: Law, squares: Tensor) -> Squares:
    """`_kicks` by the noise within clusters alone: which neurons fire, and where samples lie across the span."""
    geometry, a = neurons.geometry, neurons.second_layer
    points = (geometry.centres @ geometry.basis).to(a).square()
    lengths = torch.stack([points[:, span].sum(dim=-1) for span in geometry.spans])  # (classes, K)
    chances = squares.unsqueeze(-2) * motion.firing * (1 - motion.firing)
    whole, own = (
        a.square() * (chances * length).sum(dim=-1)
        for length in (points.sum(dim=-1), lengths[neurons.votes])
    )
    second = (squares.unsqueeze(-2) * activity_variance(neurons, motion)).sum(dim=-1)
    perp = _perp_kick(neurons, a.square() * motion.noise)
    return Squares(own, (whole - own).clamp_min(0), perp, second)


def _perp_kick(neurons: Neurons, kick: Tensor) -> Tensor:
    free = neurons.geometry.dim - neurons.geometry.signal_dim
    return kick * free * neurons.deviation**2


def layer_balance(neurons: Neurons, group: Tensor) -> Tensor:
    """|a| / |w|, root mean squares over a group of neurons: (...).

    Under gradient flow a^2 - |w|^2 of each neuron is conserved, so this tends to 1 as both grow.
    NaN for an empty group.
    """
    # the growth probe takes this ratio of its `group_sums`: three groups in one pass at every step
    return (
        (neurons.second_layer.square() * group).sum(dim=-1) / (neurons.mass * group).sum(dim=-1)
    ).sqrt()
