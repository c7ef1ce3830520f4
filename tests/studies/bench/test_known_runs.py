"""Vocabularies on runs in closed form: each boundary at the step of the formula."""

import math

import pytest

from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.vocabularies import chosen
from phasetrack.phases.vocabulary_set import label_again
from phasetrack.studies.bench.known_run import Crossing
from phasetrack.studies.bench.runs import linear as linear_runs
from phasetrack.studies.bench.runs import trained as trained_runs


def spoken(played, name):
    return label_again(chosen(name), played.rows, RunLabels(Thresholds()))[0][name]


def onsets(labels):
    return {b.name: b.onset for b in labels.boundaries}


def events(played):
    return {event.name: event.step for event in played.events}


def test_each_mode_of_a_linear_network_drops_about_its_half_way():
    played = linear_runs.linear_modes((4.0, 1.0), 1e-6, eta=0.01, steps=1000)
    assert [e.step for e in played.events] == pytest.approx([190.02, 690.78], abs=0.01)
    drops = spoken(played, "saddle-to-saddle").boundaries
    assert len(drops) == 2
    for drop, event in zip(drops, played.events, strict=True):
        assert 0.7 * event.step < drop.onset < event.step
        assert drop.left is None or event.step < drop.left
    # each mode is the square of a weight w that moves by eta w (s - w^2)
    weights = [1e-3, 1e-3]
    for _, row in played.rows:
        loss = ((4 - weights[0] ** 2) ** 2 + (1 - weights[1] ** 2) ** 2) / 2
        assert row["loss/train"] == pytest.approx(loss, rel=1e-6)
        weights = [w + 0.01 * w * (s - w * w) for s, w in zip((4.0, 1.0), weights, strict=True)]


def test_modes_close_to_each_other_have_a_drop_each():
    played = linear_runs.linear_modes((4.0, 2.0, 1.0), 0.001, eta=0.01, steps=500)
    drops = spoken(played, "saddle-to-saddle").boundaries
    assert [d.onset for d in drops] == pytest.approx([e.step for e in played.events], rel=0.35)


def test_mode_under_noise_has_one_drop():
    played = linear_runs.noisy_mode(2.0, 0.5, 1e-4, seed=3, eta=0.01)
    (event,), (drop,) = played.events, spoken(played, "saddle-to-saddle").boundaries
    assert event.step == pytest.approx(linear_runs.half_way(2.0, 1e-4, 0.01), rel=0.05)
    assert 0.5 * event.step < drop.onset < event.step


@pytest.mark.parametrize(
    ("eta_lambda", "names"), [(1.73, []), (2.88, ["catapult"]), (4.6, ["DIVERGED"])]
)
def test_product_of_two_weights_is_stable_caught_or_lost(eta_lambda, names):
    played = linear_runs.product(math.sqrt(3.99), 0.1, 0.0, eta_lambda / 4, 60)
    labels = spoken(played, "edge-of-stability")
    found = onsets(labels) | {a.name: a.step for a in labels.alerts}
    assert list(found) == names == list(events(played))
    assert all(abs(found[name] - step) < 1 for name, step in events(played).items())
    first = played.rows[0][1]["sharpness/eta_lambda"]
    assert first == pytest.approx(eta_lambda, rel=0.02)
    peak = max(row.get("loss/train", 0) for _, row in played.rows)
    assert (peak > 2 * played.rows[0][1]["loss/train"]) == (eta_lambda > 2)
    assert labels.label == ("EDGE" if eta_lambda > 4 else "STABLE")


def test_sharpness_rises_to_the_edge_where_the_exact_hessian_does():
    played = linear_runs.product(0.03, 0.02, 1.0, 1.015, 60)
    labels = spoken(played, "edge-of-stability")
    assert labels.label == "EDGE"
    assert onsets(labels) == pytest.approx(events(played), abs=0.5)
    assert set(onsets(labels)) == {"edge"}


def test_late_regression_generalises_when_its_formula_does():
    played = linear_runs.late_regression(0.01, 2.0, eta=0.3, steps=500)
    labels = spoken(played, "grokking")
    assert labels.label == "GENERALISING"
    assert onsets(labels) == pytest.approx(events(played), rel=0.05)
    assert events(played)["generalised"] > 20 * events(played)["memorised"]


@pytest.mark.parametrize(("alpha", "label"), [(1.0, "RICH"), (100.0, "LAZY")])
def test_scale_of_the_output_decides_between_lazy_and_rich(alpha, label):
    played = trained_runs.scaled(3, alpha, steps=60)
    labels = spoken(played, "lazy-rich")
    assert labels.label == label
    assert set(onsets(labels)) == set(events(played))
    # interpolated between readings at each fifth of a decade
    assert onsets(labels) == pytest.approx(events(played), rel=0.1)


def test_planted_direction_is_searched_for_and_found():
    played = trained_runs.planted(1, 3, steps=140)
    labels = spoken(played, "search-descent")
    assert labels.label == "RECOVERED"
    # a reading per twentieth of a decade
    assert onsets(labels) == pytest.approx(events(played), rel=0.15)


@pytest.mark.parametrize("kind", ["labels", "frozen", "noise", "batch"])
def test_nothing_is_found_where_there_is_nothing(kind):
    played = trained_runs.control(kind, 3, steps=150)
    found, _ = label_again(chosen(), played.rows, RunLabels(Thresholds()))
    names = {b.name for one in found.values() for b in one.boundaries}
    assert not names & trained_runs.FOUND
    assert found["search-descent"].label == "SEARCHING"
    assert found["grokking"].label in ("UNDETERMINED", "MEMORISING")
    assert found["edge-of-stability"].label == "STABLE"


def test_crossing_is_that_of_the_outer_level_and_none_where_a_run_begins():
    crossing = Crossing("up", 2.0, 1.0, rising=True)
    for step, value in enumerate([0.0, 0.5, 1.5, 1.8, 2.5, 0.0, 3.0]):
        crossing.add(step, value)
    assert [e.step for e in crossing.events] == pytest.approx([1.5, 5 + 1 / 3])
    begins = Crossing("up", 2.0, 1.0, rising=True)
    begins.add(0, 1.5)
    begins.add(1, 3.0)
    assert begins.events == []
