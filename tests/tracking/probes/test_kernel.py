"""Kernel readings of a run: sparse, the same for every block, through a resume; LAZY by them."""

import numpy as np
import pytest
import torch
from torch import nn

import phasetrack
from phasetrack.measures import kernel
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.tasks import XOR

TASK = XOR(d=16)


def model(scale=1.0, seed=0, width=24):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    return net


def train(net, tracker, optimizer, loss, steps, batch=64):
    for step in steps:
        x, y = TASK.sample(batch, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x).squeeze(-1), (y > 0).float()).backward()
        optimizer.step()


def attached(net, **more):
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=1e-2), nn.BCEWithLogitsLoss()
    return (
        phasetrack.attach(net, optimizer, loss=loss, geometry=TASK.geometry, **more),
        optimizer,
        loss,
    )


def frozen(net):
    parts = [
        p.detach().double().clone()
        for p in (net[0].weight, net[2].weight, net[0].bias, net[2].bias)
    ]
    formula = Formula(24, 1, 1.0, torch.relu, False, True, submodule=False)
    return FrozenLayers(formula, *parts)


def kernel_rows(history):
    names = [name for name in history if name.startswith("kernel/")]
    read = ~np.isnan(history["kernel/drift"])
    return history.steps[read].tolist(), np.array([history[name][read] for name in names])


def test_readings_are_those_of_the_weights_at_few_steps():
    net = model()
    start, seen = frozen(net), {}
    tracker, optimizer, loss = attached(net)
    for step in range(50):
        seen[step] = frozen(net)
        train(net, tracker, optimizer, loss, [step])
    tracker.detach()
    steps, _ = kernel_rows(tracker.history)
    assert steps[:3] == [0, 1, 2] and 8 <= len(steps) <= 11
    x = TASK.sample(64, seed=0, step=0)[0].double()
    for step in steps:
        here = int(np.flatnonzero(tracker.history.steps == step)[0])
        read = {
            n: tracker.history[f"kernel/{n}"][here]
            for n in ("drift", "linearisation_error", "distance")
        }
        drift = kernel.drift(kernel.kernel(seen[step], x), kernel.kernel(start, x))
        assert read["drift"] == pytest.approx(drift.item(), rel=1e-6, abs=1e-9)
        expected = kernel.linearisation_error(seen[step], start, x).item()
        assert read["linearisation_error"] == pytest.approx(expected, rel=1e-5, abs=1e-9)
        expected = kernel.distance(seen[step], start).item()
        assert read["distance"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert set(tracker.undefined) & {"kernel/drift", "kernel"} == set()


@pytest.mark.parametrize("block", [1, 7])
def test_readings_are_the_same_for_every_block(block):
    found = []
    for size in (block, 128):
        net = model()
        tracker, *rest = attached(net, block=size, every=3)
        train(net, tracker, *rest, range(160), batch=8)
        tracker.detach()
        found.append(kernel_rows(tracker.history))
    assert found[0][0] == found[1][0] and len(found[0][0]) > 3
    assert found[0][0][0] > 7 * 3  # eight batches of 8 make the sample
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("stop", [3, 20])
def test_a_resumed_run_has_the_same_readings(stop):
    net = model()
    tracker, *rest = attached(net)
    train(net, tracker, *rest, range(60), batch=16)
    expected = kernel_rows(tracker.history)
    tracker.detach()
    net = model()
    tracker, optimizer, loss = attached(net)
    train(net, tracker, optimizer, loss, range(stop), batch=16)
    state = tracker.state_dict()
    tracker.detach()
    resumed, again, loss = attached(net)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(state)
    train(net, resumed, again, loss, range(stop, 60), batch=16)
    found = kernel_rows(resumed.history)
    resumed.detach()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def test_lazy_is_told_by_the_kernel_and_not_by_zeta():
    """A large start fits with its first kernel; PyTorch's own start learns features, though zeta* falls late."""
    ends = {}
    for scale, width, steps in ((1.0, 24, 200), (8.0, 256, 200)):
        net = model(scale, width=width)
        tracker, *rest = attached(net)
        train(net, tracker, *rest, range(steps), batch=256)
        tracker.detach()
        names = [alert.name for alert in tracker.alerts]
        ends[scale] = tracker.phase.name, "LAZY" in names, tracker.history["kernel/drift"]
    assert ends[1.0][:2] == ("FITTED", False) and ends[8.0][:2] == ("FITTED", True)
    assert np.nanmax(ends[1.0][2]) > 1 > 0.5 > np.nanmax(ends[8.0][2])
