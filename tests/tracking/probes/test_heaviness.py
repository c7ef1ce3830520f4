"""Onsets and labels beyond the paper's own parametrisation: any split of the scale, PyTorch's own start."""

import pytest
import torch
from torch import nn

import phasetrack
from phasetrack import LogisticLoss, TwoLayerNet
from phasetrack.tasks import XOR

TASK = XOR(d=64)


@pytest.mark.parametrize(
    "ratio, eta, steps, onset", [(1, 0.2, 40, 35), (30, 0.02, 25, 18), (1000, 0.0005, 25, 21)]
)
def test_zeta_crosses_one_with_the_test_error_whatever_the_split_of_scale(ratio, eta, steps, onset):
    """|a| / |w| at the start, the function unchanged; the paper's mass crosses at 35, 9 and 7."""
    net, loss = TwoLayerNet(64, 128, seed=0), LogisticLoss()
    with torch.no_grad():
        net.second.weight.mul_(ratio**0.5)
        net.first.weight.div_(ratio**0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=eta * 128)
    fresh, labels = TASK.sample(4096, seed=99, step=2**62)
    errors = []
    with phasetrack.attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(steps):
            with torch.no_grad():
                errors.append(float((net(fresh) * labels <= 0).double().mean()))
            x, y = TASK.sample(256, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    zeta = tracker.history["heaviness/zeta_star"]
    crossed = next(step for step, value in enumerate(zeta) if value <= 1)
    learned = next(step for step, error in enumerate(errors) if error < 0.01)
    assert abs(crossed - onset) <= 1 and abs(crossed - learned) <= 3
    paper = tracker.history["heaviness/zeta_star_paper"]
    early = next(step for step, value in enumerate(paper) if value <= 1)
    assert errors[early] > 0.1 or ratio == 1
    assert tracker.history["heaviness/zeta_star_is_bound"][-1] == 0
    assert tracker.history["heaviness/zeta_star_is_bound"][0] == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_readme_example_is_signal_heavy_then_fitted(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1))
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=3e-3), nn.BCEWithLogitsLoss()
    with phasetrack.attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(140):
            x, y = TASK.sample(256, seed=seed, step=step)
            optimizer.zero_grad()
            loss(model(x).squeeze(-1), (y > 0).float()).backward()
            optimizer.step()
    assert tracker.alerts == [] and tracker.phase.name == "FITTED"
    names = [boundary.name for boundary in tracker.boundaries]
    assert names.index("signal_heavy") < names.index("fitted")
