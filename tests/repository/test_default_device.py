"""A default device of the user's, as `torch.set_default_device` sets it, changes nothing of phasetrack."""

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._device import _device_constructors

from phasetrack import (
    ClusterGeometry,
    LogisticLoss,
    RunSettings,
    TwoLayerNet,
    attach,
    discover,
    predict,
    tasks,
)
from phasetrack.measures import heaviness
from phasetrack.measures.feature_gain import Features
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tracking.probes.default import SpanProbe, default_probes
from phasetrack.tracking.probes.feature_gain import AcquisitionProbe
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.tracking.probes.neuron_blocks import GatheringProbe

PACKAGE = Path(__file__).parents[2] / "phasetrack"
FACTORIES = {function.__name__ for function in _device_constructors()}
D = 10


def test_every_factory_of_ours_names_its_device():
    silent = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            named = any(keyword.arg in ("device", None) for keyword in node.keywords)
            if of_torch and node.func.attr in FACTORIES and not named:
                silent.append(f"{path.relative_to(PACKAGE)}:{node.lineno} torch.{node.func.attr}")
    assert silent == []


def on(device, action):
    """The result of an action while `device` is the default."""
    torch.set_default_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return action()
    finally:
        torch.set_default_device(None)  # "cpu" would leave a mode for the tests that follow


def same(action):
    """The result on the host, once it is the same under a default device that holds no numbers."""
    other, plain = on("meta", action), on("cpu", action)  # in this order: tables are cached
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
    return plain


@pytest.mark.parametrize("outputs", [1, 3], ids=["one output", "three classes"])
@pytest.mark.parametrize("gradients", [False, True], ids=["default probes", "all probes"])
def test_a_record_is_the_same_under_a_default_device(outputs, gradients):
    task = tasks.XOR(D)
    geometry = task.geometry if outputs == 1 else ClusterGeometry(torch.eye(3, D), [0, 1, 2])
    x, y = task.sample(64, seed=1, step=0)
    loss = LogisticLoss() if outputs == 1 else nn.CrossEntropyLoss()
    targets = y if outputs == 1 else (y > 0).long()
    features = Features.products(D, 2, {"xor": (-1, 1, 2)})
    more = [HeldOutProbe(x, targets, loss), GatheringProbe(), SpanProbe(x, y)]
    more += [AcquisitionProbe(features)] if outputs == 1 else []
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, outputs), nn.Flatten(0 if outputs == 1 else 1)
    )
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def train():
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        probes = [*default_probes(gradients=gradients), *(more if gradients else [])]
        with attach(model, optimizer, loss=loss, geometry=geometry, probes=probes) as tracker:
            for _ in range(3):
                optimizer.zero_grad()
                loss(model(x), targets).backward()
                optimizer.step()
        return [tracker.history[name] for name in sorted(tracker.history)]

    assert len(same(train)) > 20


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_the_same_under_a_default_device(name):
    def drawn():
        task = make_task(name, 12)
        return [*task.sample(50, seed=3, step=1), task.geometry.centres]

    same(drawn)


def test_the_span_and_the_geometry_are_the_same_under_a_default_device():
    x, y = tasks.XOR(D).sample(2000, seed=0, step=0)
    net = TwoLayerNet(D, 16)

    def found():
        of_data, of_net = discover(x, y), discover(x, y, net)
        geometries = [
            of_data.geometry(x, y),
            ClusterGeometry.from_data(x, y),
            ClusterGeometry.from_directions([[1.0] * D, [1.0, -1.0] * (D // 2)], [1, -1]),
            ClusterGeometry([[0.0] * D, [1.0] * D], [0, 1]),
        ]
        W, a = net.first.weight.detach(), net.second.weight.detach()[0]
        return [
            of_data.basis,
            of_net.basis,
            *(geometry.centres for geometry in geometries),
            *(heaviness.needed_zeta(W, a, geometry) for geometry in geometries),
            *(geometry.decompose(W, a).opp for geometry in geometries),
        ]

    same(found)


def test_a_forecast_is_the_same_under_a_default_device():
    settings = RunSettings(d=16, width=16, steps=20)
    same(lambda: list(predict(tasks.XOR(16).geometry, settings, draws=2).draws.values()))
