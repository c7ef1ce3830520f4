"""Where the samples of each cluster lie, against its centre and the signal span (theory.md 8)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack._precision import widened
from phasetrack.measures.margins import cluster_sizes
from phasetrack.model.geometry import Geometry

# Standard errors of a squared distance that are taken off it: noise alone then passes for a distance in
# one of forty clusters at most, however its coordinates hang together.
ERRORS_OFF = 2.0
# A variance under this share of the mean square is rounding of float32.
ROUNDING = 1e-6


def cluster_moments(inputs: Tensor, clusters: Tensor, geometry: Geometry) -> Tensor:
    """Return sums over the samples of each cluster, which add up over batches.

    Args:
        inputs: (..., m, d).
        clusters: index of each sample's cluster, int64 (..., m); -1 where it is in none.
        geometry: the clusters.

    Returns:
        (..., K, d + 3): their number, the sum of x, of |x|^2 and of the squared length of x in the signal
        span. In float64, or float32 on a device that has no float64.
    """
    x, count = widened(inputs), len(geometry.labels)
    inside, _ = geometry.project(x)
    ones = torch.ones_like(x[..., :1])
    squares = [part.square().sum(dim=-1, keepdim=True) for part in (x, inside)]
    columns = torch.cat([ones, x, *squares], dim=-1)
    places = clusters.where(clusters >= 0, count)
    members = torch.nn.functional.one_hot(places, count + 1)[..., :count].to(columns)
    return members.mT @ columns


class Placement(NamedTuple):
    """How samples lie about the centres of their clusters; NaN where no cluster has two samples.

    Attributes:
        offset: the largest distance of a cluster's mean from its centre that is certain, in half-distances
            between the nearest centres of two classes.
        inside: root mean square distance of the samples from their cluster's mean, within the signal
            span, in the same unit.
        outside: the same per coordinate outside the span, in the unit of the inputs; NaN where the span is
            everything.
    """

    offset: float
    inside: float
    outside: float


def placement(moments: Tensor, geometry: Geometry) -> Placement:
    """Compare the samples of each cluster with its centre.

    A mean of n samples lies off its centre by sampling alone. Its squared distance is therefore lowered by
    the noise of a mean, trace(covariance) / n, and by two standard errors of that, for noise in as
    little as one direction: a lower bound.

    Args:
        moments: sums of `cluster_moments`, (K, d + 3).
        geometry: the clusters.
    """
    table = moments.cpu().double()
    known = table[:, 0] >= 2
    table, centres = table[known], geometry.centres[known]
    if not len(table):
        return Placement(math.nan, math.nan, math.nan)
    count = table[:, :1]
    means = table[:, 1:-2] / count
    inside_means, _ = geometry.project(means)
    lengths = torch.cat(
        [part.square().sum(dim=-1, keepdim=True) for part in (means, inside_means)], dim=-1
    )
    # sample variances: total, and within the span
    spread = table[:, -2:] - count * lengths
    spread = torch.where(spread > ROUNDING * table[:, -2:], spread, 0.0)
    total, inside = (spread / (count - 1)).unbind(dim=1)
    apart = (means - centres).square().sum(dim=1)
    certain = apart - (1 + ERRORS_OFF * math.sqrt(2)) * total / count.squeeze(1)
    unit, free = half_distance(geometry), geometry.dim - geometry.signal_dim
    shares = count.squeeze(1) / count.sum()
    return Placement(
        float(certain.clamp_min(0).max().sqrt()) / unit,
        float((shares * inside).sum().sqrt()) / unit,
        float((shares * (total - inside).clamp_min(0)).sum().div(free).sqrt())
        if free
        else math.nan,
    )


def half_distance(geometry: Geometry) -> float:
    """Return half of the least distance between the centres of two classes."""
    distances = torch.cdist(geometry.centres, geometry.centres)
    differ = geometry.classes.unsqueeze(0) != geometry.classes.unsqueeze(1)
    return float(distances[differ].min()) / 2


def purity(classes: Tensor, clusters: Tensor, geometry: Geometry) -> tuple[int, Tensor]:
    """Count the samples whose class is that of their cluster, and the samples of each class.

    Args:
        classes: of the samples, int64 (m,).
        clusters: of the samples, int64 (m,); samples in none are left out.
        geometry: the clusters.
    """
    placed = clusters >= 0
    own = geometry.classes[clusters[placed]]
    told = int((own == classes[placed]).sum())
    return told, cluster_sizes(classes[placed], geometry.class_count)
