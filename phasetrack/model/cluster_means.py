"""Means of a sample's clusters, compared with their standard errors: what of them is more than noise.

Under noise alone the means, each times the root of its sample size, have the Gram matrix
trace(S) I + fluctuations of variance trace(S^2), S the covariance within clusters; of K means the
largest eigenvalue then stays under trace(S) + sqrt(trace(S^2)) (2 sqrt(K) + a few).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.samples import Table, column, table

# Samples beyond the number of clusters from which noise is estimated at all.
LEAST_FREEDOM = 30
# Standard deviations that a direction, or the distance of two means, has to be clear of noise.
CLEAR = 4.0
# Samples that trace(S^2) is estimated from at most.
MOST_ROWS = 2048


class ClusterMeans(NamedTuple):
    """Clusters of a sample.

    Attributes:
        centres: means of the clusters, without directions that are noise, float64 (K, d).
        separated: share of the pairs of clusters with different labels whose means differ by more than
            noise; 1 where too few samples tell.
        dropped: directions of the means' span that are noise.
    """

    centres: Tensor
    separated: float
    dropped: int


def clusters_of_sample(
    inputs: Table, labels: Table, clusters: Table | None
) -> tuple[list[Tensor], list[float], list[str]]:
    """Return the samples of each cluster, float64 on the host, its label and its name.

    Raises:
        ExpectedError: as `ClusterGeometry.from_data`.
    """
    x, y, groups = _checked_sample(inputs, labels, clusters)
    members, signs, names = [], [], []
    for group in torch.unique(groups).tolist():
        chosen = groups == group
        found = torch.unique(y[chosen])
        if len(found) > 1:
            raise ExpectedError(
                "clusters",
                f"Cluster {group} has the labels {found.tolist()}.",
                "Give all inputs of a cluster one label.",
            )
        members.append(x[chosen].cpu().double())
        signs.append(float(found))
        names.append(f"c{group:g}")
    return members, signs, names


def _checked_sample(
    inputs: Table, labels: Table, clusters: Table | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (m, d), and on their device labels and clusters, (m,) each."""
    x = table("inputs", inputs)
    y = column("labels", labels).to(x.device)
    groups = y if clusters is None else column("clusters", clusters).to(x.device)
    if x.ndim != 2 or not len(x) or not y.shape == groups.shape == x.shape[:1]:
        raise ExpectedError(
            "inputs",
            f"Shapes {tuple(x.shape)}, {tuple(y.shape)} and {tuple(groups.shape)} of inputs, "
            "labels and clusters do not fit.",
            "Pass a (m, d) table, and a label (and a cluster) for each row.",
        )
    for argument, values in (("inputs", x), ("labels", y), ("clusters", groups)):
        if not values.isfinite().all():
            raise ExpectedError(argument, "The sample has NaN or infinity.", "Pass finite numbers.")
    if len(torch.unique(y)) < 2:
        raise ExpectedError(
            "labels", f"All labels are {y[0].item()}.", "Pass a sample of every class."
        )
    return x, y, groups


class _Noise(NamedTuple):
    total: float  # trace(S)
    scatter: float  # sqrt(trace(S^2))


def cluster_means(members: Sequence[Tensor], labels: Sequence[float]) -> ClusterMeans:
    """Average the samples of each cluster, and drop the directions in which the means are noise.

    Args:
        members: the samples of each cluster, float64 (n_c, d) each.
        labels: of the clusters.

    Raises:
        ExpectedError: if two clusters have the same mean.
    """
    means = torch.stack([rows.mean(dim=0) for rows in members])
    if len({tuple(row) for row in means.tolist()}) < len(means):
        raise ExpectedError(
            "inputs",
            "Two clusters of the sample have the same mean, so that no centre tells them apart.",
            "Pass clusters= with groups of samples whose means differ.",
        )
    sizes = torch.tensor([float(len(rows)) for rows in members], dtype=torch.float64, device="cpu")
    if sizes.sum() - len(members) < LEAST_FREEDOM:
        return ClusterMeans(means, 1.0, 0)
    noise = _noise([rows - mean for rows, mean in zip(members, means, strict=True)], means)
    separated = _separated(means, sizes, labels, noise)
    _, values, directions = torch.linalg.svd(sizes.sqrt().unsqueeze(1) * means, full_matrices=False)
    level = noise.total + noise.scatter * (2 * math.sqrt(len(means)) + CLEAR)
    kept = directions[values.square() > level]
    dropped = int((values > values[0] * 1e-9).sum()) - len(kept)
    centres = means @ kept.T @ kept
    if (
        not len(kept)
        or not separated
        or len({tuple(row) for row in centres.tolist()}) < len(centres)
    ):
        return ClusterMeans(means, separated, 0)
    # coordinates in which all means are 0 stay so
    centres[:, (means == 0).all(dim=0)] = 0.0
    return ClusterMeans(centres if dropped else means, separated, dropped)


def _noise(deviations: Sequence[Tensor], means: Tensor) -> _Noise:
    freedom = sum(len(rows) for rows in deviations) - len(deviations)
    total = sum(float(rows.square().sum()) for rows in deviations) / freedom
    step = math.ceil(sum(len(rows) for rows in deviations) / MOST_ROWS)
    few = torch.cat([rows[::step] for rows in deviations])
    # the covariance of n samples has a trace of its square that is larger by trace^2 / n
    size = float((few @ few.T if len(few) < few.shape[1] else few.T @ few).square().sum())
    squares = size / len(few) ** 2 - total**2 / len(few)
    return _Noise(total, math.sqrt(max(squares, total**2 / means.shape[1])))


def _separated(means: Tensor, sizes: Tensor, labels: Sequence[float], noise: _Noise) -> float:
    label = torch.tensor(labels, dtype=torch.float64, device="cpu")
    one, other = torch.triu_indices(len(means), len(means), 1, device="cpu")
    differ = label[one] != label[other]
    one, other = one[differ], other[differ]
    apart = (means[one] - means[other]).square().sum(dim=1)
    variance = 1 / sizes[one] + 1 / sizes[other]
    level = variance * (noise.total + CLEAR * math.sqrt(2) * noise.scatter)
    return float((apart > level).double().mean())
