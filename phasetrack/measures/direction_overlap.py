"""How far the first layer has found given directions (theory.md 10).

The directions are a teacher's: f*(x) = g(u_1 . x, ..., u_k . x). Their overlaps with the neurons are the
order parameters of online learning (Saad and Solla 1995); a search lasts until an overlap leaves the size
that random neurons have, a descent follows (Ben Arous, Gheissari and Jagannath, arXiv 2003.10409).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phasetrack.measures.effective_ranks import spans


def cosines(W: Tensor, directions: Tensor) -> Tensor:
    """Cosine of the angle between each neuron and each direction.

    Args:
        W: first-layer weights (..., p, d).
        directions: (..., k, d), of any length but 0.

    Returns:
        (..., p, k), in W's dtype; 0 for a neuron without weights.

    Example:
        >>> cosines(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([[0.6000],
                [0.0000]])
    """
    return _unit(W) @ _unit(directions.to(W)).transpose(-1, -2)


def overlaps(W: Tensor, directions: Tensor) -> Tensor:
    """Largest absolute cosine that any neuron has with each direction, (..., k), in [0, 1].

    Args:
        W: first-layer weights (..., p, d).
        directions: (..., k, d).
    """
    return cosines(W, directions).abs().amax(dim=-2)


def recovered(W: Tensor, directions: Tensor, rank: int | None = None) -> Tensor:
    """Share of each direction's squared length that lies in the first layer's span.

    Args:
        W: first-layer weights (..., p, d).
        directions: (..., k, d).
        rank: dimension of the span: that of the `rank` leading right singular vectors of W. None takes all
            of them, which d random neurons already span; the number of directions k shows what was learned.

    Returns:
        (..., k), in [0, 1]; for random neurons rank/d on average. NaN where a weight is not finite.

    Example:
        >>> recovered(torch.tensor([[1.0, 1.0, 0.0]]), torch.eye(3))
        tensor([0.5000, 0.5000, 0.0000])
    """
    basis = spans(W, rank)
    inside: Tensor = (basis @ _unit(directions.to(W)).transpose(-1, -2)).square().sum(dim=-2)
    return inside


def chance(width: int, dim: int, count: int = 1, probability: float = 0.01) -> float:
    """Overlap that random neurons exceed with at most a given probability.

    A random unit vector has a coordinate of at least t with probability at most exp(-d t^2 / 2) (Ball 1997,
    lemma 2.2), so that sqrt(2 log(2 p k / probability) / d) bounds all p k overlaps at once.

    Args:
        width: number of neurons p.
        dim: input dimension d.
        count: number of directions k.
        probability: in (0, 1).

    Returns:
        The overlap, at most 1.

    Example:
        >>> round(chance(width=100, dim=10000), 3)
        0.045
    """
    return min(1.0, math.sqrt(2 * math.log(2 * width * count / probability) / dim))


def span_chance(dim: int, rank: int, probability: float = 0.01) -> float:
    """Root of `recovered` that a random span exceeds with at most a given probability, for one direction.

    The length of a unit vector's part in a random span of rank r has mean at most sqrt(r / d) and exceeds the mean by
    t with probability at most exp(-d t^2 / 2), as a function of slope 1 on the sphere (Ball 1997, lecture 8).

    Args:
        dim: input dimension d.
        rank: dimension r of the span.
        probability: in (0, 1).

    Returns:
        The cosine, at most 1.

    Example:
        >>> round(span_chance(dim=10000, rank=1), 3)
        0.04
    """
    return min(1.0, math.sqrt(rank / dim) + math.sqrt(2 * math.log(1 / probability) / dim))


def _unit(rows: Tensor) -> Tensor:
    """Rows divided by their length; rows of zeros stay as they are."""
    # by the largest entry first: squares of tiny weights vanish
    largest = rows.abs().amax(dim=-1, keepdim=True)
    scaled = torch.where(largest == 0, rows, rows / largest)
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return torch.where(length == 0, scaled, scaled / length)
