"""The laboratory's runs are those of `phasetrack run`, and its variations do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from phasetrack import RunSettings, TwoLayerNet, read_run, train
from phasetrack.experiments.few_neurons import largest
from phasetrack.experiments.fixed_features import _needed, _tangent
from phasetrack.experiments.lab import VARIATIONS, Lab, error_on_fresh_samples, pruned

SMALL = RunSettings(d=16, width=32, batch=128)


@pytest.fixture(scope="module")
def lab():
    return Lab()


def test_a_run_is_that_of_training(lab, tmp_path):
    summary = train(SMALL, out=tmp_path, name="run")
    one = lab.run(SMALL)
    history = read_run(tmp_path / "run").history
    # the canonical step rounds otherwise than autograd
    for name in ("loss/train", "margin/min", "heaviness/heavy_mass"):
        assert len(one.history[name]) == len(history[name])
        np.testing.assert_allclose(one.history[name], history[name], rtol=1e-3, atol=1e-5)
    pairs = zip(one.summary["boundaries"], summary["boundaries"], strict=True)
    assert all(a["onset"] == pytest.approx(b["onset"], rel=1e-3) for a, b in pairs)
    assert one.boundary("fitted") < one.summary["steps"] and np.isnan(one.boundary("none"))
    assert error_on_fresh_samples(one.network, SMALL) < 0.01


def test_a_run_is_made_once(lab):
    assert lab.run(replace(SMALL, batch=128)) is lab.run(SMALL)
    assert lab.seeds(SMALL, 2)[0] is lab.run(SMALL)


def test_layers_take_turns(lab):
    net = TwoLayerNet(4, 8)
    optimizer = torch.optim.SGD(
        [{"params": net.first.parameters()}, {"params": net.second.parameters()}], lr=1.0
    )
    VARIATIONS["alternating"].before_step(optimizer, 0, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == [3.0, 0.0]
    VARIATIONS["alternating"].before_step(optimizer, 1, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 3.0]


def test_a_favoured_cluster_starts_ahead():
    net = TwoLayerNet(16, 64)
    inputs = torch.zeros(2, 16)
    inputs[:, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    before = net(inputs).tolist()
    VARIATIONS["favoured"].start(net)
    after = net(inputs).tolist()
    assert after[0] - before[0] > 1e-4 > abs(after[1] - before[1])


def test_pruning_silences_the_others(lab):
    one = lab.run(SMALL)
    keep = largest(one, 8)
    assert keep.sum() == 8
    small, x = pruned(one.network, keep), torch.randn(5, 16)
    W, a = one.network.first.weight[keep], one.network.second.weight[0, keep]
    torch.testing.assert_close(small(x), torch.relu(x @ W.T) @ a / 32)
    assert pruned(one.network, torch.ones(32, dtype=torch.bool))(x).equal(one.network(x))


def test_the_tangent_kernel_is_the_gradients_of_a_wide_network():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 10, generator=generator, dtype=torch.float64)
    x *= 10**0.5 / x.norm(dim=1, keepdim=True)
    W = torch.randn(200_000, 10, generator=generator, dtype=torch.float64)
    a = torch.randn(200_000, generator=generator, dtype=torch.float64)
    pre = x @ W.T / 10**0.5
    second = torch.relu(pre) @ torch.relu(pre).T
    first = (((pre > 0) * a) @ ((pre > 0) * a).T) * (x @ x.T / 10)
    expected = (first + second) / 200_000
    torch.testing.assert_close(_tangent(10, 0)(x, x), expected, atol=0.01, rtol=0.02)


def test_needed_samples_are_found():
    assert 10 < _needed(10, 0, _tangent) < 400
