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
Rows = NDArray[np.intp]

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
# Sums of margins that are formed at once: their tables fit in a cache.
SUMS_AT_ONCE = 2**18
# A Newton step that would gain less, in units of the smoothing, is the last; none is shorter than the least.
ENOUGH, LEAST_STEP = 1e-9, 1e-8
RIDGE = 1e-13
# A proof must hold by more than the rounding of its sums.
ROUNDING = 1e-12


class Relaxed(NamedTuple):
    """One network, float64, or N of them with a leading dimension.

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
    many = Relaxed(*(np.broadcast_to(table, (len(sets), *table.shape)) for table in whole))
    return min(below, high), min(high, float(_attained(many, np.stack(sets)).min()))


def attained_by_some(networks: Relaxed) -> Table:
    """Return the zeta of a set that classifies every cluster, (N,); infinite where none is met.

    The sets next to a relaxed one, at one value of zeta and with coarse smoothing: under 0.1 ms per network, where
    `bounds` is tight and takes a hundred. A value does not depend on the networks beside it.

    Args:
        networks: N networks of finite masses and gains, each table with a leading dimension N.
    """
    possible = np.isfinite(networks.needed)
    # of the networks with any possible neuron the median is finite
    ranked = np.sort(networks.needed, axis=-1)
    middle = np.maximum(possible.sum(axis=-1) - 1, 0) // 2
    zeta = LOOK_AT * np.take_along_axis(ranked, middle[:, None], axis=-1)[:, 0]
    found = np.full(len(zeta), np.inf)
    looked_at = np.isfinite(zeta).nonzero()[0]
    many = max(1, SUMS_AT_ONCE // (networks.offset.shape[-1] << FREE))
    for rows in np.split(looked_at, range(many, len(looked_at), many)):
        found[rows] = _looked_for(Relaxed(*(table[rows] for table in networks)), zeta[rows])
    return found


def _looked_for(networks: Relaxed, zeta: Table) -> Table:
    """`attained_by_some` at a zeta of each network, (N,)."""
    allowed = (networks.needed <= zeta[:, None])[..., None]
    values = np.where(allowed, zeta[:, None, None] * networks.gains + networks.mass[..., None], 0.0)
    size = np.abs(values).max(axis=(-1, -2), initial=0.0)
    even = np.full_like(networks.offset, 1 / networks.offset.shape[-1])
    width = COARSE * np.where(size > 0, size, 1.0)
    _, inside = _descend(values, zeta[:, None] * networks.offset, even, width)
    return _attained(networks, np.where(allowed[..., 0], inside, 0.0))


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
        width = np.array([relative * size])
        weights, inside = (
            only[0] for only in _descend(values[None], constant[None], weights[None], width)
        )
        reached = np.maximum(values @ weights, 0).sum() + constant @ weights
        impossible = bool(reached < total * (1 - ROUNDING))
        if impossible:
            break
    shares = np.zeros(len(allowed))
    shares[allowed] = inside
    return impossible or size == 0, weights, shares


def _descend(values: Table, constant: Table, weights: Table, width: Table) -> tuple[Table, Table]:
    """Minimise sum width softplus(values @ l / width) + constant . l - width sum log l over the simplex, by Newton.

    Args:
        values: (N, p, R).
        constant: (N, R).
        weights: the start, (N, R).
        width: (N,).

    Returns:
        The weights l, (N, R), and the derivative of each neuron's softplus, (N, p). Each problem ends by itself.
    """
    weights, wide = weights.copy(), width[:, None]
    scaled = values / wide[..., None]
    forces = constant / wide

    def cost(rows: Rows, at: Table) -> Table:
        above = _times(scaled[rows], at)
        soft = np.maximum(above, 0) + np.log1p(np.exp(-np.abs(above)))
        whole: Table = (
            soft.sum(axis=-1) - np.log(at).sum(axis=-1) + (forces[rows] * at).sum(axis=-1)
        )
        return whole

    inside = np.zeros(values.shape[:2])
    rows = np.arange(len(weights))
    for _ in range(NEWTON_STEPS):
        at, table = weights[rows], scaled[rows]
        inside[rows] = 0.5 * (1 + np.tanh(_times(table, at) / 2))
        share = inside[rows]
        slope = _times(table.swapaxes(-1, -2), share) + forces[rows] - 1 / at
        move = _newton(table, share * (1 - share), slope, at)
        gain = -(slope * move).sum(axis=-1)
        ends = ~(gain > ENOUGH)
        rows, at, move, gain = rows[~ends], at[~ends], move[~ends], gain[~ends]
        if not rows.size:
            break
        most = np.divide(at, -move, out=np.full_like(at, np.inf), where=move < 0).min(axis=-1)
        step, here = np.minimum(1.0, 0.99 * most), cost(rows, at)
        while True:
            there = cost(rows, at + step[:, None] * move)
            far = (step > LEAST_STEP) & (there > here - 1e-4 * step * gain)
            if not far.any():
                break
            step = np.where(far, step / 2, step)
        weights[rows] = at + step[:, None] * move
    return weights, inside


def _newton(values: Table, curved: Table, slope: Table, at: Table) -> Table:
    """The Newton step that keeps the sum of the weights, (N, R), in units of the weights themselves."""
    stretched = values * at[:, None, :]
    curvature = stretched.swapaxes(-1, -2) @ (curved[..., None] * stretched)
    # two clusters may be served alike by all neurons: a ridge under the rounding keeps the system regular
    ridge = 1 + RIDGE * np.trace(curvature, axis1=-1, axis2=-2)
    system = curvature + ridge[:, None, None] * np.eye(at.shape[-1])
    solved = np.linalg.solve(system, np.stack([at * slope, at], axis=-1))
    down, along = solved[..., 0], solved[..., 1]
    level = (at * down).sum(axis=-1) / (at * along).sum(axis=-1)
    move: Table = at * (level[:, None] * along - down)
    return move


def _times(table: Table, vector: Table) -> Table:
    """The product of each table (N, a, b) with its vector (N, b)."""
    product: Table = (table @ vector[..., None])[..., 0]
    return product


def _attained(networks: Relaxed, shares: Table) -> Table:
    """Return the smallest zeta of the sets next to a relaxed one, (N,); infinite if none classifies every cluster.

    The neurons with the least decided shares, (N, p), are in a set or not, the others by their shares.
    """
    possible = np.isfinite(networks.needed)
    ranked = np.argsort(np.abs(shares - 0.5) + ~possible, axis=-1, kind="stable")[:, :FREE]
    fixed = possible & (shares > 0.5)
    np.put_along_axis(fixed, ranked, False, axis=-1)
    needed = np.where(possible, networks.needed, 0.0)
    each = np.arange(len(shares))[:, None]
    free = possible[each, ranked]
    size = ranked.shape[-1]
    # of all subsets of the free ones: margins (N, R, 2^k), the mass outside and the largest needed, (N, 2^k)
    chosen = (np.arange(2**size) >> np.arange(size)[:, None] & 1).astype(np.float64)
    gains = np.where(free[..., None], networks.gains[each, ranked], 0.0).swapaxes(-1, -2)
    fixed_gain = _times(networks.gains.swapaxes(-1, -2), fixed.astype(np.float64))
    margin = gains @ chosen + (fixed_gain + networks.offset)[..., None]
    mass = np.where(free, networks.mass[each, ranked], 0.0)[:, None]
    rest = np.where(fixed, 0.0, networks.mass).sum(axis=-1)[:, None] - (mass @ chosen)[:, 0]
    most = np.where(fixed, needed, 0.0).max(axis=-1, initial=0.0)[:, None]
    for neuron in ranked.T:  # twice as many subsets with each
        with_it = np.maximum(most, needed[each[:, 0], neuron][:, None])
        most = np.concatenate([most, with_it], axis=-1)
    least = margin.min(axis=1)
    asked = np.divide(rest, least, out=np.full_like(rest, np.inf), where=least > 0)
    smallest: Table = np.maximum(most, asked).min(axis=-1)
    return smallest
