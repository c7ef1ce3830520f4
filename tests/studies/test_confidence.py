"""Intervals against scipy's own and against tabulated quantiles."""

import math

import numpy as np
import pytest
from scipy import stats

from phasetrack import ExpectedError
from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.lab import Lab

# Computed from the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4, without scipy.
SERIES = {
    (1, 0.5): 0.9999999999999999,
    (1, 0.95): 12.706204736174678,
    (1, 0.99): 63.65674116287035,
    (2, 0.5): 0.8164965809277261,
    (2, 0.95): 4.30265272974946,
    (2, 0.99): 9.92484320091826,
    (3, 0.5): 0.7648923284043451,
    (3, 0.95): 3.1824463052837064,
    (3, 0.99): 5.840909309733321,
    (4, 0.5): 0.7406970841126826,
    (4, 0.95): 2.7764451051977934,
    (4, 0.99): 4.604094871349983,
    (5, 0.5): 0.7266868438004226,
    (5, 0.95): 2.5705818356363146,
    (5, 0.99): 4.032142983555213,
    (9, 0.5): 0.7027221467513264,
    (9, 0.95): 2.2621571627982044,
    (9, 0.99): 3.249835541592119,
    (30, 0.5): 0.6827556933212925,
    (30, 0.95): 2.042272456301238,
    (30, 0.99): 2.7499956535672174,
    (101, 0.5): 0.6769265959592845,
    (101, 0.95): 1.9837310029556021,
    (101, 0.99): 2.6253859646684425,
}


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 5, 9, 30, 101])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_student_quantiles_match_scipy_and_the_series(dof, level):
    assert intervals.student(dof, level) == pytest.approx(stats.t.ppf((1 + level) / 2, dof))
    assert intervals.student(dof, level) == pytest.approx(SERIES[dof, level], rel=1e-9)


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


def test_too_few_data_have_no_interval():
    assert math.isnan(intervals.mean([]).value) and intervals.mean([2.0]).value == 2.0
    assert math.isnan(intervals.mean([2.0]).low) and math.isnan(intervals.share(0, 0).value)
    assert math.isnan(intervals.slope([1, 2], [1, 2]).value)
    assert str(intervals.mean([2.0])) == "2" and "[" in str(intervals.share(1, 2))


@pytest.fixture
def no_scipy(monkeypatch):
    """Pretend that scipy is not installed."""
    monkeypatch.setattr(intervals, "find_spec", lambda _: None)


def test_without_scipy_a_mean_has_no_interval_and_a_warning(no_scipy):
    with pytest.warns(UserWarning, match=r"scipy.* is not installed.*phasetrack\[claims\]"):
        estimate = intervals.mean([1.0, 2.0])
    assert estimate.value == 1.5 and math.isnan(estimate.low) and math.isnan(estimate.high)
    assert intervals.share(1, 2).low > 0


def test_claims_without_scipy_tell_how_to_install_it(no_scipy):
    with pytest.raises(
        ExpectedError, match=r"scipy: scipy.* Run pip install 'phasetrack\[claims\]'"
    ):
        Lab()
