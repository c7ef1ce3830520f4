"""The mean-field law of one neuron on noisy clusters (theory.md 6 and 6b).

On cluster c a neuron's pre-activation is u_c + z with u_c = w . c (+ bias) and z about N(0, s^2),
s = |perp| times the standard deviation of the noise per coordinate, which is 1 unless it was measured. A few numbers per neuron therefore decide how
it moves; the forecast integrates this law and the growth readings compare the measured step with it.
Means over z are closed forms for ReLU, and Gauss-Hermite sums for every other activation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasetrack.model.geometry import Neurons
from phasetrack.model.neurons import Activation

# Nodes of the Gauss-Hermite sums: exact to rounding for GELU and tanh at the widths of a run, to about one
# percent for an activation with a kink.
NODES = 32


class Expectations(NamedTuple):
    """Means over the noise at each point of the span, (..., p, K) each.

    Attributes:
        firing: E act'(u + z), the probability of being active for ReLU.
        activity: E act(u + z).
        tilt: E act'(u + z) z / s.
        firing_square: E act'(u + z)^2.
        activity_square: E act(u + z)^2.
    """

    firing: Tensor
    activity: Tensor
    tilt: Tensor
    firing_square: Tensor
    activity_square: Tensor

    @property
    def activity_variance(self) -> Tensor:
        """Variance of act(u + z), (..., p, K)."""
        return torch.addcmul(self.activity_square, self.activity, self.activity, value=-1).clamp_(
            min=0
        )


class Law(NamedTuple):
    """A neuron's view of the data and its motion, per unit time (one step lasts eta).

    Attributes:
        firing: probability of being active on each cluster, (..., p, K).
        activity: mean of relu(w . x) on each cluster, (..., p, K).
        coordinates: drift in the signal span's basis, (..., p, k).
        perp: drift of |perp|, (..., p), sampling noise excluded.
        second_layer: drift of a, (..., p).
        noise: q = mean of firing * g^2 over clusters, (..., p): minibatches of size m give each
            coordinate of w kicks of variance eta^2 a^2 q / m a step.
        bias: drift of the first-layer bias, (..., p).
    """

    firing: Tensor
    activity: Tensor
    coordinates: Tensor
    perp: Tensor
    second_layer: Tensor
    noise: Tensor
    bias: Tensor


def expectations(centres: Tensor, perp: Tensor, activation: Activation) -> Expectations:
    """Means over the noise.

    Args:
        centres: pre-activations without noise, u, (..., p, K).
        perp: s, (..., p).
        activation: elementwise; differentiable by autograd unless it is `torch.relu`.
    """
    width = perp.unsqueeze(-1)
    if activation is torch.relu:
        ratio = centres / width.clamp_min(torch.finfo(width.dtype).tiny)
        firing = torch.special.ndtr(ratio)
        # large forecasts wait for memory: no more tables than needed
        tilt = ratio.square().mul_(-0.5).exp_().div_(math.sqrt(2 * math.pi))
        activity = torch.addcmul(centres * firing, width, tilt)
        # E[relu^2] = u * E[relu] + s^2 * firing
        square = torch.addcmul(centres * activity, width.square(), firing)
        return Expectations(firing, activity, tilt, firing, square)
    z, weights = (torch.from_numpy(part).to(centres) for part in _hermite(NODES))
    at = (centres.unsqueeze(-1) + width.unsqueeze(-1) * z).requires_grad_(True)
    with torch.enable_grad():
        values = activation(at)
        (slopes,) = torch.autograd.grad(values.sum(), at)
    values = values.detach()
    return Expectations(
        slopes @ weights,
        values @ weights,
        slopes @ (weights * z),
        slopes.square() @ weights,
        values.square() @ weights,
    )


def _hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a mean over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def motion(
    neurons: Neurons, seen: Expectations, points: Tensor, pull: Tensor, squares: Tensor
) -> Law:
    """The drift of each neuron under given pulls (theory.md 6b).

    Args:
        neurons: the network.
        seen: its expectations at the points.
        points: of the signal span, in its basis, (K, k).
        pull: minus the mean of dl/df at each point times the point's share of the samples, (..., K); the
            mean is signed, so that labels of both signs at one point may cancel.
        squares: mean of (dl/df)^2 at each point times its share, (..., K).
    """
    a, pull = neurons.second_layer, pull.unsqueeze(-1)
    fired = seen.firing @ torch.cat([pull * points, pull], dim=-1)
    return Law(
        firing=seen.firing,
        activity=seen.activity,
        coordinates=a.unsqueeze(-1) * fired[..., :-1],
        perp=a * (seen.tilt @ pull).squeeze(-1) * neurons.deviation,
        second_layer=(seen.activity @ pull).squeeze(-1),
        noise=(seen.firing_square @ squares.unsqueeze(-1)).squeeze(-1),
        bias=a * fired[..., -1],
    )


def law(neurons: Neurons, slopes: Tensor, shares: Tensor, squares: Tensor | None = None) -> Law:
    """The law of each neuron given the loss slopes (theory.md 6b).

    Args:
        neurons: the network, with its activation and biases.
        slopes: mean of -label_c dl/df on each cluster, (..., K), positive where its samples have its
            label.
        shares: share of the samples that each cluster holds, (..., K); 1/4 each for XOR.
        squares: mean of (dl/df)^2 on each cluster, (..., K); None takes the squares of the slopes.
    """
    geometry = neurons.geometry
    seen = expectations(neurons.preactivations, neurons.spread, neurons.activation)
    points = (geometry.centres @ geometry.basis).to(neurons.coordinates)
    pull = shares * slopes * geometry.labels.to(slopes)
    squares = slopes.square() if squares is None else squares
    return motion(neurons, seen, points, pull, shares * squares)


def activity_variance(neurons: Neurons, law: Law) -> Tensor:
    """Variance of relu(w . x) within each cluster, (..., p, K)."""
    centres, width = neurons.preactivations, neurons.spread.unsqueeze(-1)
    # E[relu^2] = u * E[relu] + s^2 * firing for u + N(0, s^2)
    second_moment = centres * law.activity + width.square() * law.firing
    return (second_moment - law.activity.square()).clamp_min(0)


def mean_margins(neurons: Neurons, activity: Tensor) -> Tensor:
    """Mean of y f over each cluster, (..., K), noise included (theory.md 6b's gamma_c)."""
    total = (activity * neurons.second_layer.unsqueeze(-1)).sum(dim=-2) * neurons.output_scale
    return total * neurons.geometry.labels.to(total)
