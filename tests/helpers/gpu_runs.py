"""The canonical experiment and a user's own training in small, on any device."""

import numpy as np
import torch
from torch import nn

from phasetrack import LogisticLoss, RunSettings, attach
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks.registry import make_task
from phasetrack.training.matmul import DEFAULT, Matmul
from phasetrack.training.step import stepper

CPU = torch.device("cpu")
D, WIDTH, BATCH = 32, 32, 128


def canonical(device, name="xor", pieces=1, **options):
    """The canonical experiment in small: takes a step whenever the next tracker is asked for.

    On a GPU it plays a graph where a batch is one piece.
    """
    settings = RunSettings(task=name, d=D, width=WIDTH, batch=BATCH, micro_batch=BATCH // pieces)
    task, loss = make_task(name, D), LogisticLoss()
    net = FusedTwoLayerNet(D, WIDTH, seed=3).to(device)
    optimizer, how = torch.optim.SGD(net.parameters(), lr=settings.eta * WIDTH), Matmul(DEFAULT)
    with attach(net, optimizer, loss=loss, geometry=task.geometry, **options) as seen:
        take_step = stepper(settings, task, net, optimizer, loss, device=device, matmul=how)
        for step in range(100):
            take_step(step)
            yield seen


def users(device, **options):
    """A user's loop; likewise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)).to(device)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.BCEWithLogitsLoss()
    task = make_task("xor", D)
    with attach(model, optimizer, loss=loss, geometry=task.geometry, **options) as seen:
        for step in range(100):
            x, y = task.sample(BATCH, seed=0, step=step, device=device)
            optimizer.zero_grad()
            loss(model(x).squeeze(-1), (y > 0).float()).backward()
            optimizer.step()
            yield seen


def taken(run, count):
    """The tracker after so many further steps."""
    return [next(run) for _ in range(count)][-1]


def assert_alike(one, other):
    assert list(one) == list(other) and one.steps.tolist() == other.steps.tolist()
    for name in other:  # rates are differences of float32 weights
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4, err_msg=name)
