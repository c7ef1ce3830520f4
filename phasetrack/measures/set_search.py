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
    needed: Tensor, mass: Tensor, contested: Tensor, gains: Tensor, offset: Tensor | None
) -> Tensor:
    """The exact zeta* of one network, a scalar; shapes (p,), (p,), (p,), (p, K), (K,).

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
    if offset is not None:
        subset_gain = subset_gain + offset

    ranked = order(needed[~contested])
    needed, mass, gains = (t[~contested][ranked] for t in (needed, mass, gains))
    # the empty threshold set comes first
    needed = torch.cat([needed.new_zeros(1), needed])
    left_out = torch.cat([mass.sum().unsqueeze(0), mass_after(mass)])
    gain = torch.cat([gains.new_zeros(1, gains.shape[1]), gains.cumsum(dim=0)])
    margin = (subset_gain.unsqueeze(1) + gain).amin(dim=-1)
    rest = subset_left_out.unsqueeze(1) + left_out
    return torch.maximum(
        torch.maximum(subset_needed.unsqueeze(1), needed), ratio(rest, margin)
    ).amin()


def tried(budget: float, width: int) -> int:
    """Return how many contested neurons of a network of some width `budget` pairs of (subset, neuron) settle."""
    return max(0, math.floor(math.log2(budget / (width + 1))))
