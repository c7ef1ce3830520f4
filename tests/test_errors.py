"""Input checks: what passes unchanged, what is refused, and the one wording of refusals."""

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError, PhasetrackError
from phasetrack.errors import check_choice, check_float, check_int


@pytest.mark.parametrize("value", [2, 3, 5], ids=["minimum", "inside", "maximum"])
def test_integers_in_range_pass(value):
    assert check_int("n", value, minimum=2, maximum=5) == value


@pytest.mark.parametrize(
    "value, shown",
    [
        (1, "1"),
        (6, "6"),
        (2.0, "2.0"),
        (True, "True"),
        ("3", "'3'"),
        (None, "None"),
        (math.nan, "nan"),
    ],
    ids=["low", "high", "float", "bool", "text", "none", "nan"],
)
def test_other_integers_are_refused(value, shown):
    with pytest.raises(ExpectedError) as caught:
        check_int("n", value, minimum=2, maximum=5)
    assert str(caught.value) == f"n: expected an integer >= 2 and <= 5, got {shown}"


@pytest.mark.parametrize(
    "bounds, value",
    [
        ({}, -1e308),
        ({"above": 0.0}, 5e-324),
        ({"minimum": 0.0}, 0.0),
        ({"maximum": 1.0}, 1),
        ({"above": -1.0, "maximum": 1.0}, 0),
    ],
    ids=["unbounded", "just above", "at minimum", "at maximum", "between"],
)
def test_numbers_in_range_pass_as_floats(bounds, value):
    passed = check_float("x", value, **bounds)
    assert passed == value and type(passed) is float


@pytest.mark.parametrize(
    "bounds, value, message",
    [
        ({"above": 0.0}, 0.0, "x: expected a finite number > 0, got 0"),
        ({"minimum": 2.0}, 1.5, "x: expected a finite number >= 2, got 1.5"),
        ({"maximum": 2.0}, 2.5, "x: expected a finite number <= 2, got 2.5"),
        (
            {"above": 0.0, "maximum": 2.0},
            3,
            "x: expected a finite number > 0 and <= 2, got 3",
        ),
        ({}, math.nan, "x: expected a finite number, got nan"),
        ({}, math.inf, "x: expected a finite number, got inf"),
        ({}, -math.inf, "x: expected a finite number, got -inf"),
        ({}, "1", "x: expected a finite number, got '1'"),
        ({}, False, "x: expected a finite number, got False"),
        ({}, 1j, "x: expected a finite number, got 1j"),
    ],
    ids=["at above", "low", "high", "two bounds", "nan", "inf", "-inf", "text", "bool", "complex"],
)
def test_other_numbers_are_refused(bounds, value, message):
    with pytest.raises(ExpectedError) as caught:
        check_float("x", value, **bounds)
    assert str(caught.value) == message


def test_an_integer_too_large_for_a_float_is_refused_like_any_other():
    with pytest.raises(ExpectedError, match="x: expected a finite number"):
        check_float("x", 10**400)


@pytest.mark.parametrize("value", ["c", "", "A", None, ["a"]], ids=repr)
def test_choices(value):
    assert check_choice("c", "a", ("a", "b")) == "a"
    with pytest.raises(ExpectedError) as caught:
        check_choice("c", value, ("a", "b"))
    assert str(caught.value) == f"c: expected one of a, b, got {value!r}"


def test_an_error_carries_its_parts_and_survives_pickling():
    error = ExpectedError("x", "It is 2.", "Use 1.")
    assert isinstance(error, PhasetrackError) and isinstance(error, ValueError)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.argument, one.problem, one.fix) == ("x", "It is 2.", "Use 1.")
        assert str(one) == "x: expected 1, got 2; use 1"


@settings(deadline=None, derandomize=True)
@given(st.floats(), st.floats(-5, 5), st.floats(-5, 5))
def test_what_passes_is_exactly_what_is_in_range(value, above, maximum):
    try:
        passed = check_float("x", value, above=above, maximum=maximum) == value
    except ExpectedError:
        passed = False
    assert passed == (above < value <= maximum)
