"""Reduce curves to the points that a screen can show: extremes and given steps stay."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def min_max(
    positions: NDArray[np.float64],
    values: NDArray[np.float64],
    columns: int,
    keep: Iterable[int] = (),
    *,
    log: bool = False,
) -> Indices:
    """Return the indices of the points to draw, ascending: both extremes of every pixel column.

    Args:
        positions: (n,), positions of the points along the axis, ascending and finite.
        values: (n,). NaN and infinity count as gaps; the first gap of a column stays, so that the
            drawn line has the gap too.
        columns: number of pixel columns of equal width, >= 1.
        keep: indices that stay whatever their values are; indices out of range are ignored.
        log: whether the values are drawn on a logarithmic axis: extremes are then those of the
            positive values, and zero or less is a gap only where a column has no positive value.

    Returns:
        All indices if there are no more than two points per column; otherwise the first and last
        point, each column's smallest and largest, its first gap, and `keep`.
    """
    count = len(values)
    if count <= 2 * columns:
        return np.arange(count)
    edges = _edges(positions, columns)
    finite = np.isfinite(values)
    drawn = finite & (values > 0) if log else finite
    # in a column without drawn values both extremes are its first point
    chosen = [np.array([0, count - 1]), _extremes(np.where(drawn, values, np.inf), edges, np.less)]
    chosen.append(_extremes(np.where(drawn, values, -np.inf), edges, np.greater))
    chosen.append(_first_gaps(~finite, edges))
    wanted = np.fromiter(keep, dtype=np.intp)
    chosen.append(wanted[(wanted >= 0) & (wanted < count)])
    return np.unique(np.concatenate(chosen))


def _edges(positions: NDArray[np.float64], columns: int) -> Indices:
    """Return the index at which each pixel column with points begins, and the number of points."""
    ends = np.linspace(positions[0], positions[-1], columns + 1)[1:-1]
    begins = np.searchsorted(positions, ends)
    return np.unique(np.concatenate([[0], begins, [len(positions)]]))


def _extremes(values: NDArray[np.float64], edges: Indices, better: np.ufunc) -> Indices:
    """Return the index of the best value between each two edges."""
    reduce = np.minimum if better is np.less else np.maximum
    best = reduce.reduceat(values, edges[:-1])
    hits = np.flatnonzero(values == np.repeat(best, np.diff(edges)))
    places = np.searchsorted(hits, edges[:-1])  # the first hit of each column
    return hits[places]


def _first_gaps(gaps: NDArray[np.bool_], edges: Indices) -> Indices:
    """Return the index of the first gap between each two edges that have one."""
    hits = np.flatnonzero(gaps)
    places = np.searchsorted(hits, edges[:-1])
    inside = places < len(hits)
    first = hits[places[inside]]
    return first[first < edges[1:][inside]]
