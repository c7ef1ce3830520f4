"""How signal-heavy a network is (arXiv 2309.15111 as operationalised in theory.md 3).

Per neuron ``needed_zeta = (exp(6H) |perp| + |opp|) / |sig|``. A network is (zeta, H)-signal-heavy
if some set S of neurons has needed_zeta <= zeta throughout, while the neurons outside S are small
beside the margin that S makes on its own:
``(1/p) sum_{j not in S} |a_j| |w_j| <= zeta * min_c (1/p) sum_{j in S} s_c a_j act(w_j . c)``.
`certificate` is the smallest such zeta. The paper weighs the neurons outside by |w_j|^2 (``mass="paper"``), the same
where layers are balanced; |a_j| |w_j| is a property of the function. The functions that end in ``_of`` take a
`Neurons` table; their namesakes take weights.

Biases are wholly in: those of the first layer in a_j act(w_j . c + b_j) and, as weights on an input that is always 1, in
|w_j|; that of the head in the margin of every set. A bias has no direction, and no part in needed_zeta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.class_certificate import Network, settled
from phasetrack.measures.noise import Noise
from phasetrack.measures.relaxation import Relaxed, attained_by_some, bounds
from phasetrack.measures.set_search import ThresholdSets, best_of_subsets, tried
from phasetrack.model.geometry import ClusterGeometry, Neurons

# A neuron is heavy once its needed_zeta is at most this (theory.md 3).
HEAVY_ZETA = 0.5

# How a neuron outside the set is weighed, in condition (ii).
Mass = Literal["function", "paper"]
MASSES: tuple[Mass, ...] = get_args(Mass)

# How many (subset, neuron) pairs the exhaustive part of `certificate` may look at. Chosen here:
# enough for every subset of 13 neurons, and 2 ms of work.
SEARCH_BUDGET = 2**17
# Subsets, of all networks together, whose sums are formed at once: their tables fit in a cache.
SUBSETS_AT_ONCE = 2**13


def needed_zeta(W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0) -> Tensor:
    """The zeta that each neuron needs: (exp(6H) |perp| + |opp|) / |sig|.

    |perp| stands for the spread of w . x within a cluster: for noise of variance 1 per coordinate. A table of
    `Neurons` may hold that spread for other noise.

    Args:
        W: first-layer weights (..., p, d).
        a: second-layer weights (..., p).
        geometry: the clusters.
        H: the paper's H, a parameter here (default 0).

    Returns:
        (..., p), in [0, inf]; infinite for a neuron with no signal part, zero neurons included.

    Example:
        >>> xor = ClusterGeometry([[1, -1, 0], [-1, 1, 0], [1, 1, 0], [-1, -1, 0]], [1, 1, -1, -1])
        >>> needed_zeta(torch.tensor([[2.0, -2.0, 0.5]]), torch.ones(1), xor)
        tensor([0.1768])
    """
    return needed_zeta_of(Neurons.of(W, a, geometry), H)


def needed_zeta_of(neurons: Neurons, H: float = 0.0) -> Tensor:
    """`needed_zeta` of a table of neurons."""
    needed = (math.exp(6 * H) * neurons.spread + neurons.opp) / neurons.sig
    return torch.where(neurons.sig == 0, torch.inf, needed)


def heavy_mass(W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0) -> Tensor:
    """Share of sum |a| |w| held by heavy neurons (needed_zeta <= 1/2); NaN for a zero network."""
    return heavy_mass_of(Neurons.of(W, a, geometry), H)


def heavy_mass_of(
    neurons: Neurons,
    H: float = 0.0,
    heavy_zeta: float = HEAVY_ZETA,
    needed: Tensor | None = None,
) -> Tensor:
    """`heavy_mass` of a table of neurons: (...); `needed` is their `needed_zeta_of`, if at hand."""
    heavy = (needed_zeta_of(neurons, H) if needed is None else needed) <= heavy_zeta
    return (neurons.reach * heavy.to(neurons.reach)).sum(dim=-1) / neurons.reach.sum(dim=-1)


def signal_share_of(neurons: Neurons) -> Tensor:
    """Share of sum |w|^2 that lies in the signal span: (...); k/d for random directions."""
    signal = neurons.coordinates.square().sum(dim=(-2, -1))
    return signal / neurons.mass.sum(dim=-1)


def served_of(neurons: Neurons) -> Tensor:
    """The cluster to whose margin each neuron adds most, int64 (..., p); -1 where it adds to none.

    With more than two classes a neuron adds what it gives the cluster's class beyond the mean of all classes.
    A heuristic of ours.
    """
    if neurons.head is None:
        added = neurons.contributions
    else:
        own = neurons.head[..., neurons.geometry.classes.to(neurons.head.device)]
        added = neurons.active * (own - neurons.head.mean(dim=-1, keepdim=True))
    most, cluster = added.max(dim=-1)
    return torch.where(most > 0, cluster, -1)


class Certificate(NamedTuple):
    """zeta* of a batch of networks.

    Attributes:
        zeta: (...), in [0, inf]; NaN if a weight is NaN.
        is_bound: whether zeta is an upper bound: more neurons are contested than were tried, bool (...).
    """

    zeta: Tensor
    is_bound: Tensor


def certificate(
    W: Tensor,
    a: Tensor,
    geometry: ClusterGeometry,
    H: float = 0.0,
    *,
    mass: Mass = "function",
    noise: Noise | None = None,
) -> Tensor:
    """zeta*: the smallest zeta for which the network is (zeta, H)-signal-heavy.

    For a threshold set S = {needed_zeta <= z} both conditions follow from prefix sums over the
    sorted neurons, O(p log p). Adding a neuron to S can only hurt if it is *contested*: if it
    lowers some cluster's margin by more than its own mass / zeta. Without contested neurons the
    best threshold set is the best of all 2^p sets (proof: then every neuron allowed by (i) helps
    or leaves (ii) as it is). A few contested neurons are settled by trying their subsets; where
    they are too many for `SEARCH_BUDGET` the value is that of the best threshold set, an upper
    bound, or where none of these classifies every cluster that of a set met by one look at relaxed sets (by
    the function's mass): `certificate_bounds` says how far the truth may be below. In the canonical run none is
    contested from zeta* of about 10 downwards, so both boundaries are exact.

    Args:
        W: first-layer weights (..., p, d).
        a: second-layer weights (..., p).
        geometry: the clusters.
        H: the paper's H, a parameter here (default 0).
        mass: the size of a neuron outside S: "function" takes |a| |w|, which relu(c w . x) a / c leaves
            as it is; "paper" takes |w|^2, equal to it where |a| = |w|.
        noise: of the data (`measures.noise.noise_of`); None: variance 1 per coordinate and no mean.

    Returns:
        (...), in [0, inf]; infinite if no set S that was tried classifies every cluster, NaN if a weight
        is NaN.

    Example:
        >>> xor = ClusterGeometry([[1, -1, 0], [-1, 1, 0], [1, 1, 0], [-1, -1, 0]], [1, 1, -1, -1])
        >>> W = torch.tensor([[1, -1, 0.1], [-1, 1, 0.1], [1, 1, 0.1], [-1, -1, 0.1], [0, 0, 1.0]])
        >>> a = torch.tensor([1, 1, -1, -1, 1.0])
        >>> certificate(W, a, xor), certificate(30 * W, a / 30, xor)
        (tensor(0.5000), tensor(0.5000))
        >>> certificate(30 * W, a / 30, xor, mass="paper")
        tensor(450.)
    """
    neurons = Neurons.of(W, a, geometry)
    if noise is not None:
        along = None if noise.mean is None else W @ noise.mean.to(W)
        neurons = replace(neurons, noise=noise.spread(neurons.perp, along))
    return certificate_of(neurons, H, mass=mass)


def certificate_of(
    neurons: Neurons, H: float = 0.0, needed: Tensor | None = None, mass: Mass = "function"
) -> Tensor:
    """`certificate` of a table of neurons: (...); `needed` is their `needed_zeta_of`, if at hand."""
    (found,) = certificates_of(neurons, H, needed, (mass,))
    return found.zeta


def certificates_of(
    neurons: Neurons,
    H: float = 0.0,
    needed: Tensor | None = None,
    masses: Sequence[Mass] = MASSES,
) -> list[Certificate]:
    """`certificate` by several masses, with the sets' margins computed once."""
    needed = needed_zeta_of(neurons, H) if needed is None else needed
    sizes = [_mass(neurons, mass) for mass in masses]
    if neurons.head is not None:
        return _certificates_of_classes(neurons, needed, sizes)
    sets = ThresholdSets(needed, neurons.contributions, _offset(neurons))
    return [_settled(sets, *each) for each in zip(sizes, masses, strict=True)]


def certificate_bounds(
    W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0, *, mass: Mass = "function"
) -> tuple[Tensor, Tensor]:
    """[low, high]: the smallest zeta of all 2^p sets is in between; equal where `certificate` is exact.

    Where more neurons are contested than are tried, low comes from a linear relaxation (theory.md 3), and high
    from the best set that was found, the roundings of the relaxed one included. Costs about 0.05 s per
    network of p = 512.

    Args:
        W: first-layer weights (..., p, d).
        a: second-layer weights (..., p), or (..., n, p) for n > 2 classes.
        geometry: the clusters.
        H: the paper's H, a parameter here (default 0).
        mass: as in `certificate`.

    Returns:
        low and high, (...) each, in [0, inf]; NaN if a weight is NaN. Both are infinite only if no set
        classifies every cluster at a zeta under 1e6.

    Example:
        >>> from phasetrack.model.network import TwoLayerNet
        >>> from phasetrack.tasks import XOR
        >>> net = TwoLayerNet(64, 128, seed=3)
        >>> low, high = certificate_bounds(net.first.weight, net.second.weight[0], XOR(64).geometry)
        >>> f"{low:.0f} to {high:.0f}"
        '42 to 44'
    """
    return certificate_bounds_of(Neurons.of(W, a, geometry), H, mass)


def certificate_bounds_of(
    neurons: Neurons, H: float = 0.0, mass: Mass = "function"
) -> tuple[Tensor, Tensor]:
    """`certificate_bounds` of a table of neurons."""
    needed, size = needed_zeta_of(neurons, H), _mass(neurons, mass)
    (found,) = certificates_of(neurons, H, needed, (mass,))
    high = found.zeta.detach().double().flatten()
    low = high.clone()
    gains, offset = _margin_rows(neurons)
    tables = [_rows(needed, 1), _rows(size, 1), _rows(gains, 2), _rows(offset, 1)]
    for row in found.is_bound.flatten().nonzero().flatten().tolist():
        network = Relaxed(*(table[row] for table in tables))
        low[row], high[row] = bounds(network, float(high[row]))
    return low.view(found.zeta.shape), high.view(found.zeta.shape)


def _mass(neurons: Neurons, mass: Mass) -> Tensor:
    """The size of each neuron where it is outside S, (..., p)."""
    if mass not in MASSES:
        raise ExpectedError(
            "mass", f"{mass!r} is not a mass of neurons.", f"Choose one of {', '.join(MASSES)}."
        )
    return neurons.mass if mass == "paper" else neurons.reach


def _offset(neurons: Neurons) -> Tensor | None:
    """The margins of the empty set, (..., K): those of the output's bias, in units of the sum over neurons."""
    if neurons.output_bias is None:
        return None
    signed = neurons.output_bias.unsqueeze(-1) * neurons.geometry.labels.to(neurons.output_bias)
    return signed / neurons.output_scale


def _settled(sets: ThresholdSets, mass: Tensor, kind: Mass) -> Certificate:
    """The best threshold set, or the best of all where few enough neurons are contested.

    Where no threshold set classifies every cluster, one look for another set (a tenth of a millisecond each, so not by
    the paper's mass, which stands beside).
    """
    zeta = sets.best(mass)
    contested = sets.contested(zeta, mass)
    counts = contested.sum(dim=-1)
    most = tried(SEARCH_BUDGET, mass.shape[-1])
    is_bound = counts > most
    settled = torch.where(is_bound, 0, counts).flatten()
    tables = [table.reshape(-1, table.shape[-1]) for table in (sets.needed, mass, contested)]
    flat = zeta.flatten()
    exact = flat.clone()
    gains = sets.gains.reshape(-1, *sets.gains.shape[-2:])
    offset = None if sets.offset is None else sets.offset.reshape(-1, gains.shape[-1])
    for count in sorted(set(settled.tolist()) - {0}):
        for rows in (settled == count).nonzero().flatten().split(max(1, SUBSETS_AT_ONCE >> count)):
            start = None if offset is None else offset[rows]
            needed, size, tried_ones = (table[rows] for table in tables)
            exact[rows] = best_of_subsets(flat[rows], needed, size, tried_ones, gains[rows], start)
    rows = (exact.isinf() & is_bound.flatten()).nonzero().flatten()
    if kind == "function" and rows.numel():
        start = gains.new_zeros(len(rows), gains.shape[-1]) if offset is None else offset[rows]
        networks = Relaxed._make(
            map(_table, (tables[0][rows], tables[1][rows], gains[rows], start))
        )
        exact[rows] = torch.from_numpy(attained_by_some(networks)).to(exact)
    return Certificate(exact.reshape(zeta.shape), is_bound)


def _certificates_of_classes(
    neurons: Neurons, needed: Tensor, masses: Sequence[Tensor]
) -> list[Certificate]:
    """`certificate` of networks with an output per class, by several masses."""
    assert neurons.head is not None
    p, K = neurons.active.shape[-2:]
    # in numbers: as many as with the four clusters of XOR
    most = tried(SEARCH_BUDGET * min(1.0, 4 / K), p)
    tables = (needed, 1), (neurons.active, 2), (neurons.head, 2), (neurons.logits, 2)
    rows = [_rows(*table) for table in (*tables, (_class_bias(neurons), 1))]
    sizes = np.stack([_rows(mass, 1) for mass in masses], axis=1)
    classes = neurons.geometry.classes.numpy()
    found = [
        settled(Network._make((*row, classes)), size, most)
        for *row, size in zip(*rows, sizes, strict=True)
    ]
    shape = needed.shape[:-1]
    certificates = []
    for by_mass in zip(*found, strict=True):
        zetas, are_bounds = zip(*by_mass, strict=True)
        bounds = torch.tensor(are_bounds, device=needed.device).view(shape)
        certificates.append(Certificate(needed.new_tensor(zetas).view(shape), bounds))
    return certificates


def _class_bias(neurons: Neurons) -> Tensor:
    """The outputs of the empty set, (..., n), in units of the sum over neurons."""
    assert neurons.head is not None
    if neurons.output_bias is None:
        return torch.zeros_like(neurons.head[..., 0, :])
    return neurons.output_bias / neurons.output_scale


def _margin_rows(neurons: Neurons) -> tuple[Tensor, Tensor]:
    """Additions of each neuron to every margin, (..., p, R), and the margins of the empty set, (..., R).

    Of n classes each cluster has a margin for every rival of its class.
    """
    if neurons.head is None:
        gains, offset = neurons.contributions, _offset(neurons)
        return gains, torch.zeros_like(gains[..., 0, :]) if offset is None else offset
    pairs = [
        (place, own, rival)
        for place, own in enumerate(neurons.geometry.classes.tolist())
        for rival in range(neurons.head.shape[-1])
        if rival != own
    ]
    clusters, owns, rivals = (list(column) for column in zip(*pairs, strict=True))
    gains = neurons.active[..., clusters] * (neurons.head[..., owns] - neurons.head[..., rivals])
    start = _class_bias(neurons)
    return gains, start[..., owns] - start[..., rivals]


def _table(table: Tensor) -> NDArray[np.float64]:
    """A table of one network, float64 on the host."""
    rows = _rows(table, table.ndim)
    only: NDArray[np.float64] = rows[0]
    return only


def _rows(table: Tensor, rank: int) -> NDArray[np.float64]:
    """The table of each network, float64 on the host: (..., *) to (networks, *)."""
    rows: NDArray[np.float64] = table.detach().cpu().double().numpy()
    return rows.reshape(-1, *rows.shape[rows.ndim - rank :])
