"""The range of the forecast: outside it, a reason and no number."""

import math

import pytest
from helpers import references as naive

from phasetrack import ExpectedError, RunSettings, predict
from phasetrack.tasks import make_task
from phasetrack.theory.forecast_range import ForecastRange

SMALL = {"d": 16, "width": 32}


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"theta": 3.0}, "theta = 3 makes outputs that vary by"),
        ({"theta": 30.0}, "theta = 30 makes outputs that vary by"),
        ({"eta": 5.0}, "eta = 5 is too large a step"),
        ({"batch": 1}, "a batch of 1 at d = 16 moves the weights by noise"),
        ({"shuffle_labels": True}, "the labels say nothing of the inputs"),
    ],
    ids=str,
)
def test_outside_the_range_nothing_is_predicted_and_the_reason_is_given(changed, reason):
    settings = RunSettings(**SMALL, **changed)
    task = make_task("xor", 16, shuffle_labels=settings.shuffle_labels)
    found = predict(task.geometry, settings)
    assert found.reason == predict(task.geometry, settings, population=task.population).reason
    assert reason in found.reason and found.steps == 0 and found.phase.name == "UNDETERMINED"
    for band in found.bands().values():
        assert band["reason"] == found.reason
        assert all(math.isnan(band[edge]) for edge in ("value", "low", "high"))
    assert all(math.isnan(value) for value in found.at(0).values())
    summary = found.as_summary()
    assert summary["notes"] == [f"No forecast: {found.reason}."]
    assert summary["reason"] == found.reason


def test_the_limits_can_be_moved():
    settings = RunSettings(**SMALL, eta=1.5)
    assert predict(naive.xor(16), settings).reason
    wider = predict(naive.xor(16), settings, limits=ForecastRange(eta=2.0))
    assert not wider.reason and math.isfinite(wider.fitted.value)


def test_the_spread_of_a_network_at_the_start_is_its_closed_form():
    """theta^2 sqrt(0.34 / p): 0.34 is the variance of relu(z), (1 - 1 / pi) / 2."""
    for theta, inside in ((0.9, True), (1.1, False)):
        limit = math.sqrt((1 - 1 / math.pi) / 2 / 400)
        settings = RunSettings(d=64, width=400, theta=theta, steps=1)
        found = predict(naive.xor(64), settings, limits=ForecastRange(output_spread=limit))
        assert (not found.reason) == inside


def test_labels_of_unknown_distribution_are_refused():
    with pytest.raises(ExpectedError, match=r"population: The clusters of the task .* do not"):
        predict(naive.xor(16), RunSettings(task="noisy", d=16))


def test_a_boundary_that_some_draws_miss_says_so():
    found = predict(naive.xor(16), RunSettings(d=16, width=8, steps=60))
    missed = found.fitted
    assert math.isnan(missed.value) and "draws do not get there in 60 steps" in missed.reason
