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
    neurons: Neurons, slopes: Tensor, shares: Tensor, steps: tuple[Time, Time], batch: int
) -> Squares:
    """Expected squared sizes one step later, by the mean-field law.

    Args:
        neurons: the network now, bias-free and ReLU.
        slopes: g_c = |dl/df| on each cluster now, (..., K).
        shares: share of the samples in each cluster, (..., K).
        steps: eta of the first and of the second layer, (...) each; 0 for one that is not trained.
        batch: samples a step, whose sampling noise adds to each squared size.
    """
    motion = law(neurons, slopes, shares)
    a, geometry = neurons.second_layer, neurons.geometry
    eta, second_eta = (
        torch.as_tensor(step, dtype=a.dtype, device=a.device).unsqueeze(-1) for step in steps
    )
    kick = eta**2 * a.square() * motion.noise / batch  # variance per coordinate of w
    moved = Neurons(
        geometry,
        neurons.coordinates + eta.unsqueeze(-1) * motion.coordinates,
        neurons.perp + eta * motion.perp,
        # the split into sig and opp goes by the sign of a now, as the measured rates do
        a,
    )
    k = geometry.signal_dim
    own = torch.tensor([span.stop - span.start for span in geometry.spans], device=a.device)
    sig_dim = own[neurons.votes]
    return Squares(
        moved.sig.square() + kick * sig_dim,
        moved.opp.square() + kick * (k - sig_dim),
        moved.perp.square() + kick * (geometry.dim - k),
        (a + second_eta * motion.second_layer).square()
        + second_eta**2 * _second_layer_noise(neurons, motion, slopes, shares) / batch,
    )


def _second_layer_noise(neurons: Neurons, motion: Law, slopes: Tensor, shares: Tensor) -> Tensor:
    """Variance of what one sample adds to the drift of a, (..., p)."""
    second_moment = activity_variance(neurons, motion) + motion.activity.square()
    weights = (shares * slopes.square()).unsqueeze(-2)
    return (weights * second_moment).sum(dim=-1) - motion.second_layer.square()


def layer_balance(neurons: Neurons, group: Tensor) -> Tensor:
    """|a| / |w|, root mean squares over a group of neurons: (...).

    Under gradient flow a^2 - |w|^2 of each neuron is conserved, so this tends to 1 as both grow.
    NaN for an empty group.
    """
    # the growth probe takes this ratio of its `group_sums`: three groups in one pass at every step
    return (
        (neurons.second_layer.square() * group).sum(dim=-1) / (neurons.mass * group).sum(dim=-1)
    ).sqrt()
