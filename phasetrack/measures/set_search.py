"""zeta* of networks with one output: the best set of neurons, by prefix sums and a search over the contested ones."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.measures.sorting import order


class ThresholdSets:
    """The sets {needed_zeta <= z} of a batch of networks, whose margins serve every kind of mass.

    Args:
        needed: needed_zeta of each neuron, (..., p).
        gains: the addition of each neuron to each cluster's margin, (..., p, K).
        offset: the margins of the empty set, (..., K), which biases of the output make; None: 0.
    """

    def __init__(self, needed: Tensor, gains: Tensor, offset: Tensor | None = None) -> None:
        self.needed, self.gains, self.offset = needed, gains, offset
        self._ranked = order(needed)
        self._sorted_needed = needed.gather(-1, self._ranked)
        # clusters first: neurons that stand together in memory are gathered and added up faster
        columns = gains.transpose(-1, -2).contiguous()
        totals = columns.gather(-1, self._ranked.unsqueeze(-2).expand_as(columns)).cumsum(dim=-1)
        if offset is not None:
            totals = totals + offset.unsqueeze(-1)
        self._margin = totals.amin(dim=-2)
        # sums pass on what is not finite
        self._finite = totals[..., -1].isfinite().all(dim=-1)

    def best(self, mass: Tensor) -> Tensor:
        """Return the smallest max(needed_k, rest_k / margin_k) over the sets, (...); mass is (..., p)."""
        rest = mass_after(mass.gather(-1, self._ranked))
        zeta = torch.maximum(self._sorted_needed, ratio(rest, self._margin)).amin(dim=-1)
        return torch.where(self._finite & mass.sum(dim=-1).isfinite(), zeta, torch.nan)

    @cached_property
    def _harm(self) -> Tensor:
        """The most that each neuron takes from a cluster's margin, (..., p)."""
        return -self.gains.amin(dim=-1)

    def contested(self, zeta: Tensor, mass: Tensor) -> Tensor:
        """Return the neurons that condition (i) allows at zeta and that (ii) might do without, bool (..., p)."""
        bound = zeta.unsqueeze(-1)
        # where zeta is infinite, any harm counts; harm > 0 keeps inf * 0 = NaN out
        return (
            (self.needed <= bound)
            & self.needed.isfinite()
            & (self._harm > 0)
            & (self._harm * bound > mass)
        )


def mass_after(mass: Tensor) -> Tensor:
    """Sum of the entries behind each one, added up from the far end so that small sums stay exact."""
    tail = mass[..., 1:].flip(-1).cumsum(dim=-1).flip(-1)
    return torch.cat([tail, torch.zeros_like(mass[..., :1])], dim=-1)


def ratio(rest: Tensor, margin: Tensor) -> Tensor:
    """The zeta that condition (ii) asks for; infinite where S leaves a cluster unclassified."""
    return torch.where(margin > 0, rest / margin, torch.inf)


def best_of_subsets(
    zeta: Tensor,
    needed: Tensor,
    mass: Tensor,
    contested: Tensor,
    gains: Tensor,
    offset: Tensor | None,
) -> Tensor:
    """The exact zeta* of R networks with as many contested neurons each, (R,).

    Of the first k neurons by needed_zeta a set takes those that are not contested, and some subset of the others.
    Up to `zeta` the best such set asks for less zeta by condition (ii) with every k, and for more by (i):
    the best k is where the two cross, found by bisection.

    Args:
        zeta: of the best threshold set, at which the neurons are contested, (R,).
        needed: needed_zeta of each neuron, (R, p).
        mass: (R, p).
        contested: bool (R, p), with q True per row.
        gains: the addition of each neuron to each cluster's margin, (R, p, K).
        offset: the margins of the empty set, (R, K); None: 0.
    """
    ranked = order(needed)
    needed, mass, contested = (t.gather(1, ranked) for t in (needed, mass, contested))
    gains = gains.gather(1, ranked.unsqueeze(-1).expand_as(gains))
    places = contested.nonzero()[:, 1].view(len(needed), -1)
    subsets = _Subsets(
        places, mass.gather(1, places), gains.gather(1, _columns(places, gains)), offset
    )
    # the empty set comes first
    none = mass.new_zeros(len(mass), 1)
    needed = torch.cat([none, needed], dim=1)
    mass = mass.masked_fill(contested, 0.0)
    left_out = torch.cat([mass.sum(dim=1, keepdim=True), mass_after(mass)], dim=1)
    gains = gains.masked_fill(contested.unsqueeze(-1), 0.0)
    gained = torch.cat(
        [none.unsqueeze(-1).expand(-1, 1, gains.shape[-1]), gains.cumsum(dim=1)], dim=1
    )

    allowed = (needed[:, 1:] <= zeta.unsqueeze(1)) & needed[:, 1:].isfinite()
    high = allowed.sum(dim=1, keepdim=True)
    low = torch.zeros_like(high)
    best = subsets.asked(high, left_out, gained).maximum(needed.gather(1, high))
    while bool((low < high).any()):
        middle = (low + high).div(2, rounding_mode="floor")
        asked, own = subsets.asked(middle, left_out, gained), needed.gather(1, middle)
        best = best.minimum(asked.maximum(own))
        crossed = asked <= own
        high, low = torch.where(crossed, middle, high), torch.where(crossed, low, middle + 1)
    return best.squeeze(1)


class _Subsets:
    """All subsets of the contested neurons of R networks.

    Args:
        places: of the contested neurons among all by needed_zeta, ascending, int64 (R, q).
        mass: theirs, (R, q).
        gains: theirs, (R, q, K).
        offset: the margins of the empty set, (R, K); None: 0.
    """

    def __init__(self, places: Tensor, mass: Tensor, gains: Tensor, offset: Tensor | None) -> None:
        self._first = torch.zeros_like(
            places[:, :1]
        )  # thresholds from which on a subset is allowed
        self._left_out = torch.zeros_like(mass[:, :1])
        self._gained = torch.zeros_like(gains[:, :1]) if offset is None else offset.unsqueeze(1)
        # each neuron doubles them; sums of a fixed order, so that the last digits do not depend on R
        neurons = zip(
            *(torch.split(table, 1, dim=1) for table in (places, mass, gains)), strict=True
        )
        for place, size, gain in neurons:
            self._first = torch.cat([self._first, (place + 1).expand_as(self._first)], dim=1)
            self._left_out = torch.cat([self._left_out + size, self._left_out], dim=1)
            self._gained = torch.cat([self._gained, self._gained + gain], dim=1)

    def asked(self, threshold: Tensor, left_out: Tensor, gained: Tensor) -> Tensor:
        """Return the zeta that condition (ii) asks of the best set at a threshold of each network, (R, 1).

        Args:
            threshold: how many neurons by needed_zeta a set may take from, int64 (R, 1).
            left_out: mass of the other neurons outside, for each threshold, (R, p + 1).
            gained: margins of the other neurons inside, for each threshold, (R, p + 1, K).
        """
        fixed = gained.gather(1, _columns(threshold, gained))
        margin = (self._gained + fixed).amin(dim=-1)
        zeta = ratio(self._left_out + left_out.gather(1, threshold), margin)
        return zeta.masked_fill(self._first > threshold, torch.inf).amin(dim=1, keepdim=True)


def _columns(places: Tensor, table: Tensor) -> Tensor:
    return places.unsqueeze(-1).expand(-1, -1, table.shape[-1])


def tried(budget: float, width: int) -> int:
    """Return how many contested neurons of a network of some width `budget` pairs of (subset, neuron) settle."""
    return max(0, math.floor(math.log2(budget / (width + 1))))
