"""Run settings: the message of every refusal, and what is derived from d."""

import dataclasses
import math

import pytest

from phasetrack import ExpectedError, RunSettings
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.theory.settings import TASK_NAMES, escape_time, tail_time
from phasetrack.tracking.recorder import new_labels


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("task", None, f"task: None is not one of {', '.join(TASK_NAMES)}."),
        ("task", "XOR", f"task: 'XOR' is not one of {', '.join(TASK_NAMES)}. Did you mean 'xor'?"),
        ("d", "64", "d: '64' is not an integer from 2 to 1048576."),
        ("width", 2**21, "width: 2097152 is not an integer from 1 to 1048576."),
        ("width", 8.0, "width: 8.0 is not an integer from 1 to 1048576."),
        ("batch", -1, "batch: -1 is not an integer >= 1."),
        ("batch", 10.5, "batch: 10.5 is not an integer >= 1."),
        ("batch", False, "batch: False is not an integer >= 1."),
        ("eta", "0.2", "eta: '0.2' is not a finite number > 0."),
        ("eta", True, "eta: True is not a finite number > 0."),
        ("eta", math.inf, "eta: inf is not a finite number > 0."),
        ("theta", -0.1, "theta: -0.1 is not a finite number > 0."),
        ("theta", math.nan, "theta: nan is not a finite number > 0."),
        ("steps", 10.0, "steps: 10.0 is not an integer >= 1."),
        ("seed", 2**63, f"seed: {2**63} is not an integer from 0 to {2**63 - 1}."),
        ("seed", None, f"seed: None is not an integer from 0 to {2**63 - 1}."),
        ("train", ["both"], "train: ['both'] is not one of both, first, second."),
        ("every", 1.5, "every: 1.5 is not an integer >= 1."),
        ("target", math.nan, "target: nan is not a finite number >= 1e-06 and <= 1.38629."),
        (
            "micro_batch",
            2049,
            "micro_batch: 2049 is larger than the batch, 2048. Pass at most 2048, or leave it out.",
        ),
        ("snapshots", 0, "snapshots: 0 is not an integer >= 1."),
        ("snapshots", "all", "snapshots: 'all' is not an integer >= 1."),
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
    with pytest.raises(ExpectedError, match=f"{option}: {value!r} is neither True nor False"):
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


@pytest.mark.parametrize("theta, known", [(0.01, True), (1.0, True), (1.5, False), (20.0, False)])
def test_the_escape_time_is_a_yardstick_of_small_starts_alone(theta, known):
    """The fit is of small starts; of large ones with small batches SADDLE was raised in runs that learn."""
    settings = RunSettings(d=16, width=16, batch=8, theta=theta)
    assert (settings.escape_steps is not None) == known
    assert RunSettings(task="noisy").escape_steps is None
    # out of the forecast's range nothing else tells the escape: SADDLE is not raised then
    forecast = predict(XOR(16).geometry, settings)
    assert known or (forecast.reason and new_labels(None, None, forecast).escape_steps is None)


def test_a_micro_batch_may_be_the_whole_batch():
    assert RunSettings(d=10, micro_batch=40).micro_batch == 40
    assert RunSettings(d=10, batch=50, micro_batch=45).micro_batch == 45


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSettings().d = 3
    with pytest.raises(ExpectedError, match="d: 0 is not an integer"):
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
