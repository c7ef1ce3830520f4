"""Where a reading crosses a level, interpolated between records."""

from __future__ import annotations

import math
from collections.abc import Iterable


def crossing(step0: float, value0: float, step1: float, value1: float, level: float) -> float:
    """Interpolate the step at which a reading on its way from value0 to value1 passes `level`.

    Interpolates the logarithm where all three are positive (zeta*, errors and losses change by
    factors), the value itself otherwise.

    >>> crossing(10, 4.0, 12, 0.25, 1.0)
    11.0
    """
    if not (math.isfinite(value0) and math.isfinite(value1)) or value0 == value1:
        return float(step1)
    if min(value0, value1, level) > 0:
        value0, value1, level = math.log(value0), math.log(value1), math.log(level)
    return step0 + (step1 - step0) * (value0 - level) / (value0 - value1)


def first_crossing(
    points: Iterable[tuple[float, float]], level: float, *, rising: bool = False
) -> float:
    """Interpolate the first step at which a falling reading is at or under `level`; NaN if never.

    A rising reading is compared from the other side.

    >>> first_crossing([(0, 4.0), (1, 2.0), (2, 0.5)], 1.0)
    1.5
    >>> first_crossing([(0, 0.25), (1, 0.5), (2, 2.0)], 1.0, rising=True)
    1.5
    """
    before: tuple[float, float] | None = None
    for step, value in points:
        if value >= level if rising else value <= level:
            return float(step) if before is None else crossing(*before, step, value, level)
        if not math.isnan(value):
            before = (step, value)
    return math.nan
