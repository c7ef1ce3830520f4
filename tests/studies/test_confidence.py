"""Intervals against scipy, and their coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from phasetrack.studies import confidence as intervals


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 5, 9, 30, 101])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_student_quantiles(dof, level):
    assert intervals.student(dof, level) == pytest.approx(stats.t.ppf((1 + level) / 2, dof))


def test_mean():
    values = np.random.default_rng(0).normal(3, 2, 7)
    got = intervals.mean([*values, math.nan])
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert (got.value, got.low, got.high, got.count) == pytest.approx((values.mean(), low, high, 7))


@pytest.mark.parametrize("successes, count", [(0, 5), (3, 10), (10, 10)])
def test_share(successes, count):
    got = intervals.share(successes, count)
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))


def test_slope():
    rng = np.random.default_rng(1)
    x = np.arange(8.0)
    y = 2 * x + rng.normal(size=8)
    line, got = stats.linregress(x, y), intervals.slope(x, y)
    half = stats.t.ppf(0.975, 6) * line.stderr
    assert (got.value, got.low, got.high) == pytest.approx(
        (line.slope, line.slope - half, line.slope + half)
    )
    assert intervals.determination(x, y) == pytest.approx(line.rvalue**2)


def test_too_few_data_have_no_interval():
    assert math.isnan(intervals.mean([]).value) and intervals.mean([2.0]).value == 2.0
    assert math.isnan(intervals.mean([2.0]).low) and math.isnan(intervals.share(0, 0).value)
    assert math.isnan(intervals.slope([1, 2], [1, 2]).value)
    assert str(intervals.mean([2.0])) == "2" and "[" in str(intervals.share(1, 2))
