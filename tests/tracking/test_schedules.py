"""Schedules: which steps are recorded."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError, every, log_spaced
from phasetrack.tracking.schedules import as_schedule, following


def chosen(schedule, stop):
    return [step for step in range(stop) if schedule(step)]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_is_the_multiples(n):
    assert chosen(every(n), 50) == list(range(0, 50, n))


@pytest.mark.parametrize(
    "options, stop, steps",
    [
        ({"per_decade": 1}, 1001, [0, 1, 10, 100, 1000]),
        ({"per_decade": 2}, 200, [0, 1, 4, 10, 32, 100]),
        ({"per_decade": 1, "base": 2.0}, 70, [0, 1, 2, 4, 8, 16, 32, 64]),
        ({"per_decade": 1, "base": 3.0}, 250, [0, 1, 3, 9, 27, 81, 243]),
    ],
    ids=["decades", "half decades", "powers of 2", "powers of 3"],
)
def test_log_spaced(options, stop, steps):
    assert chosen(log_spaced(**options), stop) == steps


def test_log_spaced_takes_every_step_while_they_crowd():
    assert chosen(log_spaced(per_decade=20), 10) == list(range(10))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 30), st.floats(1.5, 20))
def test_log_spaced_leaves_no_gap_wider_than_its_spacing(per_decade, base):
    steps = chosen(log_spaced(per_decade, base), 3000)
    assert steps[:2] == [0, 1]
    for before, after in itertools.pairwise(steps[1:]):
        assert after <= math.ceil(before * base ** (2 / per_decade)) + 1


@given(
    st.one_of(st.integers(1, 40).map(every), st.integers(1, 20).map(log_spaced)),
    st.integers(0, 500),
)
def test_no_step_is_wanted_before_the_following_one(schedule, step):
    coming = following(schedule, step)
    assert coming > step and not any(schedule(s) for s in range(step + 1, coming))


def test_of_every_nth_step_the_others_need_not_be_asked_for():
    assert [following(every(16), step) for step in (0, 1, 15, 16)] == [16, 16, 16, 32]


def test_powers_stay_exact_in_long_runs():
    schedule = log_spaced(per_decade=3)
    assert [k for k in range(9) if not schedule(10**k)] == []
    assert not schedule(10**8 + 1) and not schedule(10**8 - 1)


def test_an_integer_means_every_and_a_function_is_itself():
    def odd(step):
        return step % 2 == 1

    assert chosen(as_schedule(4), 10) == [0, 4, 8]
    assert as_schedule(odd) is odd


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: every(0), "every: 0 is not an integer >= 1."),
        (lambda: every(-3), "every: -3 is not an integer >= 1."),
        (lambda: every(2.0), "every: 2.0 is not an integer >= 1."),
        (lambda: as_schedule(True), "every: True is not an integer >= 1."),
        (lambda: as_schedule("3"), "every: '3' is not an integer >= 1."),
        (lambda: log_spaced(0), "per_decade: 0 is not an integer >= 1."),
        (lambda: log_spaced(base=0.5), "base: 0.5 is not a finite number > 1."),
        (lambda: log_spaced(base=math.inf), "base: inf is not a finite number > 1."),
    ],
    ids=["zero", "negative", "float", "bool", "text", "per decade", "base", "infinite base"],
)
def test_wrong_schedules_are_explained(make, message):
    with pytest.raises(ExpectedError) as caught:
        make()
    assert str(caught.value) == message
