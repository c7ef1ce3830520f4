"""Run settings: the message of every refusal, and what is derived from d."""

import dataclasses
import math

import pytest

from phasetrack import ExpectedError, RunSettings
from phasetrack.theory.settings import TASK_NAMES, escape_time, tail_time


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("task", None, f"task: expected one of {', '.join(TASK_NAMES)}, got None"),
        ("task", "XOR", f"task: expected one of {', '.join(TASK_NAMES)}, got 'XOR'"),
        ("d", "64", "d: expected an integer >= 2 and <= 1048576, got '64'"),
        ("width", 2**21, "width: expected an integer >= 1 and <= 1048576, got 2097152"),
        ("width", 8.0, "width: expected an integer >= 1 and <= 1048576, got 8.0"),
        ("batch", -1, "batch: expected an integer >= 1, got -1"),
        ("batch", 10.5, "batch: expected an integer >= 1, got 10.5"),
        ("batch", False, "batch: expected an integer >= 1, got False"),
        ("eta", "0.2", "eta: expected a finite number > 0, got '0.2'"),
        ("eta", True, "eta: expected a finite number > 0, got True"),
        ("eta", math.inf, "eta: expected a finite number > 0, got inf"),
        ("theta", -0.1, "theta: expected a finite number > 0, got -0.1"),
        ("theta", math.nan, "theta: expected a finite number > 0, got nan"),
        ("steps", 10.0, "steps: expected an integer >= 1, got 10.0"),
        ("seed", 2**63, f"seed: expected an integer >= 0 and <= {2**63 - 1}, got {2**63}"),
        ("seed", None, f"seed: expected an integer >= 0 and <= {2**63 - 1}, got None"),
        ("train", ["both"], "train: expected one of both, first, second, got ['both']"),
        ("every", 1.5, "every: expected an integer >= 1, got 1.5"),
        ("target", math.nan, "target: expected a finite number >= 1e-06 and <= 1.38629, got nan"),
        ("micro_batch", 2049, "micro_batch: expected at most the batch, 2048, got 2049"),
        ("snapshots", 0, "snapshots: expected an integer >= 1, got 0"),
        ("snapshots", "all", "snapshots: expected an integer >= 1, got 'all'"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_refusal_names_the_option_what_is_allowed_and_what_was_given(option, value, message):
    with pytest.raises(ExpectedError) as caught:
        RunSettings(**{option: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("option", ["shuffle_labels", "gradient_error"])
@pytest.mark.parametrize("value", ["no", 3], ids=repr)
def test_switches_are_true_or_false(option, value):
    """ "no" would otherwise count as yes."""
    with pytest.raises(ExpectedError, match=f"{option}: expected"):
        RunSettings(**{option: value})


@pytest.mark.parametrize("d", [2, 64, 1000])
def test_everything_follows_d(d):
    settings = RunSettings(d=d)
    escape = 1.253 * math.log(d) + 2.83 * math.log(10) + 2.4
    assert settings.batch_size == 4 * d
    assert settings.escape_steps == pytest.approx(escape / 0.2)
    assert settings.predicted_steps == pytest.approx((escape + tail_time(0.05)) / 0.2)
    assert settings.step_limit == settings.predicted_limit >= 3 * settings.predicted_steps
    assert RunSettings(d=d, batch=7).batch_size == 7


def test_a_micro_batch_may_be_the_whole_batch():
    assert RunSettings(d=10, micro_batch=40).micro_batch == 40
    assert RunSettings(d=10, batch=50, micro_batch=45).micro_batch == 45


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSettings().d = 3
    with pytest.raises(ExpectedError, match="d: expected"):
        dataclasses.replace(RunSettings(), d=0)


@pytest.mark.parametrize("theta", [2.0, 10.0, 1e6])
def test_escape_time_stays_positive_at_large_theta(theta):
    assert escape_time(2, theta) >= 1


@pytest.mark.parametrize("target", [0.5, 0.1386, 0.05, 1e-3])
def test_tail_time_is_that_of_the_law_stepped_by_hand(target):
    """Runge-Kutta on d gamma / dt = sqrt(2) gamma / (1 + exp(gamma))."""

    def speed(gamma):
        return math.sqrt(2) * gamma / (1 + math.exp(gamma))

    gamma, time, h = -math.log(math.sqrt(2) - 1), 0.0, 1e-3
    while 2 * math.log1p(math.exp(-gamma)) > target:
        k1 = speed(gamma)
        k2 = speed(gamma + h * k1 / 2)
        k3 = speed(gamma + h * k2 / 2)
        gamma += h * (k1 + 2 * k2 + 2 * k3 + speed(gamma + h * k3)) / 6
        time += h
    assert tail_time(target) == pytest.approx(time, abs=2 * h)
