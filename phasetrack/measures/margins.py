"""Cluster margins (theory.md 4): how far each cluster is on the right side."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.measures.sorting import order
from phasetrack.model.geometry import ClusterGeometry, Neurons

# Which quantile of y f is reported beside its mean. Chosen here: the worst twentieth of a cluster.
LOW_QUANTILE = 0.05


def clean_margins(
    W: Tensor, a: Tensor, geometry: ClusterGeometry, scale: float | None = None
) -> Tensor:
    """Margin of each cluster at its centre: gamma_c = s_c f(c), f = scale sum_j a_j relu(w_j . c).

    Args:
        W: first-layer weights (..., p, d).
        a: second-layer weights (..., p), or (..., n, p) for n > 2 classes.
        geometry: the clusters.
        scale: factor on the sum over neurons; None means the paper's 1/p.

    Returns:
        (..., K), in the order of `geometry.names`.

    Example:
        >>> xor = ClusterGeometry([[1, -1], [-1, 1], [1, 1], [-1, -1]], [1, 1, -1, -1])
        >>> W, a = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([1.0, -1.0])
        >>> [abs(round(float(margin), 6)) for margin in clean_margins(W, a, xor)]
        [1.0, 0.0, 1.0, 0.0]
    """
    margins = clean_margins_of(Neurons.of(W, a, geometry))
    return margins if scale is None else margins * (scale * W.shape[-2])


def clean_margins_of(neurons: Neurons) -> Tensor:
    """`clean_margins` of a table of neurons, biases included: (..., K).

    With more than two classes: by how much the cluster's own class is ahead of the next.
    """
    bias = neurons.output_bias
    if neurons.head is not None:
        logits = neurons.logits * neurons.output_scale
        classes = neurons.geometry.classes.to(logits.device).expand(logits.shape[:-1])
        return ahead(logits if bias is None else logits + bias.unsqueeze(-2), classes)
    margins = neurons.contributions.sum(dim=-2) * neurons.output_scale
    if bias is None:
        return margins
    return margins + neurons.geometry.labels.to(margins) * bias.unsqueeze(-1)


def ahead(logits: Tensor, classes: Tensor) -> Tensor:
    """By how much each row's own class (..., K) is ahead of the next, (..., K, n) to (..., K)."""
    own = classes.unsqueeze(-1)
    others = logits.scatter(-1, own, -torch.inf)
    return logits.gather(-1, own).squeeze(-1) - others.amax(dim=-1)


def empirical_margins(margins: Tensor, clusters: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean and low quantile (`LOW_QUANTILE`) of the margins of the samples in each cluster.

    Args:
        margins: margin of each sample, such as y f, (..., m).
        clusters: index of each sample's cluster, int64 (..., m); -1 where it is in none.
        count: number of clusters K.

    Returns:
        Two tensors (..., K); NaN for a cluster without samples.
    """
    if not margins.shape[-1]:
        nothing = margins.new_full((*margins.shape[:-1], count), torch.nan)
        return nothing, nothing
    # by cluster, and by margin within each; NaN comes last in its cluster, samples in none last of all
    ranked = order(margins)
    placed = _places(clusters, count)
    ranked = ranked.gather(-1, order(placed.gather(-1, ranked), stable=True))
    sizes = cluster_sizes(clusters, count).to(margins)
    ranks = (LOW_QUANTILE * sizes).round().long().clamp_min(1)
    starts = (sizes.cumsum(dim=-1) - sizes).long()
    places = (starts + ranks - 1).clamp_max(margins.shape[-1] - 1)
    lows = margins.gather(-1, ranked.gather(-1, places))
    means = _cluster_sums(margins, clusters, count) / sizes
    return means, torch.where(sizes > 0, lows, torch.nan)


def cluster_means(values: Tensor, clusters: Tensor, count: int) -> Tensor:
    """Mean over the samples in each cluster, (..., K); NaN for a cluster without samples.

    Args:
        values: of each sample, (..., m).
        clusters: index of each sample's cluster, int64 (..., m); -1 where it is in none.
        count: number of clusters K.
    """
    return _cluster_sums(values, clusters, count) / cluster_sizes(clusters, count).to(values)


def cluster_sizes(clusters: Tensor, count: int) -> Tensor:
    """Return the number of samples in each of `count` clusters, int64 (..., m) to (..., K)."""
    return _cluster_sums(torch.ones_like(clusters), clusters, count)


def _cluster_sums(values: Tensor, clusters: Tensor, count: int) -> Tensor:
    sums = values.new_zeros(*values.shape[:-1], count + 1)
    return sums.scatter_add_(-1, _places(clusters, count), values)[..., :count]


def _places(clusters: Tensor, count: int) -> Tensor:
    """Return clusters with a place of their own, after all others, for samples that are in none."""
    return clusters.where(clusters >= 0, count)


def balance(margins: Tensor) -> Tensor:
    """Min / max over clusters, (..., K) to (...); NaN unless the largest margin is positive."""
    largest = margins.amax(dim=-1)
    return torch.where(largest > 0, margins.amin(dim=-1) / largest, torch.nan)
