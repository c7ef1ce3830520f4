"""Neural collapse of the features before the head (theory.md 14).

After Papyan, Han and Donoho 2020 (PNAS 117(40), arXiv 2008.08186): in the terminal phase of training the features of
a class gather at their mean (NC1), the centred means become a simplex equiangular tight frame (NC2), the head's
rows align with them (NC3), and the network decides for the nearest mean (NC4). All four tend to 0. Each class
counts alike here, whatever its number of samples; with equally many per class this is the paper's definition.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError


class Means(NamedTuple):
    """Class means of features.

    Attributes:
        of_classes: (..., K, p).
        centred: less their own mean, the global one, (..., K, p).
    """

    of_classes: Tensor
    centred: Tensor


def class_means(features: Tensor, labels: Tensor, class_count: int) -> Means:
    """Means of the features of each class.

    Args:
        features: (..., m, p).
        labels: class indices, int64 (m,).
        class_count: K, at least 2.

    Raises:
        ExpectedError: if a class has no sample, or there is one class alone.
    """
    seen = torch.unique(labels).tolist()
    if class_count < 2 or seen != list(range(class_count)):
        raise ExpectedError(
            "labels",
            f"The labels {seen} are not those of {class_count} classes.",
            "Pass class indices 0, ..., K - 1 of at least two classes, each with a sample.",
        )
    counts = torch.bincount(labels)
    members = torch.nn.functional.one_hot(labels, class_count).to(features)
    means = (members / counts).T @ features
    return Means(means, means - means.mean(dim=-2, keepdim=True))


def within_over_between(features: Tensor, labels: Tensor, means: Means) -> Tensor:
    """NC1, trace(Sw pinv(Sb)) / K: (...).

    Sw is the mean over classes of the features' covariance about their class mean, Sb the covariance of the
    class means. No (p, p) matrix is formed.

    Args:
        features: (..., m, p).
        labels: int64 (m,).
        means: of these features.

    Returns:
        NaN where all class means coincide, or a feature is not finite.
    """
    K, p = means.centred.shape[-2:]
    finite = features.isfinite().all(dim=(-2, -1))
    safe = torch.where(finite[..., None, None], means.centred, 0.0)
    _, values, axes = torch.linalg.svd(safe, full_matrices=False)
    # centred means have rank K - 1 at most; rounding is that of the means before they were centred
    size = torch.linalg.matrix_norm(torch.where(finite[..., None, None], means.of_classes, 0.0))
    rounding = torch.finfo(values.dtype).eps * max(K, p) * size
    held = values > rounding.unsqueeze(-1)
    held = held & (torch.arange(values.shape[-1], device=values.device) < K - 1)
    apart = (features - means.of_classes[..., labels, :]) @ axes.transpose(-1, -2)
    weights = 1 / (K * torch.bincount(labels).to(features))[labels]
    spread = (weights.unsqueeze(-1) * apart.square()).sum(dim=-2)
    # pinv(Sb) = K axes^T values^-2 axes, whose K meets the one of trace / K
    ratio = torch.where(held, spread / values.square(), 0.0).sum(dim=-1)
    return torch.where(finite & held.any(dim=-1), ratio, torch.nan)


def norm_spread(vectors: Tensor) -> Tensor:
    """NC2, equal norms: standard deviation over mean of the vectors' lengths, (..., K, p) to (...).

    Args:
        vectors: centred class means, or the head's rows.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    spread: Tensor = lengths.std(dim=-1, correction=0) / lengths.mean(dim=-1)
    return spread


def angle_spread(vectors: Tensor) -> Tensor:
    """NC2, equal angles: standard deviation of the cosines of all pairs, (..., K, p) to (...)."""
    return _pair_cosines(vectors).std(dim=-1, correction=0)


def simplex_distance(vectors: Tensor) -> Tensor:
    """NC2, largest angles: mean |cosine + 1 / (K - 1)| over all pairs, (..., K, p) to (...).

    Example:
        >>> simplex_distance(torch.eye(3) - 1 / 3) < 1e-6
        tensor(True)
    """
    return (_pair_cosines(vectors) + 1 / (vectors.shape[-2] - 1)).abs().mean(dim=-1)


def duality_gap(A: Tensor, means: Means) -> Tensor:
    """NC3, |A / |A| - M / |M||^2 with M the centred class means, Frobenius norms: (...), in [0, 4].

    Args:
        A: the head's weights (..., K, p), a row for each class.
        means: of the features that the head sees.
    """
    gap = A / _frobenius(A) - means.centred / _frobenius(means.centred)
    return gap.square().sum(dim=(-2, -1))


def centre_disagreement(features: Tensor, outputs: Tensor, means: Means) -> Tensor:
    """NC4, the share of samples where the network does not decide for the nearest class mean: (...).

    Args:
        features: (..., m, p).
        outputs: the network's logits (..., m, K).
        means: class means of the training sample's features.
    """
    # |h - mu|^2 less |h|^2, which all classes share
    centre = means.of_classes - means.centred
    h = features - centre[..., :1, :]
    distances = means.centred.square().sum(dim=-1).unsqueeze(-2) - 2 * h @ means.centred.transpose(
        -1, -2
    )
    wrong = distances.argmin(dim=-1) != outputs.argmax(dim=-1)
    share = wrong.to(features).mean(dim=-1)
    return torch.where(distances.isfinite().all(dim=(-2, -1)), share, torch.nan)


def _pair_cosines(vectors: Tensor) -> Tensor:
    """Cosines of all pairs of K vectors, (..., K, p) to (..., K (K - 1) / 2)."""
    unit = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    K = vectors.shape[-2]
    one, other = torch.triu_indices(K, K, offset=1, device=vectors.device)
    cosines: Tensor = (unit @ unit.transpose(-1, -2))[..., one, other]
    return cosines


def _frobenius(matrix: Tensor) -> Tensor:
    """Frobenius norm, (..., 1, 1)."""
    norm: Tensor = torch.linalg.matrix_norm(matrix, keepdim=True)
    return norm
