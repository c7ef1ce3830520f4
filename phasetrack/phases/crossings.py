"""Where a reading crosses a level: between two records, or by a line through several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from phasetrack.phases.recent_mean import Measured

# Points that a local fit makes of the records of one window. Chosen here.
POINTS_PER_WINDOW = 4
# Points from which their scatter about a line counts as its error.
LEAST_POINTS = 4
# Ratio of the longest to the shortest gap between points up to which they count as evenly spaced. A heuristic of ours.
EVEN = 2.0


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


class Onset(NamedTuple):
    """A crossing and its interval."""

    step: float
    low: float
    high: float


class _Point(NamedTuple):
    step: float
    value: float
    error: float


def local_crossing(
    records: Sequence[Measured],
    level: float,
    errors: float,
    *,
    window: int = 1,
    rising: bool = False,
) -> Onset:
    """Cross `level` by a straight line through records, in the logarithm where all are positive.

    The interval is `errors` standard errors of the line to either side, from the scatter of the points
    about it and from the samples behind them. Fewer than four points say nothing of their scatter:
    the interval then holds the records on either side too. Where the line does not cross the level within
    the records, neighbouring points are interpolated, and the interval is all of the records.

    Records at log-spaced steps reach over a large part of a run, where no line holds: the two about the last crossing
    are then interpolated, and are the interval.

    Args:
        records: in the order of their steps, the last one beyond the level.
        level: to be crossed.
        errors: standard errors on either side.
        window: the records that the reading is averaged over; the line goes through means of a quarter of it.
        rising: whether the reading crosses from below.

    >>> records = [Measured(t, 2.0 ** (3 - t), 1.0, 1.0, 0.0) for t in range(7)]
    >>> [round(part, 6) for part in local_crossing(records, 1.0, 2.0)]
    [3.0, 3.0, 3.0]
    """
    points = _pooled(records, math.ceil(window / POINTS_PER_WINDOW))
    first, last = float(records[0].step), float(records[-1].step)
    crossed = first_crossing(((p.step, p.value) for p in points), level, rising=rising)
    if len(points) < 2 or math.isnan(crossed):
        return Onset(last, first, last)
    if not _evenly_spaced(points):
        return _between(points, level, rising=rising) or Onset(crossed, first, last)
    line = _line(points, level)
    if line is None or not first <= line.step <= last:
        return Onset(crossed, first, last)
    low, high = line.step - errors * line.error, line.step + errors * line.error
    if len(points) < LEAST_POINTS:
        ends = [point.step for point in points]
        low = min(low, max((step for step in ends if step <= line.step), default=first))
        high = max(high, min((step for step in ends if step >= line.step), default=last))
    return Onset(line.step, max(low, first), min(high, last))


def _evenly_spaced(points: Sequence[_Point]) -> bool:
    gaps = [after.step - before.step for before, after in pairwise(points)]
    return max(gaps) <= EVEN * min(gaps)


def _between(points: Sequence[_Point], level: float, *, rising: bool) -> Onset | None:
    """Return the last crossing between neighbouring points; None if no two are about the level."""
    for before, after in reversed(list(pairwise(points))):
        near, far = (before, after) if rising else (after, before)
        if near.value < level <= far.value:
            at = crossing(before.step, before.value, after.step, after.value, level)
            return Onset(at, before.step, after.step)
    return None


class _Crossing(NamedTuple):
    step: float
    error: float


def _line(points: Sequence[_Point], level: float) -> _Crossing | None:
    """Return where the line of least squares crosses the level; None where it is flat."""
    if not all(math.isfinite(p.value) for p in points):
        return None
    values, errors = [p.value for p in points], [p.error for p in points]
    if min(*values, level) > 0:
        errors = [error / value for error, value in zip(errors, values, strict=True)]
        values, level = [math.log(value) for value in values], math.log(level)
    count = len(points)
    middle = sum(p.step for p in points) / count
    mean = sum(values) / count
    steps = [p.step - middle for p in points]
    length = sum(step * step for step in steps)
    slope = sum(step * value for step, value in zip(steps, values, strict=True)) / length
    if slope == 0:
        return None
    at = (level - mean) / slope
    gaps = (v - mean - slope * s for s, v in zip(steps, values, strict=True))
    scatter = sum(gap * gap for gap in gaps) / (count - 2) if count >= LEAST_POINTS else 0.0
    variance = max(scatter, sum(error * error for error in errors) / count)
    error = math.sqrt(variance * (1 / count + at * at / length)) / abs(slope)
    return _Crossing(middle + at, error)


def _pooled(records: Sequence[Measured], size: int) -> list[_Point]:
    """Return the weighted mean of every `size` neighbouring records; the first may be of fewer."""
    first = len(records) % size
    groups = [records[:first]] if first else []
    groups += [records[start : start + size] for start in range(first, len(records), size)]
    return [_point(group) for group in groups]


def _point(records: Sequence[Measured]) -> _Point:
    weight = sum(r.weight for r in records)
    if len(records) == 1 or not weight > 0:
        only = records[-1]
        error = 0.0 if math.isnan(only.spread) else only.spread / math.sqrt(only.samples)
        return _Point(only.step, only.value, error)
    step = sum(r.weight * r.step for r in records) / weight
    value = sum(r.weight * r.value for r in records) / weight
    known = [r for r in records if not math.isnan(r.spread)]
    variance = sum(r.weight * r.spread**2 for r in known) / weight
    return _Point(step, value, math.sqrt(variance / sum(r.samples for r in records)))


def surrounding(
    records: Sequence[Measured], window: int, level: float, *, rising: bool = False
) -> Sequence[Measured]:
    """Return the last records, as many before a reading's crossing of `level` as after it.

    Args:
        records: in the order of their steps.
        window: the records that the reading was averaged over; twice as many are taken at least.
        level: that was crossed; the last record on its near side ends the part before.
        rising: whether the reading crossed from below.
    """
    after = 0
    for record in reversed(records):
        if (record.value < level) if rising else (record.value > level):
            break
        after += 1
    return records[-2 * max(window, after) :]
