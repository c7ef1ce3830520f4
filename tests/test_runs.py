"""Whole runs, in process and through the installed command."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import phasetrack
from phasetrack.losses import LogisticLoss
from phasetrack.network import TwoLayerNet
from phasetrack.settings import RunSettings
from phasetrack.tasks import XOR
from phasetrack.training import train

COMMAND = str(Path(sys.executable).with_name("phasetrack"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return train(RunSettings(d=64, width=128, batch=512), out=out, name="run"), out / "run"


def test_healthy_run_finds_then_tunes(fitted):
    summary, _ = fitted
    labels = [stretch["phase"] for stretch in summary["timeline"]]
    assert labels == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
    assert summary["stopped"] == "fitted" and summary["alerts"] == []
    onset = {b["name"]: b["onset"] for b in summary["boundaries"]}["signal_heavy"]
    assert onset == pytest.approx(summary["forecast"]["signal_heavy_onset"]["value"], rel=0.15)
    halved = summary["forecast"]["loss_halving_step"]["value"]
    assert summary["loss_halving_step"] == pytest.approx(halved, rel=0.08)
    for rates in summary["growth"].values():
        assert rates["measured"] == pytest.approx(rates["predicted"], rel=0.1)


def test_run_directory_reads_back(fitted):
    summary, path = fitted
    run = phasetrack.read_run(path)
    assert run.history.steps.tolist() == list(range(summary["steps"]))
    assert run.summary["phase"] == "FITTED"
    again = [b for _, verdict in run.relabel() for b in verdict.boundaries]
    assert [b.onset for b in again] == [b["onset"] for b in summary["boundaries"]]
    torch.load(path / "checkpoint.pt", weights_only=True)


def test_event_file_holds_every_boundary(fitted):
    summary, path = fitted
    events = EventAccumulator(str(path))
    events.Reload()
    for boundary in summary["boundaries"]:
        steps = [(e.step, e.value) for e in events.Scalars(f"boundary/{boundary['name']}")]
        assert steps == [(boundary["detected"] - 1, 0.0), (boundary["detected"], 1.0)]
        (onset,) = events.Scalars(f"boundary/{boundary['name']}_onset")
        assert onset.value == pytest.approx(boundary["onset"], rel=1e-6)


def test_probes_leave_training_unchanged():
    def weights(probed):
        task, loss = XOR(16), LogisticLoss()
        net = TwoLayerNet(16, 32, seed=3)
        optimizer = torch.optim.SGD(net.parameters(), lr=6.4)
        state = torch.random.get_rng_state()
        tracker = None
        if probed:
            tracker = phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry)
        for step in range(20):
            x, y = task.sample(64, seed=1, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        if tracker:
            assert len(tracker.history.steps) == 20
            assert not tracker.undefined.keys() & {"loss", "heaviness", "growth"}
            tracker.detach()
            assert not net.first._forward_hooks and not optimizer._optimizer_step_pre_hooks
        assert torch.equal(state, torch.random.get_rng_state())
        return net.state_dict()

    bare, probed = weights(False), weights(True)
    assert all(torch.equal(bare[name], probed[name]) for name in bare)


@pytest.mark.parametrize(
    "options, alert",
    [
        (dict(train="second"), "SADDLE"),
        (dict(shuffle_labels=True), "SADDLE"),
        (dict(eta=50.0), "DIVERGED"),
        (dict(theta=10.0), "LAZY"),
    ],
)
def test_failures_are_named_and_never_called_signal_heavy(options, alert, tmp_path):
    settings = RunSettings(d=128, width=256, batch=1024, **options)
    summary = train(settings, out=tmp_path, name="run")
    assert alert in [a["name"] for a in summary["alerts"]]
    assert "SIGNAL_HEAVY" not in [s["phase"] for s in summary["timeline"]]


def test_samples_do_not_depend_on_the_pieces():
    whole, _ = XOR(100).sample(50, seed=1, step=2)
    part, labels = XOR(100).sample(20, seed=1, step=2, start=30)
    assert torch.equal(whole[30:], part)
    assert torch.equal(labels, -part[:, 0] * part[:, 1])


@pytest.mark.parametrize(
    "options, named",
    [
        (["--d", "1"], "--d"),
        (["--width", "0"], "--width"),
        (["--batch", "0"], "--batch"),
        (["--eta", "-1"], "--eta"),
        (["--train", "none"], "--train"),
        (["--device", "cuda:99"], "--device"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(options, named, tmp_path):
    command = [COMMAND, "run", "xor", *options, "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith(named + ":")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_forecast_command_prints_json():
    command = [COMMAND, "forecast", "xor", "--d", "64", "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert printed["phase"] == "FITTED"
    assert math.isfinite(printed["forecast"]["signal_heavy_onset"]["value"])


def test_help_does_not_import_torch():
    code = (
        "import sys; sys.argv = ['phasetrack', '--help']; from phasetrack_cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
