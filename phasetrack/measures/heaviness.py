"""How signal-heavy a network is (arXiv 2309.15111 as operationalised in theory.md 3).

Per neuron ``needed_zeta = (exp(6H) |perp| + |opp|) / |sig|``. A network is (zeta, H)-signal-heavy
if some set S of neurons has needed_zeta <= zeta throughout, while the neurons outside S are small
beside the margin that S makes on its own:
``(1/p) sum_{j not in S} |w_j|^2 <= zeta * min_c (1/p) sum_{j in S} s_c a_j act(w_j . c)``.
`certificate` is the smallest such zeta. The functions that end in ``_of`` take a `Neurons` table;
their namesakes take weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.measures.class_certificate import Network, best_zeta, least_gains
from phasetrack.measures.sorting import order
from phasetrack.model.geometry import ClusterGeometry, Neurons

# A neuron is heavy once its needed_zeta is at most this (theory.md 3).
HEAVY_ZETA = 0.5

# How many (subset, neuron) pairs the exhaustive part of `certificate` may look at. Chosen here:
# enough for every subset of 13 neurons, and 2 ms of work.
SEARCH_BUDGET = 2**17


def needed_zeta(W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0) -> Tensor:
    """The zeta that each neuron needs: (exp(6H) |perp| + |opp|) / |sig|.

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
    needed = (math.exp(6 * H) * neurons.perp + neurons.opp) / neurons.sig
    return torch.where(neurons.sig == 0, torch.inf, needed)


def heavy_mass(W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0) -> Tensor:
    """Share of sum |w|^2 held by heavy neurons (needed_zeta <= 1/2); NaN for a zero network."""
    return heavy_mass_of(Neurons.of(W, a, geometry), H)


def heavy_mass_of(
    neurons: Neurons,
    H: float = 0.0,
    heavy_zeta: float = HEAVY_ZETA,
    needed: Tensor | None = None,
) -> Tensor:
    """`heavy_mass` of a table of neurons: (...); `needed` is their `needed_zeta_of`, if at hand."""
    heavy = (needed_zeta_of(neurons, H) if needed is None else needed) <= heavy_zeta
    return (neurons.mass * heavy.to(neurons.mass)).sum(dim=-1) / neurons.mass.sum(dim=-1)


def signal_share_of(neurons: Neurons) -> Tensor:
    """Share of sum |w|^2 that lies in the signal span: (...); k/d for random directions."""
    signal = neurons.coordinates.square().sum(dim=(-2, -1))
    return signal / neurons.mass.sum(dim=-1)


def certificate(W: Tensor, a: Tensor, geometry: ClusterGeometry, H: float = 0.0) -> Tensor:
    """zeta*: the smallest zeta for which the network is (zeta, H)-signal-heavy.

    For a threshold set S = {needed_zeta <= z} both conditions follow from prefix sums over the
    sorted neurons, O(p log p). Adding a neuron to S can only hurt if it is *contested*: if it
    lowers some cluster's margin by more than its own |w|^2 / zeta. Without contested neurons the
    best threshold set is the best of all 2^p sets (proof: then every neuron allowed by (i) helps
    or leaves (ii) as it is). A few contested neurons are settled by trying their subsets; where
    they are too many for `SEARCH_BUDGET` the value is that of the best threshold set, an upper
    bound. In the canonical run none is contested from zeta* of about 10 downwards, so both
    boundaries are exact.

    Args:
        W: first-layer weights (..., p, d).
        a: second-layer weights (..., p).
        geometry: the clusters.
        H: the paper's H, a parameter here (default 0).

    Returns:
        (...), in [0, inf]; infinite if no set S classifies every cluster, NaN if a weight is NaN.
    """
    return certificate_of(Neurons.of(W, a, geometry), H)


def certificate_of(neurons: Neurons, H: float = 0.0, needed: Tensor | None = None) -> Tensor:
    """`certificate` of a table of neurons: (...); `needed` is their `needed_zeta_of`, if at hand."""
    needed = needed_zeta_of(neurons, H) if needed is None else needed
    if neurons.head is not None:
        return _certificate_of_classes(neurons, needed)
    mass, gains = neurons.mass, neurons.contributions
    zeta = _best_threshold_set(needed, mass, gains)
    contested = _contested(zeta, needed, mass, gains)
    # rows of the flattened batch in which few enough neurons are contested to try all subsets
    counts = contested.sum(dim=-1).flatten()
    count_limit = math.floor(math.log2(SEARCH_BUDGET / (needed.shape[-1] + 1)))
    rows = ((counts > 0) & (counts <= count_limit)).nonzero().flatten().tolist()
    if not rows:
        return zeta
    exact = zeta.flatten().clone()
    needed, mass, contested = (t.reshape(-1, t.shape[-1]) for t in (needed, mass, contested))
    gains = gains.reshape(-1, *gains.shape[-2:])
    for row in rows:
        exact[row] = _best_of_subsets(needed[row], mass[row], contested[row], gains[row])
    return exact.reshape(zeta.shape)


def _certificate_of_classes(neurons: Neurons, needed: Tensor) -> Tensor:
    """`certificate` of networks with an output per class: (...)."""
    assert neurons.head is not None
    p, K = neurons.active.shape[-2:]
    # in numbers: as many as with the four clusters of XOR
    count_limit = math.floor(math.log2(SEARCH_BUDGET / (p + 1) * min(1.0, 4 / K)))
    needs, masses = _rows(needed, 1), _rows(neurons.mass, 1)
    actives, heads = _rows(neurons.active, 2), _rows(neurons.head, 2)
    logits, classes = _rows(neurons.logits, 2), neurons.geometry.classes.numpy()
    found = [
        _zeta_of(Network(*tables, classes), count_limit)
        for tables in zip(needs, masses, actives, heads, logits, strict=True)
    ]
    return needed.new_tensor(found).view(needed.shape[:-1])


def _rows(table: Tensor, rank: int) -> NDArray[np.float64]:
    """The table of each network, float64 on the host: (..., *) to (networks, *)."""
    rows: NDArray[np.float64] = table.detach().double().cpu().numpy()
    return rows.reshape(-1, *rows.shape[rows.ndim - rank :])


def _zeta_of(network: Network, count_limit: int) -> float:
    """`certificate` of one network."""
    if not (np.isfinite(network.logits).all() and np.isfinite(network.mass.sum())):
        return math.nan
    none = np.zeros(len(network.mass), dtype=np.bool_)
    zeta = best_zeta(network, none)
    if count_limit < 1:
        return zeta
    contested = none
    (allowed,) = ((network.needed <= zeta) & np.isfinite(network.needed)).nonzero()
    # the first of many tell soon that too many are contested
    for some in np.split(allowed, [2 * (count_limit + 1)]):
        part = network.of(some)
        harm = -least_gains(part)
        # where zeta is infinite, any harm counts
        contested[some] = [h > 0 and h * zeta > m for h, m in zip(harm, part.mass, strict=True)]
        if contested.sum() > count_limit:
            return zeta
    return best_zeta(network, contested) if contested.any() else zeta


def _best_threshold_set(needed: Tensor, mass: Tensor, gains: Tensor) -> Tensor:
    """Smallest max(needed_k, rest_k / margin_k) over the prefixes of the sorted neurons."""
    ranked = order(needed)
    needed, mass = needed.gather(-1, ranked), mass.gather(-1, ranked)
    # clusters first: neurons that stand together in memory are gathered and added up faster
    gains = gains.transpose(-1, -2).contiguous()
    totals = gains.gather(-1, ranked.unsqueeze(-2).expand_as(gains)).cumsum(dim=-1)
    margin, rest = totals.amin(dim=-2), _mass_after(mass)
    zeta = torch.maximum(needed, _ratio(rest, margin)).amin(dim=-1)
    # sums pass on what is not finite
    finite = totals[..., -1].isfinite().all(dim=-1) & mass.sum(dim=-1).isfinite()
    return torch.where(finite, zeta, torch.nan)


def _mass_after(mass: Tensor) -> Tensor:
    """Sum of the entries behind each one, added up from the far end so that small sums stay exact."""
    tail = mass[..., 1:].flip(-1).cumsum(dim=-1).flip(-1)
    return torch.cat([tail, torch.zeros_like(mass[..., :1])], dim=-1)


def _ratio(rest: Tensor, margin: Tensor) -> Tensor:
    """The zeta that condition (ii) asks for; infinite where S leaves a cluster unclassified."""
    return torch.where(margin > 0, rest / margin, torch.inf)


def _contested(zeta: Tensor, needed: Tensor, mass: Tensor, gains: Tensor) -> Tensor:
    """Neurons that condition (i) allows at zeta and that condition (ii) might do without."""
    harm = -gains.amin(dim=-1)
    bound = zeta.unsqueeze(-1)
    # where zeta is infinite, any harm counts; harm > 0 keeps inf * 0 = NaN out
    return (needed <= bound) & needed.isfinite() & (harm > 0) & (harm * bound > mass)


def _best_of_subsets(needed: Tensor, mass: Tensor, contested: Tensor, gains: Tensor) -> Tensor:
    """The exact zeta* of one network, a scalar; shapes (p,), (p,), (p,), (p, K).

    Tries every subset of the contested neurons with every threshold set of the others.
    """
    count = int(contested.sum())
    chosen = (
        torch.arange(2**count, device=mass.device).unsqueeze(1)
        >> torch.arange(count, device=mass.device)
    ) & 1
    chosen = chosen.to(mass)  # (2^q, q)
    subset_needed = (chosen * needed[contested]).amax(dim=1)
    subset_left_out = (1 - chosen) @ mass[contested]
    subset_gain = chosen @ gains[contested]

    ranked = order(needed[~contested])
    needed, mass, gains = (t[~contested][ranked] for t in (needed, mass, gains))
    # the empty threshold set comes first
    needed = torch.cat([needed.new_zeros(1), needed])
    left_out = torch.cat([mass.sum().unsqueeze(0), _mass_after(mass)])
    gain = torch.cat([gains.new_zeros(1, gains.shape[1]), gains.cumsum(dim=0)])
    margin = (subset_gain.unsqueeze(1) + gain).amin(dim=-1)
    rest = subset_left_out.unsqueeze(1) + left_out
    return torch.maximum(
        torch.maximum(subset_needed.unsqueeze(1), needed), _ratio(rest, margin)
    ).amin()
