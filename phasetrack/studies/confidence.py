"""Means, shares and slopes over seeds, each with its confidence interval. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval; NaN where data are too few for one."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Three digits each, and whole numbers in the thousands."""
        if math.isnan(self.low):
            return _shown(self.value)
        return f"{_shown(self.value)} [{_shown(self.low)}, {_shown(self.high)}]"


def _shown(value: float) -> str:
    """A number for people.

    >>> _shown(0.12345), _shown(1147.3), _shown(1.5e9)
    ('0.123', '1147', '1.5e+09')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def mean(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean with Student's t interval; what is not finite is left out.

    >>> str(mean([1.0, 2.0, 3.0]))
    '2 [-0.484, 4.48]'
    """
    known = np.asarray([value for value in values if math.isfinite(value)], dtype=float)
    if not known.size:
        return Interval(math.nan, math.nan, math.nan, 0)
    middle = float(known.mean())
    if known.size < 2:
        return Interval(middle, math.nan, math.nan, known.size)
    half = student(known.size - 1, level) * float(known.std(ddof=1)) / math.sqrt(known.size)
    return Interval(middle, middle - half, middle + half, known.size)


def share(successes: int, count: int, level: float = LEVEL) -> Interval:
    """Share of successes with Wilson's interval, which holds at 0 and 1 too.

    >>> str(share(5, 5))
    '1 [0.566, 1]'
    """
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half), count)


def slope(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Interval:
    """Slope of the least-squares line of y over x, with Student's t interval."""
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = np.isfinite(across) & np.isfinite(up)
    across, up = across[known], up[known]
    if len(across) < 3:
        return Interval(math.nan, math.nan, math.nan, len(across))
    spread = float(((across - across.mean()) ** 2).sum())
    steep = float(((across - across.mean()) * (up - up.mean())).sum()) / spread
    rest = up - up.mean() - steep * (across - across.mean())
    error = math.sqrt(float((rest**2).sum()) / (len(across) - 2) / spread)
    half = student(len(across) - 2, level) * error
    return Interval(steep, steep - half, steep + half, len(across))


def determination(x: ArrayLike, y: ArrayLike) -> float:
    """R^2 of the least-squares line of y over x."""
    return float(np.corrcoef(np.asarray(x), np.asarray(y))[0, 1] ** 2)


def student(dof: int, level: float = LEVEL) -> float:
    """The quantile of Student's t that a two-sided interval reaches to, for whole degrees of freedom.

    >>> round(student(1), 3), round(student(4), 3), round(student(1000), 3)
    (12.706, 2.776, 1.962)
    """
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, dof) < level else (low, middle)
    return high


def _inside(t: float, dof: int) -> float:
    """Probability of (-t, t): the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(dof))
    cosine, sine = math.cos(angle), math.sin(angle)
    # powers of the cosine from 0 (even) or 1 (odd) up to dof - 2, each with its coefficient
    first, term, total = dof % 2, 1.0 if dof % 2 == 0 else cosine, 0.0
    for power in range(first, dof - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return sine * total if first == 0 else 2 / math.pi * (angle + sine * total)
