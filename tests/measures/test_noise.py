"""Noise in its own units: zeta* of data whose noise is larger, smaller or off centre."""

from dataclasses import replace

import pytest
import torch

import phasetrack
from phasetrack import LogisticLoss, TwoLayerNet
from phasetrack.measures.heaviness import certificate, certificate_of
from phasetrack.measures.noise import noise_of
from phasetrack.model.geometry import Neurons
from phasetrack.tasks import XOR

TASK = XOR(d=24)


def changed(x, scale=1.0, shift=0.0):
    x = x.clone()
    x[:, 2:] = scale * x[:, 2:] + shift
    return x


def sample(n=64, **changes):
    return changed(TASK.sample(n, seed=3, step=0)[0].double(), **changes)


def network(seed=0):
    net = TwoLayerNet(24, 64, seed=seed)
    return net.first.weight.detach().double(), net.second.weight.detach().double()[0]


def test_declared_noise_is_kept_exactly():
    assert noise_of(sample(), TASK.geometry) is None
    gaussian = torch.randn((64, 24), generator=torch.Generator().manual_seed(0))
    assert noise_of(gaussian, TASK.geometry) is None
    assert noise_of(sample(1, scale=9.0), TASK.geometry) is None  # one input shows no spread


@pytest.mark.parametrize("scale", [1 / 3, 3.0])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_size_and_mean_are_measured(scale, shift):
    noise = noise_of(sample(4096, scale=scale, shift=shift), TASK.geometry)
    assert noise.deviation == pytest.approx(scale, rel=0.01)
    assert (noise.mean is None) == (shift == 0)
    if shift:
        expected = torch.tensor([0.0, 0.0, *[shift] * 22]).double()
        torch.testing.assert_close(noise.mean, expected, rtol=0, atol=0.2)


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_the_units_of_the_noise_change_nothing(scale):
    """Noise coordinates c times as large, weights on them 1/c as large: the same outputs, the same zeta*."""
    W, a = network()
    W[:4] = TASK.geometry.centres * torch.tensor([1.0, 1.1, 0.9, 1.2]).unsqueeze(1) + 0.01 * W[:4]
    a[:4] = torch.tensor([1.0, 1, -1, -1])
    divided = changed(W, scale=1 / scale)
    x = sample()
    torch.testing.assert_close(x @ W.T, changed(x, scale=scale) @ divided.T)
    noise = noise_of(changed(x, scale=scale), TASK.geometry)._replace(deviation=scale)
    one = certificate(W, a, TASK.geometry)
    torch.testing.assert_close(certificate(divided, a, TASK.geometry, noise=noise), one)
    assert abs(certificate(divided, a, TASK.geometry) - one) > 0.05 * one


def test_spread_is_the_root_mean_square_of_the_noises_part():
    W, a = network()
    x = sample(4096, scale=0.5, shift=0.7)
    noise = noise_of(x, TASK.geometry)
    neurons = Neurons.of(W, a, TASK.geometry)
    spread = noise.spread(neurons.perp, W @ noise.mean)
    across = x[:, 2:] @ W[:, 2:].T
    torch.testing.assert_close(spread, across.square().mean(dim=0).sqrt(), rtol=0.05, atol=0)
    placed = certificate_of(replace(neurons, noise=spread))
    torch.testing.assert_close(certificate(W, a, TASK.geometry, noise=noise), placed)


@pytest.mark.parametrize(
    "change, eta", [({"scale": 1 / 3}, 0.2), ({"shift": 0.5}, 0.1)], ids=["small", "off centre"]
)
def test_zeta_crosses_one_where_the_test_error_falls(change, eta):
    net, loss = TwoLayerNet(24, 64, seed=1), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=eta * 64)
    fresh, labels = TASK.sample(2048, seed=9, step=2**62)
    fresh, errors = changed(fresh, **change), []
    with phasetrack.attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(120):
            with torch.no_grad():
                errors.append(float((net(fresh) * labels <= 0).double().mean()))
            x, y = TASK.sample(128, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(changed(x, **change)), y).backward()
            optimizer.step()
    zeta = tracker.history["heaviness/zeta_star"]
    onset = next(step for step, value in enumerate(zeta) if value <= 1)
    learned = next(step for step, error in enumerate(errors) if error < 0.01)
    assert errors[onset] < 0.05 and onset <= 1.5 * learned + 5
