"""The mean-field law of a ReLU neuron on noisy clusters (theory.md 6 and 6b).

On cluster c a neuron's pre-activation is u_c + z with u_c = w . c and z about N(0, s^2), s = |perp|
(each coordinate of the noise has variance 1). Four numbers a neuron therefore say how it moves;
the forecast integrates this law and the growth readings compare the measured step with it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.model.geometry import Neurons


class Law(NamedTuple):
    """What one neuron sees and how it moves, per unit time (one step lasts eta).

    Attributes:
        firing: probability of being active on each cluster, (..., p, K).
        activity: mean of relu(w . x) on each cluster, (..., p, K).
        coordinates: drift in the signal span's basis, (..., p, k).
        perp: drift of |perp|, (..., p), sampling noise excluded.
        second_layer: drift of a, (..., p).
        noise: q = mean of firing * g^2 over clusters, (..., p): minibatches of size m give each
            coordinate of w kicks of variance eta^2 a^2 q / m a step.
    """

    firing: Tensor
    activity: Tensor
    coordinates: Tensor
    perp: Tensor
    second_layer: Tensor
    noise: Tensor


def law(neurons: Neurons, slopes: Tensor, shares: Tensor) -> Law:
    """The law of each neuron given the loss slopes (theory.md 6b).

    Args:
        neurons: the network; bias-free and ReLU, as in the paper.
        slopes: g_c = |dl/df| on each cluster, (..., K).
        shares: share of the samples that each cluster holds, (..., K); 1/4 each for XOR.
    """
    centres, width = neurons.preactivations, neurons.perp.unsqueeze(-1)
    ratio = centres / width.clamp_min(torch.finfo(width.dtype).tiny)
    firing = torch.special.ndtr(ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    activity = centres * firing + width * density
    geometry, a = neurons.geometry, neurons.second_layer
    pull = (shares * slopes * geometry.labels.to(slopes)).unsqueeze(-2)  # (..., 1, K)
    centre_coordinates = (geometry.centres @ geometry.basis).to(centres)
    return Law(
        firing=firing,
        activity=activity,
        coordinates=a.unsqueeze(-1) * ((pull * firing) @ centre_coordinates),
        perp=a * (pull * density).sum(dim=-1),
        second_layer=(pull * activity).sum(dim=-1),
        noise=(firing * (shares * slopes.square()).unsqueeze(-2)).sum(dim=-1),
    )


def activity_variance(neurons: Neurons, law: Law) -> Tensor:
    """Variance of relu(w . x) within each cluster, (..., p, K)."""
    centres, width = neurons.preactivations, neurons.perp.unsqueeze(-1)
    # E[relu^2] = u * E[relu] + s^2 * firing for u + N(0, s^2)
    second_moment = centres * law.activity + width.square() * law.firing
    return (second_moment - law.activity.square()).clamp_min(0)


def mean_margins(neurons: Neurons, activity: Tensor) -> Tensor:
    """Mean of y f over each cluster, (..., K), noise included (theory.md 6b's gamma_c)."""
    total = (activity * neurons.second_layer.unsqueeze(-1)).sum(dim=-2) * neurons.output_scale
    return total * neurons.geometry.labels.to(total)
