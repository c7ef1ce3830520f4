"""Held-out samples as a probe."""

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import LogisticLoss, attach
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.held_out import HeldOutProbe

D, M = 6, 40
TASK = XOR(D)


def training(net, loss, targets, probes):
    optimizer, seen = torch.optim.SGD(net.parameters(), lr=0.5), []
    with attach(
        net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes, strict=True
    ) as tracker:
        for step in range(4):
            x, y = TASK.sample(M, seed=0, step=step)
            seen.append([p.detach().clone() for p in net.parameters()])
            optimizer.zero_grad()
            loss(net(x).squeeze(-1), targets(y)).backward()
            optimizer.step()
    return tracker, seen


LOSSES = {
    "logistic": (LogisticLoss(), 1, lambda y: y, lambda f, y: 2 * np.log1p(np.exp(-y * f))),
    "binary": (
        nn.BCEWithLogitsLoss(),
        1,
        lambda y: (y > 0).float(),
        lambda f, y: np.log1p(np.exp(-y * f)),
    ),
    "two logits": (
        nn.CrossEntropyLoss(),
        2,
        lambda y: (y > 0).long(),
        lambda f, y: np.log1p(np.exp(-y * f)),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_readings_are_those_of_the_held_out_samples(name):
    loss, heads, targets, reference = LOSSES[name]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, heads))
    x, y = TASK.sample(100, seed=9, step=0)
    probe = HeldOutProbe(x, targets(y), loss, name="test")
    tracker, seen = training(net, loss, targets, [probe])
    for step, (W, b, A, c) in enumerate(seen):
        values = np.maximum(0, x.numpy() @ W.numpy().T + b.numpy()) @ A.numpy().T + c.numpy()
        f = values[:, 0] if heads == 1 else values[:, 1] - values[:, 0]
        history = tracker.history
        losses = reference(f.astype(float), y.numpy())
        assert history["test/loss"][step] == pytest.approx(losses.mean(), rel=1e-5)
        assert history["test/error"][step] == (y.numpy() * f <= 0).mean()
    assert (tracker.history["test/value_error"] > 0).all()


def test_training_is_left_as_it_is():
    runs = []
    x, y = TASK.sample(100, seed=9, step=0)
    for probes in ([], [HeldOutProbe(x, y, LogisticLoss())]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, 1))
        training(net, LogisticLoss(), lambda y: y, probes)
        runs.append([p.detach().clone() for p in net.parameters()] + [torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
