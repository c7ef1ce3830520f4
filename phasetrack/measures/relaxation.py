"""Bounds on zeta* from both sides, where too many neurons are contested to try all sets (theory.md 3).

A set is relaxed to weights 0 <= s_j <= 1 of the neurons that condition (i) allows. Condition (ii) then asks, with v_jr =
zeta g_jr + m_j for the addition g_jr of neuron j to margin r and its mass m_j, and o_r for the margins of the empty set,
that the largest min_r sum_j s_j v_jr + zeta o_r reaches the mass of all neurons. By duality no weights do if
sum_j max(0, v_j . l) + zeta o . l stays under that mass for some weights l of the margins, l >= 0 and sum l = 1. Every l is a
proof by itself, so that rounding and an unfinished search cost tightness and never truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

# Relative distance between neighbouring zeta of the bisection.
PRECISION = 1e-4
# Smoothing of max(0, .), relative to the largest v, and Newton steps at each.
SMOOTHING = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
NEWTON_STEPS = 12
# zeta is not searched beyond this, nor below this share of the smallest that is known to be attained.
LARGEST, SMALLEST = 1e6, 1e-9
# Margins that the relaxation looks at: a Newton step takes their number cubed.
MOST_MARGINS = 64
# Neurons with the least decided shares, all subsets of which are tried.
FREE = 10
# Of one coarse look at the sets: zeta over the median needed zeta, and the smoothing. On XOR with biases (d 16 to 256, 48
# starts) a set was met wherever there was one, 1.3 times the smallest zeta in the median.
LOOK_AT, COARSE = 5.0, 1e-2
# A proof must hold by more than the rounding of its sums.
ROUNDING = 1e-12


class Relaxed(NamedTuple):
    """One network, float64.

    Attributes:
        needed: needed_zeta of each neuron, (p,).
        mass: of each neuron, (p,).
        gains: addition of each neuron to each margin, (p, R).
        offset: the margins of the empty set, (R,).
    """

    needed: Table
    mass: Table
    gains: Table
    offset: Table


def bounds(network: Relaxed, high: float) -> tuple[float, float]:
    """Return (low, high): no set attains a smaller zeta than low, and one attains high.

    Args:
        network: of finite masses and gains.
        high: a zeta that some set attains, or infinity.
    """
    unserved = (network.gains[np.isfinite(network.needed)] <= 0).all(axis=0) & (network.offset <= 0)
    if unserved.any():
        return np.inf, np.inf
    network, whole = _closest(network), network
    count = network.gains.shape[1]
    weights, sets = np.full(count, 1 / count), [np.ones(len(network.mass))]
    below, above = 0.0, high if np.isfinite(high) else 1.0
    while not np.isfinite(high):
        impossible, weights, shares = _dual(network, above, weights)
        sets.append(shares)
        if not impossible:
            break
        below, above = above, 4 * above
        if above > LARGEST:
            return np.inf, np.inf
    # condition (i) lets no neuron in below the least needed
    least = float(network.needed.min(initial=np.inf))
    below = min(max(below, least * (1 - PRECISION), above * SMALLEST), above)
    while above > below * (1 + PRECISION):
        zeta = float(np.sqrt(below * above))
        impossible, weights, shares = _dual(network, zeta, weights)
        sets.append(shares)
        below, above = (zeta, above) if impossible else (below, zeta)
    return min(below, high), min(high, *(_attained(whole, shares) for shares in sets))


def attained_by_some(network: Relaxed) -> float:
    """Return the zeta of a set that classifies every cluster; infinite if none is met.

    The sets next to a relaxed one, at one value of zeta and with coarse smoothing: about 1 ms, where `bounds` is
    tight and takes a hundred.

    Args:
        network: of finite masses and gains.
    """
    possible = np.isfinite(network.needed)
    if not possible.any():
        return np.inf
    zeta = LOOK_AT * float(np.median(network.needed[possible]))
    allowed = network.needed <= zeta
    values = zeta * network.gains[allowed] + network.mass[allowed, None]
    size, count = np.abs(values).max(initial=0.0), network.gains.shape[1]
    if size == 0:
        return np.inf
    even = np.full(count, 1 / count)
    _, inside = _descend(values, zeta * network.offset, even, COARSE * size)
    shares = np.zeros(len(allowed))
    shares[allowed] = inside
    return _attained(network, shares)


def _closest(network: Relaxed) -> Relaxed:
    """Return the network with its smallest margins alone: fewer conditions are met at no larger zeta."""
    margins = network.gains.sum(axis=0) + network.offset
    rows = np.argsort(margins, kind="stable")[:MOST_MARGINS]
    return network._replace(gains=network.gains[:, rows], offset=network.offset[rows])


def _dual(network: Relaxed, zeta: float, start: Table) -> tuple[bool, Table, Table]:
    """Look for a proof that no set attains zeta.

    Args:
        network: the network.
        zeta: the value in question.
        start: weights of the margins to begin at, (R,).

    Returns:
        Whether a proof was found, the last weights of the margins, (R,), and the share of each neuron in
        the relaxed set, (p,).
    """
    allowed = network.needed <= zeta
    values = zeta * network.gains[allowed] + network.mass[allowed, None]
    constant, total = zeta * network.offset, network.mass.sum()
    weights = start + 1e-6
    weights /= weights.sum()
    size = np.abs(values).max(initial=0.0)
    inside = np.zeros(len(values))
    impossible = False
    for relative in SMOOTHING if size > 0 else ():
        weights, inside = _descend(values, constant, weights, relative * size)
        reached = np.maximum(values @ weights, 0).sum() + constant @ weights
        impossible = bool(reached < total * (1 - ROUNDING))
        if impossible:
            break
    shares = np.zeros(len(allowed))
    shares[allowed] = inside
    return impossible or size == 0, weights, shares


def _descend(values: Table, constant: Table, weights: Table, width: float) -> tuple[Table, Table]:
    """Minimise sum width softplus(values @ l / width) + constant . l - width sum log l over the simplex, by Newton."""
    count = len(weights)

    def cost(at: Table) -> float:
        return float(
            width * (np.logaddexp(0, values @ at / width).sum() - np.log(at).sum()) + constant @ at
        )

    system = np.ones((count + 1, count + 1))
    system[-1, -1] = 0.0
    inside = np.zeros(len(values))
    for _ in range(NEWTON_STEPS):
        inside = 0.5 * (1 + np.tanh(values @ weights / (2 * width)))
        slope = values.T @ inside + constant - width / weights
        curvature = (values * (inside * (1 - inside) / width)[:, None]).T @ values
        system[:-1, :-1] = curvature + np.diag(width / weights**2)
        # least squares: two clusters may be served alike by all neurons
        move = np.linalg.lstsq(system, np.append(-slope, 0.0), rcond=None)[0][:-1]
        gain = -slope @ move
        if not gain > 1e-9 * width:
            break
        shrinking = move < 0
        step = min(1.0, 0.99 * float((weights[shrinking] / -move[shrinking]).min(initial=np.inf)))
        here = cost(weights)
        while step > 1e-8 and cost(weights + step * move) > here - 1e-4 * step * gain:
            step /= 2
        weights = weights + step * move
    return weights, inside


def _attained(network: Relaxed, shares: Table) -> float:
    """Return the smallest zeta of the sets next to a relaxed one; infinite if none classifies every cluster.

    The neurons with the least decided shares are in a set or not, the others by their shares.
    """
    possible = np.isfinite(network.needed)
    free, fixed = np.split(np.argsort(np.abs(shares - 0.5) + ~possible, kind="stable"), [FREE])
    free = free[possible[free]]
    fixed = fixed[possible[fixed] & (shares[fixed] > 0.5)]
    chosen = (np.arange(2 ** len(free))[:, None] >> np.arange(len(free)) & 1).astype(np.float64)
    margin = chosen @ network.gains[free] + network.gains[fixed].sum(axis=0) + network.offset
    outside = np.delete(network.mass, np.concatenate([free, fixed])).sum()
    rest = outside + (1 - chosen) @ network.mass[free]
    least = margin.min(axis=1)
    asked = np.divide(rest, least, out=np.full(len(rest), np.inf), where=least > 0)
    needed = (chosen * network.needed[free]).max(axis=1, initial=0.0)
    most = network.needed[fixed].max(initial=0.0)
    return float(np.maximum(np.maximum(needed, most), asked).min())
