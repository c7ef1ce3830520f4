"""Whole runs in process: the canonical experiment, and runs far off its range."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import phasetrack
from phasetrack import (
    ExpectedError,
    LogisticLoss,
    RunSettings,
    TwoLayerNet,
    read_run,
    resume,
    train,
)
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.tracking.guard import TrackingWarning
from phasetrack.training import int8_matmul as digits
from phasetrack.training import matmul as products
from phasetrack.training import memory
from phasetrack.training.fresh_sample import fresh_sample
from phasetrack.training.matmul import DEFAULT, DIGITS, Matmul
from phasetrack.training.placement import resolve_settings, with_micro_batch

SMALL = RunSettings(d=64, width=128, batch=512)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return train(SMALL, out=out, name="run"), out / "run"


def test_healthy_run_finds_then_tunes(fitted):
    summary, _ = fitted
    labels = [stretch["phase"] for stretch in summary["timeline"]]
    assert labels == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
    assert summary["stopped"] == "fitted" and summary["alerts"] == []
    onset = {b["name"]: b["onset"] for b in summary["boundaries"]}["signal_heavy"]
    # one seed at a small d: the mean over seeds is held to 8 percent in acceptance/
    assert onset == pytest.approx(summary["forecast"]["signal_heavy_onset"]["value"], rel=0.15)
    halved = summary["forecast"]["loss_halving_step"]["value"]
    assert summary["loss_halving_step"] == pytest.approx(halved, rel=0.08)
    for rates in summary["growth"].values():
        assert rates["measured"] == pytest.approx(rates["predicted"], rel=0.1)


def test_run_directory_reads_back(fitted):
    summary, path = fitted
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("events.out.tfevents."))
    files = ["checkpoint.pt", "clock.jsonl", "config.json", "history.jsonl", "summary.json"]
    assert names == sorted([*files, "neurons"])
    run = phasetrack.read_run(path)
    assert run.history.steps.tolist() == list(range(summary["steps"]))
    np.testing.assert_equal(run.summary, summary)
    np.testing.assert_equal(run.summarise()["boundaries"], summary["boundaries"])
    assert run.summary["final"]["loss/train"] == run.history["loss/train"][-1]
    assert run.config["settings"]["batch"] == 512


def test_checkpoint_holds_the_last_weights(fitted):
    summary, path = fitted
    state = torch.load(path / "checkpoint.pt", weights_only=True)
    assert state["step"] == summary["steps"]
    net = TwoLayerNet(64, 128)
    net.load_state_dict(state["model"])
    x, y = XOR(64).sample(2000, seed=99, step=0)
    assert (net(x) * y > 0).float().mean() > 0.99


def test_run_is_the_loop_people_write(fitted):
    """The same weights, to the bit, as from plain SGD without probes."""
    summary, path = fitted
    net, loss = FusedTwoLayerNet(64, 128, theta=0.1, seed=0), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 128)
    for step in range(summary["steps"]):
        x, y = XOR(64).sample(512, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    state = torch.load(path / "checkpoint.pt", weights_only=True)["model"]
    for name, weights in net.state_dict().items():
        assert torch.equal(state[name], weights)


def test_micro_batches_change_nothing_beyond_rounding(tmp_path):
    settings = {"d": 32, "width": 64, "batch": 128, "steps": 10}
    whole = train(RunSettings(**settings), out=tmp_path, name="whole")
    parts = train(RunSettings(**settings, micro_batch=50), out=tmp_path, name="parts")
    assert whole["final"].keys() == parts["final"].keys()
    for name, value in whole["final"].items():
        assert parts["final"][name] == pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True), name


def test_a_batch_too_large_for_memory_is_split_by_itself(tmp_path, monkeypatch):
    settings = RunSettings(d=32, width=64, batch=128, steps=10)
    train(settings, out=tmp_path, name="whole")
    monkeypatch.setattr(memory, "PIECE_BYTES", 30 * memory.bytes_per_sample(32, 64))
    train(settings, out=tmp_path, name="parts")
    train(replace(settings, micro_batch=26), out=tmp_path, name="asked")
    whole, parts, asked = (read_run(tmp_path / name) for name in ("whole", "parts", "asked"))
    # five pieces of 26, 26, 26, 26 and 24
    assert [run.config["settings"]["micro_batch"] for run in (whole, parts, asked)] == [128, 26, 26]
    for name in whole.history:
        np.testing.assert_array_equal(parts.history[name], asked.history[name])
        np.testing.assert_allclose(parts.history[name], whole.history[name], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
def test_a_run_in_digits_is_that_of_floats_and_goes_on_in_them(tmp_path):
    settings = RunSettings(d=64, width=128, batch=512, steps=60)
    summaries = {
        how: train(settings, out=tmp_path, name=how, matmul=how) for how in ("default", "digits")
    }
    assert [summary["matmul"]["path"] for summary in summaries.values()] == ["default", "digits"]
    floats, bytes_ = (read_run(tmp_path / name) for name in summaries)
    assert list(bytes_.history) == list(floats.history)
    # a sample at the edge of a neuron may come to lie on its other side, as by any order of summation
    for name, off in {"loss/train": 1e-4, "margin/min": 1e-2, "heaviness/zeta_star": 0.1}.items():
        np.testing.assert_allclose(bytes_.history[name], floats.history[name], rtol=off)
    assert not np.array_equal(bytes_.history["loss/train"], floats.history["loss/train"])
    before = (tmp_path / "digits/history.jsonl").read_bytes()
    (tmp_path / "digits/summary.json").unlink()
    assert resume(tmp_path / "digits")["matmul"]["path"] == "digits"
    assert (tmp_path / "digits/history.jsonl").read_bytes() == before


@pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
def test_a_run_in_digits_goes_on_without_them_and_says_so(tmp_path, monkeypatch):
    settings = RunSettings(d=64, width=32, batch=64, steps=5)
    train(settings, out=tmp_path, name="run", matmul="digits")
    monkeypatch.setattr(products, "available", lambda: (DEFAULT,))
    with pytest.warns(TrackingWarning, match="last bits may differ"):
        assert resume(tmp_path / "run")["matmul"]["path"] == DEFAULT
    with pytest.raises(ExpectedError, match="cannot use 'digits'"):
        resume(tmp_path / "run", matmul="digits")


@pytest.mark.parametrize("batch, expected", [(2048, DIGITS), (4000, DEFAULT)])
def test_what_is_settled_stays_so(batch, expected, monkeypatch):
    monkeypatch.setattr(products, "available", lambda: (DEFAULT, DIGITS))
    monkeypatch.setattr(products, "_in_digits", lambda *_: Matmul(DIGITS, 1e-7))
    cpu = torch.device("cpu")
    # 4000 samples would be taken in two pieces, too small for digits
    first, path = resolve_settings(RunSettings(d=256, width=4096, batch=batch), cpu)
    assert path.path == expected
    assert resolve_settings(first, cpu) == (first, path)


def test_digits_take_more_samples_at_once():
    settings, cpu = RunSettings(d=512, width=512, batch=16_384), torch.device("cpu")
    pieces = [with_micro_batch(settings, cpu, path=how).piece for how in (DEFAULT, DIGITS)]
    assert pieces == [2048, 2048 * memory.DIGITS_PIECE]


def test_a_sample_that_does_not_fit_is_refused(monkeypatch):
    settings = {"d": 8192, "shuffle_labels": False, "seed": 0}
    monkeypatch.setattr("phasetrack.training.fresh_sample.host_memory", lambda: 2**30)
    with pytest.raises(
        ExpectedError, match=r"d = 8192 takes 4.29 GB, and half of the memory is 0.537 GB"
    ):
        fresh_sample(settings)
    monkeypatch.setattr("phasetrack.training.fresh_sample.host_memory", lambda: None)
    x, y = fresh_sample(settings | {"d": 8})
    assert x.shape == (4096, 8) and y.shape == (4096,)


@pytest.mark.parametrize("steps", [1, 7])
def test_steps_are_taken_exactly(steps, tmp_path):
    summary = train(RunSettings(d=8, width=8, steps=steps), out=tmp_path, name="run")
    assert summary["steps"] == steps and summary["stopped"] == "steps"


def test_every_records_less(tmp_path):
    train(RunSettings(d=8, width=8, steps=10, every=4), out=tmp_path, name="run")
    assert phasetrack.read_run(tmp_path / "run").history.steps.tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    "options, alert",
    [
        ({"train": "second"}, "SADDLE"),
        ({"shuffle_labels": True}, "SADDLE"),
        ({"eta": 50.0}, "DIVERGED"),
        ({"theta": 10.0}, "LAZY"),
        ({"width": 4}, "IMBALANCED"),
    ],
    ids=["second layer only", "shuffled labels", "huge step", "huge start", "four neurons"],
)
def test_failures_are_named_and_never_called_signal_heavy(options, alert, tmp_path):
    settings = RunSettings(**{"d": 128, "width": 256, "batch": 1024} | options)
    summary = train(settings, out=tmp_path, name="run")
    assert alert in [a["name"] for a in summary["alerts"]]
    assert "SIGNAL_HEAVY" not in [s["phase"] for s in summary["timeline"]]


def test_training_the_first_layer_only_finds_the_features(tmp_path):
    settings = RunSettings(d=64, width=128, batch=512, train="first", steps=80)
    summary = train(settings, out=tmp_path, name="run")
    run = phasetrack.read_run(tmp_path / "run")
    assert summary["phase"] == "SIGNAL_HEAVY"
    assert np.ptp(run.history["growth/second_layer_rate"][1:]) == 0


def test_a_failure_in_the_middle_leaves_a_readable_run(tmp_path):
    class Stop:
        def write(self, record):
            if record.step == 5:
                raise KeyboardInterrupt

        def close(self, summary, history):
            pass

    summary = train(RunSettings(d=8, width=8), out=tmp_path, name="run", sinks=[Stop()])
    assert summary["stopped"] == "interrupted"
    run = phasetrack.read_run(tmp_path / "run")
    assert run.summary["stopped"] == "interrupted" and len(run.history.steps) >= 5


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99"])
def test_other_devices_are_refused_and_leave_nothing(device, tmp_path):
    with pytest.raises(ExpectedError, match=r"device: .*(is not a device|is not there)"):
        train(RunSettings(d=8), out=tmp_path / "runs", device=device)
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_forecast_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("phasetrack.training.run.predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(RunSettings(d=8), out=tmp_path, name="run")
    assert list(tmp_path.iterdir()) == []


def test_summary_is_json_with_the_agreed_keys(fitted):
    _, path = fitted
    summary = json.loads((path / "summary.json").read_text())
    assert set(summary) >= {"phase", "boundaries", "alerts", "final", "forecast"}
    keys = {"name", "onset", "detected", "low", "high", "left"}
    assert keys == set(summary["boundaries"][0])
    for name in ("signal_heavy_onset", "loss_halving_step"):
        assert all(math.isfinite(summary["forecast"][name][v]) for v in ("value", "low", "high"))
    agreed = """loss/train error/train heaviness/zeta_star heaviness/heavy_mass
    heaviness/signal_share heaviness/chance heaviness/control margin/min margin/max margin/balance
    margin/clean/mu1 margin/empirical/mu1 linearization/value_error linearization/slope_drift
    growth/signal_rate growth/signal_rate_predicted growth/second_layer_rate_heavy
    growth/second_layer_rate_rest forecast/zeta_star forecast/loss forecast/margin_min phase/id"""
    assert set(agreed.split()) <= set(summary["final"])
