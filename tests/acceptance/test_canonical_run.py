"""The canonical experiment over seeds and settings against the forecast made before training."""

import statistics

import pytest
import torch

from phasetrack import RunSettings, TwoLayerNet, discover, predict, read_run, train
from phasetrack.phases.boundaries import LOSS_HALVED, SIGNAL_HEAVY, onset
from phasetrack.tasks import XOR
from phasetrack.tracking.replay import replay
from phasetrack.training.run import fresh_sample

pytestmark = pytest.mark.long

SETTINGS = {
    "d=512": {"d": 512},
    "d=64": {"d": 64},
    "d=256": {"d": 256},
    "d=1024": {"d": 1024},
    "eta=0.05": {"d": 512, "eta": 0.05},
    "theta=0.3": {"d": 512, "theta": 0.3},
}
SEEDS = range(5)
TOLERANCE = 0.08


@pytest.fixture(scope="module", params=SETTINGS)
def runs(request, tmp_path_factory):
    """Summaries of five seeds, each with a forecast from a different initialisation."""
    out = tmp_path_factory.mktemp("runs")
    return [
        train(RunSettings(**SETTINGS[request.param], seed=seed), out=out, name=str(seed))
        for seed in SEEDS
    ]


def mean(values):
    return statistics.fmean(values)


def test_phases_come_in_order_without_alerts(runs):
    for summary in runs:
        labels = [stretch["phase"] for stretch in summary["timeline"]]
        assert labels == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
        assert summary["alerts"] == []


def test_onset_matches_forecast(runs):
    onsets = [onset(summary, SIGNAL_HEAVY.key) for summary in runs]
    predicted = mean(s["forecast"][SIGNAL_HEAVY.forecast]["value"] for s in runs)
    print(f"onset {mean(onsets):.1f}, forecast {predicted:.1f}")
    assert mean(onsets) == pytest.approx(predicted, rel=TOLERANCE)


def test_loss_halving_matches_forecast(runs):
    halved = mean(onset(summary, LOSS_HALVED.key) for summary in runs)
    predicted = mean(s["forecast"][LOSS_HALVED.forecast]["value"] for s in runs)
    print(f"halved {halved:.1f}, forecast {predicted:.1f}")
    assert halved == pytest.approx(predicted, rel=TOLERANCE)


@pytest.mark.parametrize("phase", ["signal_finding", "signal_heavy"])
def test_growth_matches_prediction(runs, phase):
    measured = mean(s["growth"][phase]["measured"] for s in runs)
    predicted = mean(s["growth"][phase]["predicted"] for s in runs)
    print(f"{phase} {measured:.3f}, predicted {predicted:.3f}")
    assert measured == pytest.approx(predicted, rel=0.1)


def test_forecast_does_not_depend_on_the_seed():
    bands = [predict(XOR(512).geometry, RunSettings(seed=seed)).bands() for seed in (10, 11)]
    onsets = [band["signal_heavy_onset"]["value"] for band in bands]
    assert onsets[0] != onsets[1] and onsets[0] == pytest.approx(onsets[1], rel=0.05)


@pytest.mark.parametrize("shuffled", [False, True], ids=["xor", "shuffled labels"])
def test_span_is_discovered_from_saved_weights(shuffled, tmp_path):
    settings = RunSettings(d=512, snapshots=10, shuffle_labels=shuffled)
    train(settings, out=tmp_path, name="run")
    sample = fresh_sample(read_run(tmp_path / "run").config["settings"])
    if shuffled:
        net = TwoLayerNet(512, 512)
        state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
        net.load_state_dict(state["model"])
        assert not discover(*sample, net.double()).trustworthy
        return
    seen = replay(tmp_path / "run", *sample)
    assert seen.span.trustworthy
    assert seen.span.angles_to(XOR(512).geometry.basis).max() < 5
