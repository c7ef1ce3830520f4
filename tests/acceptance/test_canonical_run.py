"""The canonical experiment over seeds and settings, against the forecast made before training."""

import statistics

import pytest
import torch

from phasetrack import RunSettings, TwoLayerNet, discover, predict, read_run, train
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
    """Summaries of five seeds, each with the forecast from another initialisation."""
    out = tmp_path_factory.mktemp("runs")
    return [
        train(RunSettings(**SETTINGS[request.param], seed=seed), out=out, name=str(seed))
        for seed in SEEDS
    ]


def mean(values):
    return statistics.fmean(values)


def test_finding_goes_over_to_heavy_once_and_ends_fitted(runs):
    for summary in runs:
        labels = [stretch["phase"] for stretch in summary["timeline"]]
        assert labels == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
        assert summary["alerts"] == []


def test_onset_is_as_forecast(runs):
    onsets = [b["onset"] for s in runs for b in s["boundaries"] if b["name"] == "signal_heavy"]
    predicted = mean(s["forecast"]["signal_heavy_onset"]["value"] for s in runs)
    print(f"onset {mean(onsets):.1f}, forecast {predicted:.1f}")
    assert mean(onsets) == pytest.approx(predicted, rel=TOLERANCE)


def test_loss_halves_as_forecast(runs):
    halved = mean(s["loss_halving_step"] for s in runs)
    predicted = mean(s["forecast"]["loss_halving_step"]["value"] for s in runs)
    print(f"halved {halved:.1f}, forecast {predicted:.1f}")
    assert halved == pytest.approx(predicted, rel=TOLERANCE)


@pytest.mark.parametrize("phase", ["signal_finding", "signal_heavy"])
def test_growth_is_as_predicted(runs, phase):
    measured = mean(s["growth"][phase]["measured"] for s in runs)
    predicted = mean(s["growth"][phase]["predicted"] for s in runs)
    print(f"{phase} {measured:.3f}, predicted {predicted:.3f}")
    assert measured == pytest.approx(predicted, rel=0.1)


def test_a_forecast_takes_no_training():
    """Another seed's forecast does as well: it knows nothing of the run."""
    bands = [predict(XOR(512).geometry, RunSettings(seed=seed)).bands() for seed in (10, 11)]
    onsets = [band["signal_heavy_onset"]["value"] for band in bands]
    assert onsets[0] != onsets[1] and onsets[0] == pytest.approx(onsets[1], rel=0.05)


@pytest.mark.parametrize("shuffled", [False, True], ids=["xor", "shuffled labels"])
def test_span_discovered_in_hindsight_at_512(shuffled, tmp_path):
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
