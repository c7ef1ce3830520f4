"""Fewer points for the screen, without losing what can be seen: extremes and given steps stay."""

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
    """Indices of the points to draw, ascending: both extremes of every pixel column.

    Args:
        positions: (n,), where the points lie along the axis, ascending and finite.
        values: (n,). NaN and infinity count as gaps: where a column has any, its first one stays, so
            that the gap is seen.
        columns: how many pixel columns of equal width there are, >= 1.
        keep: indices that stay whatever their values are; those out of range are ignored.
        log: whether the values are drawn on a logarithmic axis: extremes are then those of the
            positive ones, and zero or less is a gap only where a column has nothing else.

    Returns:
        All indices if there are no more than two points a column; otherwise first and last, each
        column's smallest and largest, its first gap, and `keep`.
    """
    count = len(values)
    if count <= 2 * columns:
        return np.arange(count)
    edges = _edges(positions, columns)
    finite = np.isfinite(values)
    drawn = finite & (values > 0) if log else finite
    # of a column in which nothing is drawn both take the first point
    chosen = [np.array([0, count - 1]), _extremes(np.where(drawn, values, np.inf), edges, np.less)]
    chosen.append(_extremes(np.where(drawn, values, -np.inf), edges, np.greater))
    chosen.append(_first_gaps(~finite, edges))
    wanted = np.fromiter(keep, dtype=np.intp)
    chosen.append(wanted[(wanted >= 0) & (wanted < count)])
    return np.unique(np.concatenate(chosen))


def _edges(positions: NDArray[np.float64], columns: int) -> Indices:
    """Index at which each pixel column with points begins, and the count of points."""
    ends = np.linspace(positions[0], positions[-1], columns + 1)[1:-1]
    begins = np.searchsorted(positions, ends)
    return np.unique(np.concatenate([[0], begins, [len(positions)]]))


def _extremes(values: NDArray[np.float64], edges: Indices, better: np.ufunc) -> Indices:
    """Index of the best value between each two edges."""
    reduce = np.minimum if better is np.less else np.maximum
    best = reduce.reduceat(values, edges[:-1])
    hits = np.flatnonzero(values == np.repeat(best, np.diff(edges)))
    places = np.searchsorted(hits, edges[:-1])  # the first hit of each column
    return hits[places]


def _first_gaps(gaps: NDArray[np.bool_], edges: Indices) -> Indices:
    """Index of the first gap between each two edges, where there is one."""
    hits = np.flatnonzero(gaps)
    places = np.searchsorted(hits, edges[:-1])
    inside = places < len(hits)
    first = hits[places[inside]]
    return first[first < edges[1:][inside]]
