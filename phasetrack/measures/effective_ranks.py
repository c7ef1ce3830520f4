"""How many neurons and how many directions a network uses (theory.md 11).

From a small start gradient descent visits saddles at which few neurons and a map of low rank are at work, one
more after each (Jacot et al., arXiv 2106.15933, for linear networks; Boursier, Pillaud-Vivien and Flammarion,
arXiv 2206.00939, for ReLU). Counts of such a kind need a level; the stable rank (Rudelson and Vershynin 2007)
and the effective rank (Roy and Vetterli 2007) need none.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A neuron is active from this share of the reference size on, and a singular value counts from this share of
# the largest on. A heuristic of ours.
ACTIVE_SHARE = 0.1


def sizes(W: Tensor, A: Tensor) -> Tensor:
    """Size |a_j| |w_j| of each neuron's contribution, which rescaling a_j against w_j leaves alone.

    Args:
        W: first-layer weights (..., p, d).
        A: second-layer weights (..., p), or (..., n, p) of n outputs, whose length per neuron is taken.

    Returns:
        (..., p).
    """
    size: Tensor = _head_length(W, A) * torch.linalg.vector_norm(W, dim=-1)
    return size


def active_neurons(
    sizes: Tensor, reference: Tensor | float | None = None, share: float = ACTIVE_SHARE
) -> Tensor:
    """Count the neurons that are at work.

    Args:
        sizes: of the neurons, (..., p).
        reference: the size that counts as full, (...); None takes the largest neuron's, by which a start
            of equal neurons is all active. A fixed one shows neurons leave a small start.
        share: share of the reference from which on a neuron counts.

    Returns:
        int64 (...).

    Example:
        >>> active_neurons(torch.tensor([2.0, 1.0, 0.1])), active_neurons(torch.tensor([0.0, 0.0]))
        (tensor(2), tensor(0))
    """
    if reference is None:
        full = sizes.amax(dim=-1)
    else:
        full = torch.as_tensor(reference, dtype=sizes.dtype, device=sizes.device)
    return ((sizes >= share * full.unsqueeze(-1)) & (sizes > 0)).sum(dim=-1)


def participation(values: Tensor) -> Tensor:
    """Participation number (sum v)^2 / sum v^2 of sizes v >= 0, (..., p) to (...): n for n equal ones.

    NaN where all are 0.
    """
    return values.sum(dim=-1).square() / values.square().sum(dim=-1)


def balanced_rows(W: Tensor, A: Tensor) -> Tensor:
    """Rows sqrt(|a_j| / |w_j|) w_j: the first layer as it would be with balanced layers.

    Their Gram matrix, sum_j |a_j| |w_j| u_j u_j^T with u_j = w_j / |w_j|, belongs to the function that a
    positively homogeneous network (ReLU, linear) computes: rescaling a_j against w_j and splitting a neuron
    into equal ones leave it alone. Ranks of W itself see the weights.

    Args:
        W: first-layer weights (..., p, d).
        A: second-layer weights (..., p) or (..., n, p).

    Returns:
        (..., p, d); zeros for a neuron without weights.
    """
    length = torch.linalg.vector_norm(W, dim=-1)
    factor = torch.where(length == 0, 0.0, (_head_length(W, A) / length).sqrt())
    return factor.unsqueeze(-1) * W


def linear_map(W: Tensor, A: Tensor, scale: float = 1.0) -> Tensor:
    """Product scale * A W, (..., n, d): what a network of activation identity computes.

    Args:
        W: first-layer weights (..., p, d).
        A: second-layer weights (..., p), or (..., n, p).
        scale: factor on the sum over neurons.
    """
    return scale * (A.unsqueeze(-2) if A.ndim < W.ndim else A) @ W


def stable_rank(matrix: Tensor) -> Tensor:
    """Squared Frobenius over squared spectral norm, (..., m, n) to (...); NaN for a zero matrix.

    Example:
        >>> stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
        tensor(1.5000)
    """
    return _relative_values(matrix).square().sum(dim=-1)


def effective_rank(matrix: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values over their sum, (..., m, n) to (...).

    NaN for a zero matrix.
    """
    values = _relative_values(matrix)
    shares = values / values.sum(dim=-1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()


def numerical_rank(matrix: Tensor, share: float = ACTIVE_SHARE) -> Tensor:
    """Number of singular values from a share of the largest on, (..., m, n) to (...); NaN for zeros.

    The result is floating, as the matrix is.
    """
    values = _relative_values(matrix)
    count = (values >= share).sum(dim=-1).to(values)
    return torch.where(values[..., 0].isnan(), torch.nan, count)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values, falling, (..., min(m, n)); NaN throughout where an entry is not finite."""
    finite = matrix.isfinite().all(dim=(-2, -1))
    values = torch.linalg.svdvals(torch.where(finite[..., None, None], matrix, 0.0))
    return torch.where(finite.unsqueeze(-1), values, torch.nan)


def spans(matrix: Tensor, rank: int | None = None) -> Tensor:
    """Orthonormal rows that span the rows of a matrix, or its leading directions.

    Args:
        matrix: (..., m, n).
        rank: how many leading right singular vectors; None takes min(m, n).

    Returns:
        (..., r, n), r = min(rank, m, n). Rows of zeros stand for singular values that are 0 but for rounding;
        NaN throughout where an entry is not finite.
    """
    finite = matrix.isfinite().all(dim=(-2, -1))[..., None, None]
    _, values, vectors = torch.linalg.svd(torch.where(finite, matrix, 0.0), full_matrices=False)
    rounding = torch.finfo(values.dtype).eps * max(matrix.shape[-2:])
    held = values > rounding * values[..., :1]
    basis = torch.where(held.unsqueeze(-1), vectors, 0.0)[..., :rank, :]
    return torch.where(finite, basis, torch.nan)


def _relative_values(matrix: Tensor) -> Tensor:
    """Singular values over the largest one, (..., min(m, n)); NaN for a zero matrix."""
    values = singular_values(matrix)
    relative: Tensor = values / values[..., :1]
    return relative


def _head_length(W: Tensor, A: Tensor) -> Tensor:
    """Length of each neuron's second-layer weights, (..., p)."""
    length: Tensor = A.abs() if A.ndim < W.ndim else torch.linalg.vector_norm(A, dim=-2)
    return length
