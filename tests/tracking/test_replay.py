"""Runs seen again in hindsight, against a span that nobody declared."""

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, RunSettings, attach, read_run, train
from phasetrack.storage.weight_store import read_weights
from phasetrack.tasks import XOR
from phasetrack.tracking.replay import replay
from phasetrack.training.run import fresh_sample

SETTINGS = {"d": 32, "width": 64, "snapshots": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    train(RunSettings(**SETTINGS), out=out, name="run")
    return read_run(out / "run")


def test_declared_clusters_give_what_was_recorded(run):
    x, y = fresh_sample(run.config["settings"])
    again = replay(run.path, x, y, geometry=XOR(32).geometry, eta=0.2)
    assert again.span is None
    steps = again.history.steps
    assert steps.tolist() == run.history.steps[::2].tolist()
    for name in ("heaviness/zeta_star", "heaviness/heavy_mass", "margin/min"):
        np.testing.assert_allclose(again.history[name], run.history[name][::2], rtol=1e-5)
    np.testing.assert_allclose(
        again.history["loss/train"], run.history["loss/train"][::2], rtol=0.2
    )


def test_the_span_found_at_the_end_shows_when_it_formed(run):
    again = replay(run.path, *fresh_sample(run.config["settings"]))
    assert again.span.trustworthy and again.span.dim == 2
    assert again.span.angles_to(XOR(32).geometry.basis).max() < 5
    found = {b["name"]: b["onset"] for b in again.summary["boundaries"]}
    known = {b["name"]: b["onset"] for b in run.summary["boundaries"]}
    assert found["signal_heavy"] == pytest.approx(known["signal_heavy"], abs=1.5)


def test_shuffled_labels_are_not_trusted(tmp_path):
    settings = RunSettings(**SETTINGS, shuffle_labels=True, steps=60)
    train(settings, out=tmp_path, name="run")
    sample = fresh_sample(read_run(tmp_path / "run").config["settings"])
    try:
        span = replay(tmp_path / "run", *sample).span
    except ExpectedError as error:  # a span that speaks for one class only
        assert error.argument == "span"
    else:
        assert not span.trustworthy


@pytest.mark.parametrize("heads", [1, 2])
def test_models_of_ones_own(heads, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, heads)).double()
    loss = nn.CrossEntropyLoss() if heads == 2 else LogisticLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    task = XOR(8)
    options = {"loss": loss, "geometry": task.geometry, "logdir": tmp_path, "snapshots": 3}
    x, y = task.sample(64, seed=0, step=0, dtype=torch.float64)
    target = (y > 0).long() if heads == 2 else y
    with attach(model, optimizer, **options, strict=True) as tracker:
        for _ in range(7):
            optimizer.zero_grad()
            loss(model(x).squeeze(-1), target).backward()
            optimizer.step()
    again = replay(tmp_path, x, target, geometry=task.geometry, loss=loss)
    assert again.history.steps.tolist() == [0, 3, 6]
    for name in again.history:
        # labels, rates and what is known of the first samples depend on the records before
        if name != "loss/constant" and not name.startswith(("phase/", "growth/", "data/")):
            expected, found = tracker.history[name][::3], again.history[name]
            if name.startswith("kernel/"):  # sparse, by the steps recorded before
                both = np.isfinite(expected) & np.isfinite(found) & (name != "kernel/velocity")
                expected, found = expected[both], found[both]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_weights_that_a_closure_moves_are_saved_as_they_were_before_the_step(tmp_path):
    model, loss, task = (
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1)),
        LogisticLoss(),
        XOR(8),
    )
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    options = {"loss": loss, "geometry": task.geometry, "logdir": tmp_path, "snapshots": 1}
    x, y = task.sample(64, seed=0, step=0)

    def closure():
        optimizer.zero_grad()
        value = loss(model(x).squeeze(-1), y)
        value.backward()
        return value

    start = model[0].weight.detach().clone()
    with attach(model, optimizer, **options):
        optimizer.step(closure)
    assert not torch.equal(model[0].weight, start)
    assert torch.equal(read_weights(tmp_path).states[0]["W"], start)


def test_snapshots_need_a_place():
    model, task = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1)), XOR(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ExpectedError, match=r"snapshots: No logdir is given"):
        attach(model, optimizer, loss=LogisticLoss(), geometry=task.geometry, snapshots=1)
