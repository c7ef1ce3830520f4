"""Milestones: keys that agree with the classifier and the forecast, and their steps in a summary."""

import math

import pytest
from helpers import references as naive

from phasetrack import RunSettings
from phasetrack.phases.boundaries import BOUNDARIES, MILESTONES, onset
from phasetrack.phases.classifier import PhaseClassifier
from phasetrack.theory.forecast import predict

FITTED_AT_ONCE = {
    "heaviness/zeta_star": 0.1,
    "linearization/value_error": 1.0,
    "loss/train": 0.01,
}


def test_milestones_name_every_boundary_that_the_classifier_detects():
    detected = PhaseClassifier().update(0, FITTED_AT_ONCE).boundaries
    assert {boundary.name for boundary in detected} == set(BOUNDARIES)


@pytest.mark.parametrize("named", ["key", "forecast", "title", "label"])
def test_milestones_have_distinct_names(named):
    assert len({getattr(milestone, named) for milestone in MILESTONES}) == len(MILESTONES)


def test_milestones_name_every_step_of_the_forecast():
    bands = predict(naive.xor(16), RunSettings(d=16, width=8), draws=2).bands()
    assert list(bands) == [milestone.forecast for milestone in MILESTONES]


def test_onset_is_the_one_that_holds():
    first, second = (
        {"name": "signal_heavy", "onset": 3.5, "detected": 4, "left": 6},
        {"name": "signal_heavy", "onset": 8.5, "detected": 9},
    )
    summary = {"boundaries": [first, second], "loss_halving_step": 7.25}
    assert onset(summary, "signal_heavy") == 8.5 and onset(summary, "loss_halving_step") == 7.25
    left = {"boundaries": [first, {**second, "left": 12}]}
    assert onset(left, "signal_heavy") == 3.5  # none holds: the first of them
    assert math.isnan(onset(summary, "fitted")) and math.isnan(onset({}, "loss_halving_step"))
