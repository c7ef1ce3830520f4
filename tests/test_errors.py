"""Input checks: valid values pass unchanged, all others raise one wording of ExpectedError."""

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError, PhasetrackError
from phasetrack.errors import check_choice, check_float, check_int, check_switch


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
def test_integers_out_of_range_and_other_types_are_refused(value, shown):
    with pytest.raises(ExpectedError) as caught:
        check_int("n", value, minimum=2, maximum=5)
    assert str(caught.value) == f"n: {shown} is not an integer from 2 to 5."


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
        ({"above": 0.0}, 0.0, "x: 0 is not a finite number > 0."),
        ({"minimum": 2.0}, 1.5, "x: 1.5 is not a finite number >= 2."),
        ({"maximum": 2.0}, 2.5, "x: 2.5 is not a finite number <= 2."),
        (
            {"above": 0.0, "maximum": 2.0},
            3,
            "x: 3 is not a finite number > 0 and <= 2.",
        ),
        ({}, math.nan, "x: nan is not a finite number."),
        ({}, math.inf, "x: inf is not a finite number."),
        ({}, -math.inf, "x: -inf is not a finite number."),
        ({}, "1", "x: '1' is not a finite number."),
        ({}, False, "x: False is not a finite number."),
        ({}, 1j, "x: 1j is not a finite number."),
    ],
    ids=["at above", "low", "high", "two bounds", "nan", "inf", "-inf", "text", "bool", "complex"],
)
def test_numbers_out_of_range_and_other_types_are_refused(bounds, value, message):
    with pytest.raises(ExpectedError) as caught:
        check_float("x", value, **bounds)
    assert str(caught.value) == message


def test_an_integer_beyond_every_float_is_refused():
    with pytest.raises(ExpectedError, match="x: inf is not a finite number"):
        check_float("x", 10**400)


@pytest.mark.parametrize(
    "value, fix",
    [
        ("nor", " Did you mean 'or'?"),
        ("XOR", " Did you mean 'xor'?"),
        ("majority", ""),
        ("", ""),
        (None, ""),
        (["or"], ""),
    ],
    ids=repr,
)
def test_unknown_choice_is_refused_with_the_closest_known_one(value, fix):
    assert check_choice("c", "or", ("xor", "or")) == "or"
    with pytest.raises(ExpectedError) as caught:
        check_choice("c", value, ("xor", "or"))
    assert str(caught.value) == f"c: {value!r} is not one of xor, or.{fix}"


@pytest.mark.parametrize("value", [1, 0, "no", None], ids=repr)
def test_a_switch_is_true_or_false(value):
    assert check_switch("s", True) is True and check_switch("s", False) is False
    with pytest.raises(ExpectedError) as caught:
        check_switch("s", value)
    assert str(caught.value) == f"s: {value!r} is neither True nor False."


def test_an_error_carries_its_parts_and_survives_pickling():
    error = ExpectedError("x", "It is 2.", "Use 1.")
    assert isinstance(error, PhasetrackError) and isinstance(error, ValueError)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.argument, one.problem, one.fix) == ("x", "It is 2.", "Use 1.")
        assert one.name == one.argument
        with pytest.raises(AttributeError):
            one.name = "y"
        assert str(one) == "x: It is 2. Use 1."


@settings(deadline=None, derandomize=True)
@given(st.floats(), st.floats(-5, 5), st.floats(-5, 5))
def test_check_float_passes_exactly_the_numbers_in_range(value, above, maximum):
    try:
        passed = check_float("x", value, above=above, maximum=maximum) == value
    except ExpectedError:
        passed = False
    assert passed == (above < value <= maximum)
