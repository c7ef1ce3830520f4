"""Means, shares and slopes over seeds, each with its confidence interval. No torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from phasetrack.display.style import rounded
from phasetrack.errors import ExpectedError

LEVEL = 0.95
NO_SCIPY = "scipy, which computes Student's t, is not installed."
INSTALL = "Run pip install 'phasetrack[claims]'."


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval, NaN where the data allow no interval.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
        count: values that the estimate is made of.
        freedom: degrees of freedom of a Student's t interval; 0 for an interval of another kind.
        successes: of a share, out of `count`; None for any other estimate.
        level: confidence of the interval.
    """

    value: float
    low: float
    high: float
    count: int
    freedom: int = 0
    successes: int | None = None
    level: float = LEVEL

    @property
    def error(self) -> float:
        """The standard error that a Student's t interval is made of; NaN for any other."""
        if self.freedom < 1:
            return math.nan
        return (self.high - self.low) / 2 / student(self.freedom, self.level)

    def __str__(self) -> str:
        """Format value and ends with three digits each, or as whole numbers from 1000 on."""
        if math.isnan(self.low):
            return rounded(self.value)
        return f"{rounded(self.value)} [{rounded(self.low)}, {rounded(self.high)}]"


def mean(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the mean of the finite values with its Student's t interval.

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
    return Interval(middle, middle - half, middle + half, known.size, known.size - 1, level=level)


def share(successes: int, count: int, level: float = LEVEL) -> Interval:
    """Return the share of successes with Wilson's interval, which also holds at 0 and 1.

    >>> str(share(5, 5))
    '1 [0.566, 1]'
    """
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    # at 0 and 1 the end is exact, and rounding would hide it
    low = max(0.0, middle - half) if successes else 0.0
    high = min(1.0, middle + half) if successes < count else 1.0
    return Interval(p, low, high, count, successes=successes, level=level)


def share_of(flags: Iterable[bool], level: float = LEVEL) -> Interval:
    """Return the share of true values with Wilson's interval.

    >>> str(share_of([True, True, True, True, True]))
    '1 [0.566, 1]'
    """
    known = [bool(flag) for flag in flags]
    return share(sum(known), len(known), level)


def pooled(estimates: Sequence[Interval], level: float = LEVEL) -> Interval:
    """Return the joint estimate of disjoint samples of one size.

    Shares are counted together. Errors of Student's t intervals add in quadrature, with all their degrees of
    freedom; of any other estimate the values have an interval of their own.

    >>> str(pooled([mean([1.0, 2.0, 3.0]), mean([3.0, 4.0, 5.0])]))
    '3 [1.87, 4.13]'
    """
    if len(estimates) == 1 and estimates[0].level == level:
        return estimates[0]
    successes = [each.successes for each in estimates if each.successes is not None]
    if len(successes) == len(estimates):
        return share(sum(successes), sum(each.count for each in estimates), level)
    errors = [each.error for each in estimates]
    if len(estimates) == 1 and not math.isfinite(errors[0]):
        return estimates[0]
    if not all(map(math.isfinite, errors)):
        return mean([each.value for each in estimates], level)
    value = sum(each.value for each in estimates) / len(estimates)
    freedom = sum(each.freedom for each in estimates)
    half = student(freedom, level) * math.hypot(*errors) / len(estimates)
    count = sum(each.count for each in estimates)
    return Interval(value, value - half, value + half, count, freedom, level=level)


def power(
    values: Mapping[int, Sequence[float]] | Mapping[float, Sequence[float]], level: float = LEVEL
) -> Interval:
    """Return the exponent k in y ~ x^k, the slope of log y over log x, from the values of y at each x.

    >>> power({1.0: [3.0], 2.0: [12.0], 4.0: [48.0]}).value
    2.0
    """
    across = [math.log(x) for x, each in values.items() for _ in each]
    return slope(across, [math.log(y) for each in values.values() for y in each], level)


def slope(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the slope of the least-squares line of y over x with its Student's t interval."""
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
    return Interval(steep, steep - half, steep + half, len(across), len(across) - 2, level=level)


def student(dof: int, level: float = LEVEL) -> float:
    """Return the multiple of the standard error that a two-sided Student's t interval reaches to.

    NaN, with one warning, where scipy is not installed: estimates are then shown without an interval.

    >>> round(student(1), 3), round(student(4), 3), round(student(1000), 3)
    (12.706, 2.776, 1.962)
    """
    if find_spec("scipy") is None:
        warnings.warn(f"Confidence intervals are left out: {NO_SCIPY} {INSTALL}", stacklevel=2)
        return math.nan
    from scipy.special import stdtrit  # as scipy.stats.t.ppf, which takes a second to import

    return float(stdtrit(dof, (1 + level) / 2))


def check_intervals() -> None:
    """Raise ExpectedError unless Student's t intervals can be computed."""
    if find_spec("scipy") is None:
        raise ExpectedError("scipy", NO_SCIPY, INSTALL)
