"""Training on a real GPU: where one is present, all that is promised of the host holds there too."""

import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.gpu_runs import BATCH, CPU, WIDTH, D, assert_alike, canonical, taken, users
from helpers.torch_settings import float32_rounding
from torch import nn

from phasetrack import ClusterGeometry, RunSettings, TwoLayerNet, attach, read_run, resume, train
from phasetrack.tasks import XOR
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tracking import snapshot_queue
from phasetrack.tracking.probes.default import SpanProbe, default_probes
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.training import step as stepping
from phasetrack.training.ensemble import train_together
from phasetrack.training.matmul import DEFAULT, Matmul
from phasetrack.training.step import take_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CUDA = torch.device("cuda")
PIECES = pytest.mark.parametrize("pieces", [1, 2], ids=["graph", "call by call"])
TASK = XOR(D)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Blocks end where they are full, not with the clock."""
    monkeypatch.setattr(snapshot_queue, "LATEST", 1e9)


@contextmanager
def sync_debug(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not see every wait yet
        torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def counted_waits():
    """A list that holds, afterwards, a warning for each time the host has waited."""
    with warnings.catch_warnings(record=True) as seen, sync_debug("warn"):
        warnings.simplefilter("always")
        waits = []
        yield waits
        waits += [w for w in seen if "synchronizing" in str(w.message)]


# --- the canonical experiment


@PIECES
@pytest.mark.parametrize("name", TASKS)
def test_steps_that_are_not_recorded_wait_for_nothing(name, pieces):
    run = canonical(CUDA, name, pieces, every=50)
    taken(run, 2)
    with sync_debug("error"):
        assert taken(run, 20).step == 22


@PIECES
@pytest.mark.parametrize("block", [1, 8])
def test_recorded_steps_wait_once_a_block(block, pieces):
    run = canonical(CUDA, pieces=pieces, block=block)
    taken(run, 2).phase  # noqa: B018
    with counted_waits() as waits:
        taken(run, block)
    assert len(waits) == 1


@PIECES
def test_readings_are_those_of_the_host(pieces):
    there, here = (taken(canonical(d, pieces=pieces), 20).history for d in (CUDA, CPU))
    assert_alike(there, here)


@pytest.mark.parametrize("name", TASKS)
def test_graphs_make_the_same_bits_as_call_after_call(name, monkeypatch):
    played = taken(canonical(CUDA, name), 20)
    monkeypatch.setattr(stepping, "GraphedStep", lambda *run: partial(_call_by_call, *run[:-1]))
    called = taken(canonical(CUDA, name), 20)
    for column in called.history:
        np.testing.assert_array_equal(played.history[column], called.history[column], column)
    assert torch.equal(played.view.W, called.view.W) and torch.equal(played.view.A, called.view.A)


def _call_by_call(*run):
    take_step(*run, device=CUDA, matmul=Matmul(DEFAULT))


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"rotated"}))  # a product of each device's own
def test_samples_and_first_weights_are_those_of_the_host(name):
    ours, theirs = (make_task(name, D).sample(50, seed=1, step=2, device=d) for d in (CUDA, CPU))
    assert all(torch.equal(one.cpu(), other) for one, other in zip(ours, theirs, strict=True))
    net = TwoLayerNet(D, WIDTH, seed=1).to(CUDA)
    assert torch.equal(net.first.weight.cpu(), TwoLayerNet(D, WIDTH, seed=1).first.weight)


class Interrupt:
    """A sink that ends the training at a step."""

    def write(self, record):
        if record.step == 13:
            raise KeyboardInterrupt

    def close(self, summary, history):
        pass


@pytest.mark.parametrize("size", [(8, 8, 16), (64, 128, 100)], ids=str)
def test_runs_go_on_to_the_bit(size, tmp_path):
    d, width, batch = size
    settings = RunSettings(d=d, width=width, batch=batch, steps=20)
    options = {"out": tmp_path, "device": "cuda", "checkpoint_steps": 4}
    train(settings, name="whole", **options)
    train(settings, name="cut", sinks=[Interrupt()], **options)
    assert resume(tmp_path / "cut")["steps"] == 20
    cut, whole = ((tmp_path / n / "history.jsonl").read_bytes() for n in ("cut", "whole"))
    assert cut == whole


@pytest.mark.parametrize("extra", [{"gradient_error": True}, {"snapshots": 4}], ids=str)
def test_runs_with_more_to_read_are_those_of_the_host(extra, tmp_path):
    settings = RunSettings(d=16, width=32, batch=64, steps=12, **extra)
    for device in ("cpu", "cuda"):
        train(settings, out=tmp_path, name=device, device=device)
    there, here = (read_run(tmp_path / device).history for device in ("cuda", "cpu"))
    assert_alike(there, here)


def test_runs_trained_together_are_those_of_the_host():
    runs = [RunSettings(d=16, width=32, batch=64, steps=20, seed=seed) for seed in range(3)]
    runs.append(replace(runs[0], train="first"))
    there, here = (list(train_together(runs, device=device)) for device in ("cuda", "cpu"))
    for ours, theirs in zip(there, here, strict=True):
        assert_alike(ours.history, theirs.history)


# --- a user's own training

STYLES = {
    "sgd": {},
    "adam": {"optimizer": lambda ps: torch.optim.Adam(ps, lr=1e-2)},
    "tensorfloat32": {"precision": "high"},
    "bfloat16": {"cast": torch.bfloat16},
    "float16, scaled": {"cast": torch.float16},
    "compiled": {"compiled": True},
}


def user_run(every, optimizer=None, precision="highest", cast=None, compiled=False, **options):
    """A user's loop of 8 steps, tracked or not: its weights, and its tracker."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)).to(CUDA)
    called = torch.compile(model) if compiled else model
    steering = (optimizer or partial(torch.optim.SGD, lr=0.5))(model.parameters())
    loss, scaler = nn.BCEWithLogitsLoss(), torch.amp.GradScaler(enabled=cast is torch.float16)
    tracker = None
    if every:
        options = {"loss": loss, "geometry": TASK.geometry, "strict": every != 1, **options}
        tracker = attach(called, steering, every=every, **options)
    with float32_rounding(precision), tracker or nullcontext():
        for step in range(8):
            x, y = TASK.sample(BATCH, seed=0, step=step, device=CUDA)
            steering.zero_grad()
            with torch.autocast("cuda", dtype=cast, enabled=cast is not None):
                outputs = called(x).squeeze(-1).float()
            scaler.scale(loss(outputs, (y > 0).float())).backward()
            scaler.step(steering)
            scaler.update()
    return [p.detach() for p in model.parameters()], tracker


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TensorFloat32")  # torch.compile's
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("style", STYLES)
def test_training_is_unchanged_to_the_bit(style, every):
    bare, _ = user_run(None, **STYLES[style])
    weights, tracker = user_run(every, **STYLES[style])
    assert all(map(torch.equal, weights, bare))
    assert tracker.history.steps.tolist() == list(range(0, 8, every))
    assert not np.isnan(tracker.history["loss/train"]).any()


def test_a_users_loop_waits_once_a_block():
    run = users(CUDA, block=8)
    taken(run, 2).phase  # noqa: B018 measures what is pending
    with counted_waits() as waits:
        taken(run, 8)
    assert len(waits) == 1
    run = users(CUDA, every=50)
    taken(run, 2)
    with sync_debug("error"):
        assert taken(run, 20).step == 22


def test_probes_that_keep_samples_read_as_on_the_host():
    x, y = TASK.sample(500, seed=9, step=0)
    histories = []
    for device in (CUDA, CPU):
        held_out = HeldOutProbe(x.to(device), y.to(device), nn.SoftMarginLoss())
        probes = [*default_probes(gradients=True), held_out, SpanProbe(x.to(device), y.to(device))]
        histories.append(taken(canonical(device, pieces=2, probes=probes), 6).history)
    assert_alike(*histories)


@pytest.mark.parametrize("few", [True, False], ids=["few coordinates", "all coordinates"])
def test_readings_keep_their_digits_where_products_are_rounded(few):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(512, 256, generator=generator)
    turn = torch.linalg.qr(torch.randn(256, 256, generator=generator, dtype=torch.float64)).Q
    plain = XOR(256).geometry
    geometry = plain if few else ClusterGeometry(plain.centres @ turn, plain.labels)
    there = W.to(CUDA)
    with float32_rounding("highest"):
        exact = [*geometry.read(there), geometry.traces(there)]
    with float32_rounding("high"):
        assert not torch.allclose((there @ there.T).cpu(), W @ W.T, rtol=1e-5, atol=1e-4)
        rounded = [*geometry.read(there), geometry.traces(there)]
        assert torch.get_float32_matmul_precision() == "high"
    assert all(map(torch.equal, exact, rounded))
    for ours, reference in zip(rounded, geometry.read(W.double()), strict=False):
        torch.testing.assert_close(ours.cpu().double(), reference, rtol=1e-5, atol=1e-5)
