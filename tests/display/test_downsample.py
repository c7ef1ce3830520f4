"""Downsampling keeps extremes and gaps."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasetrack.display.downsample import min_max

NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(
    st.lists(st.tuples(st.integers(1, 50), NUMBERS), max_size=300),
    st.integers(1, 40),
    st.lists(st.integers(-5, 400)),
)
def test_every_column_keeps_its_extremes_its_gap_and_the_kept_indices(points, columns, keep):
    at = np.cumsum([float(gap) for gap, _ in points])
    data = np.array([value for _, value in points], dtype=float)
    chosen = min_max(at, data, columns, keep)
    assert (np.diff(chosen) > 0).all()
    kept = set(chosen.tolist())
    if len(data) <= 2 * columns:
        assert kept == set(range(len(data)))
        return
    assert {0, len(data) - 1} <= kept
    assert {index for index in keep if 0 <= index < len(data)} <= kept
    ends = np.linspace(at[0], at[-1], columns + 1)
    ends[-1] = math.inf
    for left, right in itertools.pairwise(ends):
        inside = np.flatnonzero((at >= left) & (at < right))
        if len(inside) == 0:
            continue
        low, high = inside[0], inside[-1] + 1
        column = data[low:high]
        drawn = data[sorted(kept & set(range(low, high)))]
        finite = column[np.isfinite(column)]
        if len(finite):
            assert np.nanmin(drawn[np.isfinite(drawn)]) == finite.min()
            assert np.nanmax(drawn[np.isfinite(drawn)]) == finite.max()
        if len(finite) < len(column):
            assert not np.isfinite(drawn).all()


@given(
    st.lists(st.sampled_from([0.0, 0.0, 1 / 64, 2 / 64, -1.0, math.nan]), min_size=1, max_size=300),
    st.integers(1, 40),
)
def test_extremes_on_a_logarithmic_value_axis_are_positive(values, columns):
    at, data = np.arange(float(len(values))), np.array(values)
    chosen = set(min_max(at, data, columns, log=True).tolist())
    if len(data) <= 2 * columns:
        return
    ends = np.linspace(at[0], at[-1], columns + 1)
    ends[-1] = math.inf
    for left, right in itertools.pairwise(ends):
        inside = [i for i in range(len(data)) if left <= at[i] < right]
        positive = [i for i in inside if data[i] > 0]
        kept = [data[i] for i in inside if i in chosen]
        if positive:
            drawn = [v for v in kept if v > 0]
            assert min(drawn) == min(data[positive]) and max(drawn) == max(data[positive])
        elif inside:
            assert kept and not any(v > 0 for v in kept)  # the gap stays


def test_zeros_among_positive_values_do_not_break_the_line():
    values = np.random.default_rng(0).integers(0, 3, 10_000) / 64
    drawn = values[min_max(np.arange(10_000.0), values, 250, log=True)]
    assert (drawn > 0).mean() > 0.99 and (drawn[1:] * drawn[:-1] > 0).sum() > 480


@pytest.mark.parametrize("count, columns", [(10_000, 100), (1_000_001, 777)])
def test_number_of_points_is_bounded(count, columns):
    values = np.sin(np.arange(count) / 3.7)
    assert len(min_max(np.arange(float(count)), values, columns)) <= 2 * columns + 2


def test_early_points_stay_on_a_logarithmic_step_axis():
    steps = np.arange(1_000_000)
    chosen = min_max(np.log1p(steps), np.cos(steps), 500)
    assert len(chosen) <= 1002
    assert np.isin(np.arange(20), chosen).all()
