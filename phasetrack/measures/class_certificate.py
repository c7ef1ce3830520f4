"""zeta* of a network with an output per class: the best set of neurons, found by cuts.

A set's margin is the least of K (n - 1) sums over its neurons, one for each cluster and each rival of its
class. Of these sums K alone are formed at a time: those of the rivals that come closest at one set. They
bound the margin of every set from above, and are its margin at that set. The set with the smallest zeta
under these bounds is looked at next; once it has been looked at, it is the best of all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


class Network(NamedTuple):
    """One network, float64.

    Attributes:
        needed: needed_zeta of each neuron, (p,).
        mass: the size of each neuron where it is outside the set, (p,).
        active: act(w_j . c) at each centre, (p, K).
        head: second-layer weights, (p, n).
        logits: their sums over all neurons, (K, n).
        bias: the outputs of the empty set, (n,).
        classes: of the clusters, int64 (K,).
    """

    needed: Table
    mass: Table
    active: Table
    head: Table
    logits: Table
    bias: Table
    classes: NDArray[np.int64]

    def of(self, neurons: NDArray[np.int64]) -> Network:
        """The tables of some neurons, beside the logits of all."""
        return self._replace(
            needed=self.needed[neurons],
            mass=self.mass[neurons],
            active=self.active[neurons],
            head=self.head[neurons],
        )


def settled(network: Network, most: int) -> tuple[float, bool]:
    """Return zeta* of one network, and whether it is an upper bound: more than `most` neurons are contested."""
    if not (np.isfinite(network.logits).all() and np.isfinite(network.mass.sum())):
        return math.nan, False
    contested = np.zeros(len(network.mass), dtype=np.bool_)
    zeta = best_zeta(network, contested)
    (allowed,) = ((network.needed <= zeta) & np.isfinite(network.needed)).nonzero()
    # the first of many tell soon that too many are contested
    for some in np.split(allowed, [2 * (most + 1)]):
        part = network.of(some)
        harm = -least_gains(part)
        # where zeta is infinite, any harm counts
        contested[some] = [h > 0 and h * zeta > m for h, m in zip(harm, part.mass, strict=True)]
        if contested.sum() > most:
            return zeta, bool(contested.any())
    return (best_zeta(network, contested) if contested.any() else zeta), False


def best_zeta(network: Network, tried: NDArray[np.bool_]) -> float:
    """Return the smallest zeta over the threshold sets, each with every subset of the tried neurons.

    Args:
        network: of finite numbers.
        tried: neurons that are in a set or not, whatever they need, bool (p,).
    """
    sets = _Sets(network, tried)
    margins = np.full(sets.shape, np.inf)
    seen = np.zeros(sets.shape, dtype=np.bool_)
    at = (sets.shape[0] - 1, sets.shape[1] - 1)
    logits = network.logits + network.bias
    while True:
        margins = np.minimum(margins, sets.margins(_rivals(logits, network.classes)))
        seen[at] = True
        asked = np.full(sets.shape, np.inf)
        np.divide(sets.left_out, margins, out=asked, where=margins > 0)
        zeta = np.maximum(sets.needed, asked)
        first, second = divmod(int(zeta.argmin()), sets.shape[1])
        at = (first, second)
        if seen[at] or zeta[at] == np.inf:
            return float(zeta[at])
        logits = sets.logits(*at)


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
        left_out: the mass outside each set.
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
        needed, mass = network.needed[order], network.mass[order]
        self.shape = (2**count, len(fixed) + 1)
        of_subset = (self._chosen * needed[:count]).max(axis=1, initial=0.0)
        of_prefix = np.concatenate([[0.0], needed[count:]])
        self.needed = np.maximum(of_subset[:, None], of_prefix)
        # added up from the far end, so that small sums stay exact
        after = np.concatenate([mass[count:][::-1].cumsum()[::-1], [0.0]])
        self.left_out = ((1 - self._chosen) @ mass[:count])[:, None] + after

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
