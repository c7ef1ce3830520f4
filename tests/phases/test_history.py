"""Histories, schedules and the wording of errors."""

import math

import numpy as np
import pytest

from phasetrack import ExpectedError, History, every, log_spaced
from phasetrack.errors import check_choice, check_float, check_int
from phasetrack.phases.history import Undefined


def test_a_metric_that_comes_late_or_goes_early_is_nan_elsewhere():
    history = History([(0, {"a": 1.0}), (5, {"a": 2.0, "b": 3.0}), (7, {"b": 4.0})])
    assert history.steps.tolist() == [0, 5, 7]
    np.testing.assert_array_equal(history["a"], [1, 2, math.nan])
    np.testing.assert_array_equal(history["b"], [math.nan, 3, 4])
    assert list(history) == ["a", "b"] and len(history) == 2
    assert [(step, row["b"]) for step, row in history.rows()][1:] == [(5, 3.0), (7, 4.0)]


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(KeyError, match=r"no metric 'c'; this history has \['a'\]"):
        History([(0, {"a": 1.0})])["c"]


def test_undefined_is_nan_with_a_reason():
    assert math.isnan(Undefined("why")) and Undefined("why").reason == "why"


def test_every_and_log_spaced():
    assert [s for s in range(20) if every(7)(s)] == [0, 7, 14]
    chosen = [s for s in range(10001) if log_spaced(per_decade=10)(s)]
    assert chosen[:4] == [0, 1, 2, 3]
    ratios = np.diff(np.log10(chosen[10:]))
    assert ratios.max() < 0.2 and {10, 100, 1000, 10000} <= set(chosen)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: every(0), "every: 0 is not an integer >= 1."),
        (lambda: log_spaced(base=1.0), "base: 1 is not a finite number > 1."),
        (lambda: check_int("n", "3", minimum=1), "n: '3' is not an integer >= 1."),
        (
            lambda: check_int("n", 9, minimum=1, maximum=5),
            "n: 9 is not an integer from 1 to 5.",
        ),
        (lambda: check_float("x", None), "x: None is not a finite number."),
        (lambda: check_choice("c", "z", ("a", "b")), "c: 'z' is not one of a, b."),
    ],
)
def test_errors_name_the_value_and_the_allowed_range(call, message):
    with pytest.raises(ExpectedError) as caught:
        call()
    assert str(caught.value) == message


def test_fix_follows_the_problem():
    assert str(ExpectedError("x", "It is 2.", "Use 1.")) == "x: It is 2. Use 1."
