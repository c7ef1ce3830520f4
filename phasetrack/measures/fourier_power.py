"""Whether a network that adds residues uses few frequencies, and how large its weights are (theory.md 13).

Progress measures of grokking, after Nanda et al., arXiv 2301.05217, section 5.1: the Gini coefficient (Hurley and
Rickard, arXiv 0811.4706) of the norms of an embedding's Fourier components, and the sum of squared weights. In two
layers each neuron has one frequency and together they use all (He et al., arXiv 2602.16849), which
`specialisation` sees. A table of weights has a row for each residue 0, ..., q - 1 and a column for each neuron; its
Fourier transform runs along the rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError


def squared_norm(*weights: Tensor, rank: int = 0) -> Tensor:
    """Sum of squared weights over several tensors.

    Args:
        weights: of the network's tensors, each with the same leading dimensions.
        rank: number of leading dimensions.

    Returns:
        The shape of those dimensions.

    Example:
        >>> squared_norm(torch.ones(3, 2), torch.tensor([2.0]))
        tensor(10.)
    """
    parts = [table.square().reshape(*table.shape[:rank], -1).sum(dim=-1) for table in weights]
    return torch.stack(parts).sum(dim=0)


def residue_tables(W: Tensor, modulus: int) -> Tensor:
    """Split a first layer on one-hot tuples of residues into a table of rows for each place.

    Args:
        W: first-layer weights (..., p, n * modulus), the one-hot codes of n residues one after another.
        modulus: q.

    Returns:
        (..., n, q, p): row r of table i is what residue r at place i adds to the neurons.

    Raises:
        ExpectedError: if the inputs are not a multiple of the modulus.
    """
    places, rest = divmod(W.shape[-1], modulus)
    if rest or not places:
        raise ExpectedError(
            "modulus",
            f"{W.shape[-1]} inputs are not one-hot codes of {modulus} residues.",
            "Pass the modulus of the task, and the weights of the layer that sees its inputs.",
        )
    return W.reshape(*W.shape[:-1], places, modulus).movedim(-3, -1)


def component_norms(table: Tensor) -> Tensor:
    """Length of each component of a table in the orthonormal real Fourier basis.

    Args:
        table: (..., q, n).

    Returns:
        (..., q): the constant, then cosine and sine of each frequency 1, 2, ...; for even q the alternating
        one comes last. Their squares add up to the table's.

    Example:
        >>> turn = 2 * torch.pi * torch.arange(5) / 5
        >>> component_norms((3 * turn.cos()).unsqueeze(1)).square().round(decimals=3) + 0
        tensor([ 0.0000, 22.5000,  0.0000,  0.0000,  0.0000])
    """
    norms: Tensor = torch.linalg.vector_norm(_components(table), dim=-1)
    return norms


def neuron_power(table: Tensor) -> Tensor:
    """Squared length of each neuron's column at each frequency 1, ..., q // 2.

    The constant is left out: it does not tell residues apart.

    Args:
        table: (..., q, n).

    Returns:
        (..., n, q // 2).
    """
    squares = _components(table).square()[..., 1:, :].transpose(-1, -2)
    if squares.shape[-1] % 2:  # the alternating component has no sine
        squares = torch.cat([squares, torch.zeros_like(squares[..., :1])], dim=-1)
    return squares.reshape(*squares.shape[:-1], -1, 2).sum(dim=-1)


def frequency_power(table: Tensor) -> Tensor:
    """Squared length of a table at each frequency, the sum of `neuron_power`: (..., q, n) to (..., q // 2)."""
    return neuron_power(table).sum(dim=-2)


def specialisation(power: Tensor) -> Tensor:
    """Share of the power that lies at each neuron's own strongest frequency, (..., n, f) to (...).

    1 where every neuron has one frequency, whichever; for random weights about (1 + 1/2 + ... + 1/f) / f. NaN
    without power.

    Args:
        power: as `neuron_power` gives it; summed over tables where one frequency for all places is meant.

    Example:
        >>> specialisation(torch.tensor([[3.0, 1.0], [0.0, 4.0]]))
        tensor(0.8750)
    """
    return power.amax(dim=-1).sum(dim=-1) / power.sum(dim=(-2, -1))


def leading_share(power: Tensor, count: int) -> Tensor:
    """Share of the power in the `count` strongest frequencies, (..., f) to (...); NaN without power.

    Args:
        power: of each frequency, (..., f), as `frequency_power` gives it; summed over tables where one set of
            frequencies is meant.
        count: how many, at least 1.

    Example:
        >>> leading_share(torch.tensor([1.0, 6.0, 3.0]), 2)
        tensor(0.9000)
    """
    strongest = power.topk(min(count, power.shape[-1]), dim=-1).values
    return strongest.sum(dim=-1) / power.sum(dim=-1)


def gini(values: Tensor) -> Tensor:
    """Gini coefficient of sizes >= 0, (..., n) to (...): 0 where all are equal, 1 - 1/n where one is not 0.

    1 - 2 sum_k (c_k / |c|_1) (n - k + 1/2) / n with c_1 <= ... <= c_n (Hurley and Rickard). NaN where
    all are 0.

    Example:
        >>> gini(torch.tensor([0.0, 0.0, 4.0, 0.0])), gini(torch.ones(4))
        (tensor(0.7500), tensor(0.))
    """
    ordered = values.sort(dim=-1).values
    n = values.shape[-1]
    ranks = torch.arange(1, n + 1, dtype=values.dtype, device=values.device)
    return (ordered * (2 * ranks - n - 1)).sum(dim=-1) / (n * ordered.sum(dim=-1))


def _components(table: Tensor) -> Tensor:
    """Coordinates of each column in the orthonormal real Fourier basis, (..., q, n)."""
    q = table.shape[-2]
    components = torch.fft.rfft(table, dim=-2, norm="ortho")
    paired = math.sqrt(2) * components[..., 1 : (q + 1) // 2, :]
    both = torch.stack([paired.real, paired.imag], dim=-2).flatten(-3, -2)
    single = components.real[..., [0], :]
    return torch.cat(
        [single, both] if q % 2 else [single, both, components.real[..., [-1], :]], dim=-2
    )
