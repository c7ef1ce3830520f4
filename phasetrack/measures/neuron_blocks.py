"""Blocks of neurons: which cluster each serves, how far a block has come, and how its members differ.

After Braun and Imaizumi, arXiv 2602.00172 (abstract): on Gaussian inputs single neurons' signals vary
much, while blocks of neurons, gathered in the four directions of XOR, move together. The assignment is this
project's: a neuron belongs to the cluster of its own label that its weights point to most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.model.geometry import Neurons

# A neuron whose weights are within 30 degrees of its cluster's direction has gathered there.
GATHERED = 0.75**0.5


def directions(neurons: Neurons) -> Tensor:
    """Unit vectors to the clusters' centres in the basis of the signal span, (K, k)."""
    geometry = neurons.geometry
    inside = (geometry.centres @ geometry.basis).to(neurons.coordinates)
    unit: Tensor = inside / torch.linalg.vector_norm(inside, dim=1, keepdim=True)
    return unit


def assigned(neurons: Neurons) -> Tensor:
    """The block of each neuron: index of the cluster of its label that it points to most, (..., p).

    A neuron's label is what it votes for, the sign of a. It may turn away from all of them: the signal
    in its block is negative then.
    """
    along = neurons.coordinates @ directions(neurons).T
    own = neurons.geometry.classes.to(along.device) == neurons.votes.unsqueeze(-1)
    return torch.where(own, along, -torch.inf).argmax(dim=-1)


def signals(neurons: Neurons, blocks: Tensor) -> Tensor:
    """Each neuron's projection on the direction of its block, (..., p).

    Args:
        neurons: the network.
        blocks: as `assigned` gives them, now or before.
    """
    along = neurons.coordinates @ directions(neurons).T
    return along.gather(-1, blocks.unsqueeze(-1)).squeeze(-1)


def sizes(blocks: Tensor, count: int) -> Tensor:
    """Neurons in each of `count` blocks, float64 (..., K)."""
    members = blocks.unsqueeze(-1) == torch.arange(count, device=blocks.device)
    return members.sum(dim=-2).double()


def of_blocks(values: Tensor, blocks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean over each block of one value a neuron, and the spread of single neurons about it.

    Args:
        values: (..., p).
        blocks: (..., p).
        count: number of blocks K.

    Returns:
        Means and relative spreads (standard deviation over |mean|), (..., K) each; NaN for a block without
        neurons.

    Example:
        >>> of_blocks(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2)
        (tensor([2., 5.]), tensor([0.5000, 0.0000]))
    """
    members = (blocks.unsqueeze(-1) == torch.arange(count, device=blocks.device)).to(values)
    size = members.sum(dim=-2)
    means = (members * values.unsqueeze(-1)).sum(dim=-2) / size
    apart = (values.unsqueeze(-1) - means.unsqueeze(-2)).square()
    # a block without neurons has a NaN mean that must not reach the others
    spread = torch.where(members > 0, apart, 0.0).sum(dim=-2) / size
    return means, spread.sqrt() / means.abs()


def gathered(neurons: Neurons, blocks: Tensor) -> Tensor:
    """Share of sum |w|^2 in neurons within 30 degrees of their block's direction, (...)."""
    mass = neurons.mass
    near = signals(neurons, blocks) >= GATHERED * mass.sqrt()
    return (mass * near).sum(dim=-1) / mass.sum(dim=-1)
