"""Run settings: derived defaults, closed forms, and refusals."""

import math

import pytest

from phasetrack import ExpectedError, RunSettings
from phasetrack.theory.settings import escape_time, tail_time


@pytest.mark.parametrize(
    "d, theta, eta, steps",
    [
        (128, 0.1, 0.2, 75.0),
        (512, 0.1, 0.2, 83.7),
        (512, 0.1, 0.05, 334.7),
        (512, 0.3, 0.2, 68.1),
        (1024, 0.1, 0.2, 88.0),
        (64, 0.1, 0.2, 70.6),
    ],
)
def test_escape_time_meets_the_numbers_of_theory(d, theta, eta, steps):
    assert escape_time(d, theta) / eta == pytest.approx(steps, abs=0.1)


def test_tail_from_half_to_a_tenth_of_the_loss():
    assert tail_time(0.1 * 2 * math.log(2)) == pytest.approx(5.15, abs=0.02)
    assert tail_time(1.0) == 0  # above half the loss there is no tail


def test_defaults_follow_the_dimension():
    settings = RunSettings(d=100)
    assert settings.batch_size == 400
    assert settings.step_limit == math.ceil(3 * settings.predicted_steps)
    assert RunSettings(steps=7).step_limit == 7
    assert RunSettings(eta=50.0).step_limit == 100
    assert settings.thresholds().loss_target == settings.target


@pytest.mark.parametrize(
    "option, value, allowed",
    [
        ("task", "nor", "one of xor"),
        ("d", 1, "an integer from 2"),
        ("d", 2.5, "an integer from 2"),
        ("d", True, "an integer from 2"),
        ("d", 2**30, "to 1048576"),
        ("width", 0, "an integer from 1"),
        ("batch", 0, "an integer >= 1"),
        ("eta", -0.1, "a finite number > 0"),
        ("eta", math.nan, "a finite number > 0"),
        ("theta", 0.0, "a finite number > 0"),
        ("theta", math.inf, "a finite number > 0"),
        ("steps", 0, "an integer >= 1"),
        ("seed", -1, "an integer from 0"),
        ("train", "third", "one of both, first, second"),
        ("every", 0, "an integer >= 1"),
        ("target", 0.0, "a finite number >= 1e-06"),
        ("target", 2.0, "<= 1.38629"),
        ("micro_batch", 0, "an integer >= 1"),
        ("micro_batch", 3000, "is larger than the batch, 2048"),
    ],
)
def test_wrong_options_are_explained(option, value, allowed):
    with pytest.raises(ExpectedError) as caught:
        RunSettings(**{option: value})
    assert caught.value.argument == option
    assert allowed in caught.value.problem
