"""zeta* of a network with an output per class: the best set of neurons, found by cuts.

A set's margin is the least of K (n - 1) sums over its neurons, one for each cluster and each rival of its
class. Of these sums K alone are formed at a time: those of the rivals that come closest at one set. They
bound the margin of every set from above, and are its margin at that set. The set with the smallest zeta
under these bounds is looked at next; once it has been looked at, it is the best of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


class Network(NamedTuple):
    """One network, float64.

    Attributes:
        needed: needed_zeta of each neuron, (p,).
        active: act(w_j . c) at each centre, (p, K).
        head: second-layer weights, (p, n).
        logits: their sums over all neurons, (K, n).
        bias: the outputs of the empty set, (n,).
        classes: of the clusters, int64 (K,).
    """

    needed: Table
    active: Table
    head: Table
    logits: Table
    bias: Table
    classes: NDArray[np.int64]


def settled(network: Network, masses: Sequence[Table], most: int) -> list[tuple[float, bool]]:
    """Return zeta* of one network by each mass, and whether it is an upper bound.

    Args:
        network: the network.
        masses: the sizes of its neurons where they are outside the set, (p,) each.
        most: contested neurons that are tried; zeta* is a bound where there are more.
    """
    if not np.isfinite(network.logits).all():
        return [(math.nan, False)] * len(masses)
    thresholds = Search(network, np.zeros(len(network.needed), dtype=np.bool_))
    harm = -least_gains(network)
    return [_settled(network, thresholds, harm, mass, most) for mass in masses]


def _settled(
    network: Network, thresholds: Search, harm: Table, mass: Table, most: int
) -> tuple[float, bool]:
    if not np.isfinite(mass.sum()):
        return math.nan, False
    zeta = thresholds.smallest(mass)
    with np.errstate(invalid="ignore"):  # no harm times an infinite zeta outweighs nothing
        outweighs = (harm > 0) & (harm * zeta > mass)
    contested = outweighs & (network.needed <= zeta) & np.isfinite(network.needed)
    if not contested.any():
        return zeta, False
    if contested.sum() > most:
        return zeta, True
    return Search(network, contested).smallest(mass), False


class Search:
    """The sets of a network and the bounds of their margins, which serve every mass.

    Args:
        network: of finite numbers.
        tried: neurons that are in a set or not, whatever they need, bool (p,).
    """

    def __init__(self, network: Network, tried: NDArray[np.bool_]) -> None:
        self._classes, self._sets = network.classes, _Sets(network, tried)
        shape = self._sets.shape
        self._margins = np.full(shape, np.inf)
        self._seen = np.zeros(shape, dtype=np.bool_)
        self._look((shape[0] - 1, shape[1] - 1), network.logits + network.bias)

    def smallest(self, mass: Table) -> float:
        """Return the smallest zeta over the threshold sets, each with every subset of the tried neurons."""
        sets = self._sets
        left_out = sets.left_out(mass)
        while True:
            asked = np.full(sets.shape, np.inf)
            np.divide(left_out, self._margins, out=asked, where=self._margins > 0)
            zeta = np.maximum(sets.needed, asked)
            at = divmod(int(zeta.argmin()), sets.shape[1])
            if self._seen[at] or zeta[at] == np.inf:
                return float(zeta[at])
            self._look(at, sets.logits(*at))

    def _look(self, at: tuple[int, int], logits: Table) -> None:
        """Bound the margins of all sets by the rivals that come closest at one set, with its logits."""
        margins = self._sets.margins(_rivals(logits, self._classes))
        np.minimum(self._margins, margins, out=self._margins)
        self._seen[at] = True


def least_gains(network: Network) -> Table:
    """Return the least of what each neuron adds to any margin, (p,)."""
    active, own = network.active, network.head[:, network.classes]
    gains = active * (own - _largest_rival(network.head, network.classes))
    if (active < 0).any():
        smallest = -_largest_rival(-network.head, network.classes)
        gains = np.minimum(gains, active * (own - smallest))
    least: Table = gains.min(axis=1)
    return least


class _Sets:
    """The sets that are compared: each subset of q tried neurons, with each threshold set of the r others.

    Attributes:
        shape: (2^q, r + 1), of tables with a number for each set; the smallest threshold sets come first.
        needed: the largest needed_zeta in each set.
    """

    def __init__(self, network: Network, tried: NDArray[np.bool_]) -> None:
        (free,) = tried.nonzero()
        (others,) = (~tried).nonzero()
        fixed = others[np.argsort(network.needed[others])]
        count = len(free)
        # row s holds the neurons whose bit is set in s
        self._chosen = (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.float64)
        self._count = count
        order = np.concatenate([free, fixed])
        self._active, self._head = network.active[order], network.head[order]
        self._own = self._head[:, network.classes]
        self._bias, self._classes = network.bias, network.classes
        needed = network.needed[order]
        self.shape = (2**count, len(fixed) + 1)
        of_subset = (self._chosen * needed[:count]).max(axis=1, initial=0.0)
        of_prefix = np.concatenate([[0.0], needed[count:]])
        self.needed = np.maximum(of_subset[:, None], of_prefix)
        self._order = order

    def left_out(self, mass: Table) -> Table:
        """Return the mass outside each set, at `shape`."""
        tried, fixed = np.split(mass[self._order], [self._count])
        # added up from the far end, so that small sums stay exact
        after = np.concatenate([fixed[::-1].cumsum()[::-1], [0.0]])
        outside: Table = ((1 - self._chosen) @ tried)[:, None] + after
        return outside

    def logits(self, subset: int, prefix: int) -> Table:
        """Return the logits of one set, (K, n)."""
        weights = np.concatenate([self._chosen[subset], np.ones(prefix)])
        inside = len(weights)
        made: Table = (self._active[:inside] * weights[:, None]).T @ self._head[:inside]
        return made + self._bias

    def margins(self, rivals: NDArray[np.int64]) -> Table:
        """Return the margin of each set against one rival of each cluster's class, at `shape`."""
        gains = self._active * (self._own - self._head.take(rivals, axis=1))
        along = np.zeros((self.shape[1], gains.shape[1]))
        gains[self._count :].cumsum(axis=0, out=along[1:])
        along += self._bias[self._classes] - self._bias[rivals]
        if not self._count:
            alone: Table = along.min(axis=1)[None]
            return alone
        of_subset = self._chosen @ gains[: self._count]
        least: Table = (of_subset[:, None] + along).min(axis=2)
        return least


def _rivals(logits: Table, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each cluster the class that comes closest to its own, or is most ahead: int64 (K,)."""
    others = logits.copy()
    others[np.arange(len(classes)), classes] = -np.inf
    found: NDArray[np.int64] = others.argmax(axis=1)
    return found


def _largest_rival(head: Table, classes: NDArray[np.int64]) -> Table:
    """Return each neuron's largest head weight of a class that is not the cluster's own, (p, K)."""
    neurons, top = np.arange(len(head)), head.argmax(axis=1)
    largest, rest = head[neurons, top], head.copy()
    rest[neurons, top] = -np.inf
    second = rest.max(axis=1)
    rivals: Table = np.where(classes == top[:, None], second[:, None], largest[:, None])
    return rivals
