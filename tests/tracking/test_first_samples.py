"""The first samples of a run: the best constant, and the data against the declared clusters."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import phasetrack
from phasetrack import ClusterGeometry, LogisticLoss, TwoLayerNet
from phasetrack.measures.cluster_moments import cluster_moments, placement
from phasetrack.tasks import XOR, make_task
from phasetrack.tracking.first_samples import best_constant
from phasetrack.tracking.host_loss import HostLoss

D = 24


def follow(geometry, sample, loss=None, steps=12, model=None, lr=0.01):
    model, loss = model or TwoLayerNet(D, 32), loss or LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with phasetrack.attach(model, optimizer, loss=loss, geometry=geometry) as tracker:
        for step in range(steps):
            x, y = sample(step)
            optimizer.zero_grad()
            loss(model(x).squeeze(-1), y).backward()
            optimizer.step()
    return tracker


def xor(change=lambda x: x, count=256):
    def sample(step):
        x, y = XOR(D).sample(count, seed=3, step=step)
        return change(x), y

    return sample


def shifted(x):
    return torch.cat([x[:, :2], x[:, 2:] + 1], dim=1)


def test_noise_with_a_mean_is_said():
    tracker = follow(XOR(D).geometry, xor(shifted))
    assert tracker.phase.name == "UNDETERMINED" and "away from its centre" in tracker.reason
    offset = tracker.history["data/offset"][-1]  # half of the least distance of centres is 1
    assert offset == pytest.approx(math.sqrt(D - 2), rel=0.05)


def test_data_of_the_geometry_fit():
    tracker = follow(XOR(D).geometry, xor())
    last = {name: tracker.history[name][-1] for name in tracker.history}
    assert tracker.phase.name == "SIGNAL_FINDING"
    assert last["data/offset"] < 0.1 and last["data/spread_inside"] == 0
    assert last["data/spread_outside"] == pytest.approx(1, rel=0.01)
    assert last["data/purity"] == last["data/told"] == 1
    assert last["loss/constant"] == pytest.approx(2 * math.log(2), rel=1e-3)


@pytest.mark.parametrize("name", ["gaussian", "noisy", "unbalanced", "two-xors", "and"])
def test_no_task_of_the_catalogue_is_said_not_to_fit(name):
    task = make_task(name, D)
    tracker = follow(task.geometry, lambda step: task.sample(512, seed=0, step=step), steps=9)
    assert "fit the geometry" not in tracker.reason


def test_labels_without_relation_to_the_clusters_are_said():
    task = make_task("xor", D, shuffle_labels=True)
    tracker = follow(task.geometry, lambda step: task.sample(512, seed=0, step=step), steps=9)
    assert tracker.phase.name == "UNDETERMINED" and "of the labels" in tracker.reason


def test_a_span_of_everything_is_said():
    geometry = ClusterGeometry([[1.0, 0.0], [0.0, 1.0]], [1, -1])
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    y = torch.where(x[:, 0] > x[:, 1], 1.0, -1.0)
    tracker = follow(geometry, lambda _: (x, y), model=TwoLayerNet(2, 8))
    assert "span all of the input space" in tracker.reason and tracker.alerts == []


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_regression_with_small_targets_is_not_fitted_at_its_start(reduction):
    net = nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        net[2].weight.mul_(1e-3)
        net[2].bias.zero_()

    def sample(step):
        x, y = XOR(D).sample(256, seed=3, step=step)
        return x, 0.2 * y

    loss = nn.MSELoss(reduction=reduction)
    tracker = follow(XOR(D).geometry, sample, loss, model=net, steps=3, lr=1e-5)
    assert tracker.phase.name == "SIGNAL_FINDING"
    assert tracker.history["loss/constant"][-1] == pytest.approx(0.04, rel=0.01)


def test_moments_add_up_and_place_the_samples():
    rng = torch.Generator().manual_seed(1)
    geometry = ClusterGeometry([[2.0, 0, 0, 0], [0, 2.0, 0, 0]], [1, -1])
    clusters = torch.randint(0, 2, (900,), generator=rng)
    x = geometry.centres[clusters] + torch.randn(900, 4, generator=rng).double() * 0.5
    parts = [cluster_moments(x[i::3], clusters[i::3], geometry) for i in range(3)]
    table = cluster_moments(x, clusters, geometry)
    np.testing.assert_allclose(sum(parts), table, rtol=1e-12)
    offset, inside, outside = placement(table, geometry)
    unit = math.sqrt(2)
    assert offset == 0
    assert inside * unit == pytest.approx(0.5 * math.sqrt(2), rel=0.05)
    assert outside == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    "loss, targets, outputs, best",
    [
        (nn.MSELoss(), torch.tensor([1.0, 2.0, 6.0]), (), 7.0),
        (nn.MSELoss(reduction="sum"), torch.tensor([1.0, 2.0, 6.0]), (), 7.0),
        (lambda f, y: ((f - y) ** 2).sum(), torch.tensor([1.0, 2.0, 6.0]), (), 7.0),
        (nn.L1Loss(), torch.tensor([1.0, 2.0, 6.0]), (), 2.5),
        (
            nn.BCEWithLogitsLoss(),
            torch.tensor([0.0, 0.0, 0.0, 1.0]),
            (),
            -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) * 4 / 3,
        ),
        (nn.CrossEntropyLoss(), torch.tensor([0, 1, 2, 2]), (3,), 1.5 * math.log(2) * 4 / 3),
    ],
    ids=["squares", "sum", "sum of a function", "absolute", "logits", "classes"],
)
def test_best_constant(loss, targets, outputs, best):
    """The sample variance for squares; entropies, times n / (n - 1), for classes."""
    host = HostLoss.of(loss)
    if targets.is_floating_point():
        targets = targets.double()
        host = host.with_targets(targets)
    assert best_constant(targets, outputs, host) == pytest.approx(best, rel=1e-9)
