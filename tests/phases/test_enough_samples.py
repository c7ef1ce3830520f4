"""Labels by a mean over enough samples: the window against numpy, and runs of small batches."""

import math

import numpy as np
import pytest

from phasetrack import PhaseClassifier, Thresholds
from phasetrack.phases.classifier import relabel
from phasetrack.phases.crossings import local_crossing
from phasetrack.phases.history import History
from phasetrack.phases.loss_watch import LossWatch, drawn_unit
from phasetrack.phases.recent_mean import Measured, RecentMean
from phasetrack.phases.run_labels import RunLabels

ZETA, DRIFT, LOSS = "heaviness/zeta_star", "linearization/slope_drift", "loss/train"
ERROR, CHANGE = "linearization/value_error", "linearization/loss_change"
PAPERS = 2 * math.log(2)


def batches(size, means, seed=0, **others):
    """Rows of a run whose sample losses are exponential with the given means."""
    rng = np.random.default_rng(seed)
    for step, mean in enumerate(means):
        losses = rng.exponential(mean, size)
        readings = {LOSS: losses.mean(), "loss/samples": float(size), ZETA: 0.1, DRIFT: 0.5}
        spread = losses.std(ddof=1) if size > 1 else math.nan
        yield step, readings | {"loss/spread": spread, "loss/constant": PAPERS} | others


def labelled(rows, **thresholds):
    labels = RunLabels(Thresholds(**thresholds))
    names = [labels.update(step, readings).phase.name for step, readings in rows]
    return names, labels


def fitted_in(labels):
    return [boundary for boundary in labels.boundaries if boundary.name == "fitted"]


@pytest.mark.parametrize(
    ("readings", "unit"),
    [
        ({}, 1.0),
        ({"loss/constant": math.log(2)}, 0.5),
        ({"loss/constant": math.nan}, 1.0),
        ({"loss/constant": math.log(2), "loss/mean": 0.1, "loss/samples": 64.0}, 32.0),
    ],
)
def test_unit_is_that_of_the_loops_loss(readings, unit):
    """The target of a sum of logistic losses over 64 samples is 64 times that of one, 0.05 / 2."""
    row = {LOSS: 1.0, "loss/samples": 64.0} | readings
    _, labels = labelled([(0, row)])
    assert labels.units == {"loss_target": pytest.approx(unit)}
    assert drawn_unit(History([(0, row)])) == pytest.approx(unit)
    again = labels.restored(labels.state_dict())
    assert again.units == labels.units


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 5000])
def test_window_is_the_mean_and_error_of_the_last_thousand_samples(size):
    rng, window = np.random.default_rng(1), RecentMean(1000.0, 10)
    drawn = [rng.normal(3e6, 2.0, size) for _ in range(2600 // size + 5)]
    for step, losses in enumerate(drawn):
        spread = losses.std(ddof=1) if size > 1 else math.nan
        window.add(step, losses.mean(), size, spread=spread)
    count = math.ceil(1000 / size)
    last = np.concatenate(drawn[-count:])
    estimate = window.estimate()
    assert estimate.enough and len(window) == count
    assert estimate.mean == pytest.approx(last.mean(), rel=1e-13)
    assert estimate.error == pytest.approx(last.std() / math.sqrt(len(last)), rel=0.1)


def test_window_is_restored_to_the_bit():
    rng, window = np.random.default_rng(2), RecentMean(40.0, 10)
    for step in range(57):
        window.add(step, rng.normal(), 4, spread=1.0)
    again = RecentMean(40.0, 10)
    again.load_state_dict(window.state_dict())
    for step in range(57, 90):
        value = rng.normal()
        for each in (window, again):
            each.add(step, value, 4, spread=1.0)
        assert again.estimate() == window.estimate()
    assert list(again.past) == list(window.past)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_lucky_batches_fit_no_run(size):
    names, labels = labelled(batches(size, [0.2] * 1500))
    single = [row[LOSS] <= 0.05 for _, row in batches(size, [0.2] * 1500)]
    assert any(single) or size == 16  # each batch alone would have fitted it
    assert "FITTED" not in names and fitted_in(labels) == []


@pytest.mark.parametrize("size", [1, 4, 16, 250])
def test_small_batches_are_fitted_once_and_say_when(size):
    steps = 6000 // size
    rate = 6 / steps
    means = [math.exp(-rate * step) for step in range(2 * steps)]
    names, labels = labelled(batches(size, means))
    (fitted,) = fitted_in(labels)
    truth = math.log(20) / rate
    assert fitted.low <= truth <= fitted.high and fitted.left is None
    assert fitted.high - fitted.low < 0.25 * steps
    assert names[-1] == "FITTED" and fitted.detected > truth


def test_a_repeated_batch_needs_no_thousand_samples():
    rows = [
        (step, {LOSS: math.exp(-0.05 * step), "loss/samples": 40.0, "loss/spread": 0.5, ZETA: 0.1})
        for step in range(100)
    ]
    (fitted,) = fitted_in(labelled(rows)[1])
    assert fitted.onset == pytest.approx(math.log(20) / 0.05, abs=0.1)
    assert fitted.detected <= fitted.onset + 4


def test_fitted_that_is_left_again_says_so():
    means = [1.0] * 60 + [0.01] * 80 + [0.8] * 80 + [0.01] * 80
    _, labels = labelled(batches(32, means))
    first, second = fitted_in(labels)
    assert 60 < first.detected < first.left < second.detected and second.left is None


def test_one_batch_of_small_ones_does_not_diverge():
    rows = list(batches(1, [0.5] * 400))
    rows[200][1][LOSS] = 60.0
    names, labels = labelled(rows)
    assert labels.alerts == [] and "UNDETERMINED" not in names
    _, labels = labelled(batches(1, [0.5] * 100 + [500.0] * 50))
    assert [alert.name for alert in labels.alerts] == ["DIVERGED"]


def test_linear_exit_weighs_batches_by_their_change_of_loss():
    """The value error of all samples: a batch that hardly moved from output 0 says little."""
    rows = [
        (s, {ERROR: [0.9, 0.01][s % 2], CHANGE: [1e-3, 1.0][s % 2], "loss/samples": 100.0})
        for s in range(60)
    ]
    assert [v for _, v in relabel(rows, Thresholds()) if v.boundaries] == []
    equal = [(s, row | {CHANGE: 1.0}) for s, row in rows]
    assert [b.name for _, v in relabel(equal, Thresholds()) for b in v.boundaries] == [
        "linear_exit"
    ]


@pytest.mark.parametrize(
    "constant, loss, fitted",
    [(PAPERS, 0.049, True), (0.04, 0.039, False), (0.04, 0.0014, True), (math.nan, 0.049, True)],
    ids=["the paper's", "small targets", "small targets learned", "not known"],
)
def test_target_is_relative_to_the_best_constant(constant, loss, fitted):
    rows = [(s, {LOSS: loss, "loss/constant": constant, ZETA: 0.1}) for s in range(3)]
    assert (labelled(rows)[0][-1] == "FITTED") is fitted


def test_a_sum_is_compared_per_sample_and_held_out_loss_comes_first():
    row = {LOSS: 12.0, "loss/mean": 0.012, "loss/samples": 1000.0, ZETA: 0.1}
    assert labelled([(0, row)])[0] == ["FITTED"]
    assert labelled([(0, row | {"held_out/loss": 0.7})])[0] == ["SIGNAL_HEAVY"]
    unsure = {"held_out/loss": 0.045, "held_out/standard_error": 0.01}
    assert labelled([(0, row | unsure)])[0] == ["SIGNAL_HEAVY"]


def test_training_between_sparse_held_out_readings_decides_nothing():
    """A set learned by heart: its own loss is met at every record, that of other samples at the last alone."""
    rows = [(s, {LOSS: 0.001, "linearization/slope_drift": 1.0}) for s in range(100)]
    for step, loss in {0: 2.0, 30: 1.5, 60: 1.0, 99: 0.01}.items():
        rows[step][1].update({"held_out/loss": loss, "held_out/slope_drift": 0.0})
    names, labels = labelled(rows)
    assert [b.detected for b in fitted_in(labels)] == [99] and names[-2:] != ["FITTED"] * 2
    watch = LossWatch(Thresholds())
    watch.update(0, rows[0][1])
    restored = LossWatch(Thresholds())
    restored.load_state_dict(watch.state_dict())
    restored.update(1, rows[1][1])
    assert not restored.fitted and not restored.diverged
    restored.update(2, {LOSS: math.inf})
    assert restored.diverged


@pytest.mark.parametrize("rising", [False, True])
def test_crossing_between_log_spaced_records_is_interpolated(rising):
    sign = 1 if rising else -1
    records = [
        Measured(s, (s / 70) ** (1.5 * sign), 1.0, 1.0, math.nan)
        for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    ]
    onset = local_crossing(records, 1.0, 2.0, rising=rising)
    assert (onset.low, onset.high) == (64, 128) and onset.step == pytest.approx(70, rel=0.05)


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_intervals_of_local_fits_cover_the_crossing(noise):
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        logs = 2.0 - 0.2 * np.arange(20) + rng.normal(0, noise, 20)
        records = [Measured(s, math.exp(v), 1.0, 1.0, math.nan) for s, v in enumerate(logs)]
        onset = local_crossing(records, 1.0, 2.0)
        covered += onset.low <= 10 <= onset.high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    "readings, reason",
    [
        ({"heaviness/chance": 1.0}, "the clusters span all of the input space"),
        ({"data/offset": 3.0}, "3 half-distances between clusters away from its centre"),
        (
            {"data/told": 0.0, "data/told_error": 0.03, "data/purity": 0.5},
            "tells 50% of the labels",
        ),
        ({"data/separated": 0.0}, "told apart from noise in 0%"),
    ],
    ids=["whole space", "off centre", "labels", "means"],
)
def test_data_that_do_not_fit_leave_the_label_open(readings, reason):
    row = {ZETA: 0.01, DRIFT: 0.01, LOSS: 1.0}
    verdict = PhaseClassifier().update(0, row | readings)
    assert verdict.phase.name == "UNDETERMINED" and reason in verdict.reason
    assert verdict.boundaries == ()
    good = {"heaviness/chance": 0.1, "data/offset": 0.3, "data/told": 0.8, "data/told_error": 0.1}
    assert PhaseClassifier().update(0, row | good).phase.name == "SIGNAL_HEAVY"
