"""Claim 13's targets of the third degree: which networks represent and learn them."""

import itertools

import pytest
import torch
from torch import nn

from phasetrack import LogisticLoss, TwoLayerNet
from phasetrack.measures import heaviness
from phasetrack.tasks import make_task


def staircase_network(d):
    """Ten bias-free ReLU neurons that compute the staircase's x1 + x1 x2 - x1 x3."""
    rows, a = [], []
    for other, sign in ((1, 1.0), (2, -1.0)):
        # x1 x_o = (|x1 + x_o| - |x1 - x_o|) / 2
        for one, two in itertools.product((1.0, -1.0), repeat=2):
            w = torch.zeros(d, dtype=torch.float64)
            w[0], w[other] = one, two
            rows.append(w)
            a.append(sign * one * two / 2)
    w = torch.zeros(d, dtype=torch.float64)
    w[0] = 1.0
    net = TwoLayerNet(d, 10).double()
    with torch.no_grad():
        net.first.weight.copy_(torch.stack([*rows, w, -w]))
        net.second.weight.copy_(10 * torch.tensor([*a, 1.0, -1.0]).unsqueeze(0))
    return net


def test_ten_bias_free_neurons_are_the_staircase():
    x, y = make_task("staircase", 12).sample(20_000, seed=0, step=0, dtype=torch.float64)
    f = staircase_network(12)(x)
    torch.testing.assert_close(f, x[:, 0] * (1 + x[:, 1] - x[:, 2]))
    assert (f * y > 0).all()


class Biased(nn.Module):
    """The paper's network with first-layer biases."""

    def __init__(self, d, p):
        super().__init__()
        self.core = TwoLayerNet(d, p, seed=0)
        draw = torch.Generator().manual_seed(0)
        self.bias = nn.Parameter(0.05 * torch.randn(p, generator=draw))

    def forward(self, x):
        hidden = torch.relu(self.core.first(x) + self.bias)
        return self.core.second(hidden).squeeze(-1) / len(self.bias)


def trained(net, task, *, batch, lr, steps, enough=0.05):
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=lr), LogisticLoss()
    for step in range(steps):
        x, y = task.sample(batch, seed=0, step=step)
        optimizer.zero_grad()
        value = loss(net(x), y)
        value.backward()
        optimizer.step()
        if value.item() < enough:
            break
    x, y = task.sample(4096, seed=0, step=2**62)
    with torch.no_grad():
        return (net(x) * y <= 0).double().mean().item()


def test_training_learns_the_staircase_without_biases():
    task, net = make_task("staircase", 6), TwoLayerNet(6, 128, seed=0)
    assert trained(net, task, batch=512, lr=0.4 * 128, steps=400) == 0
    W, a = net.first.weight.detach().double(), net.second.weight.detach().double()[0]
    assert heaviness.certificate(W, a, task.geometry) < 0.5


@pytest.mark.parametrize("biases", [False, True])
def test_training_learns_the_parity_of_three_with_biases_alone(biases):
    task = make_task("parity3", 8)
    net = Biased(8, 256) if biases else TwoLayerNet(8, 256, seed=0)
    error = trained(net, task, batch=512, lr=0.4 * 256, steps=400)
    assert error < 0.01 if biases else error > 0.3
