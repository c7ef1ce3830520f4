"""The paper's network."""

import naive
import numpy as np
import torch

from phasetrack import TwoLayerNet


def test_formula():
    net = TwoLayerNet(7, 5, theta=0.3, seed=1).double()
    W, a = net.first.weight.detach().numpy(), net.second.weight.detach().numpy()[0]
    x = np.random.default_rng(0).standard_normal((9, 7))
    expected = [naive.output(W, a, row) for row in x]
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected)


def test_start_on_the_sphere():
    state = torch.random.get_rng_state()
    net = TwoLayerNet(50, 4000, theta=0.3, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    W, a = net.first.weight.detach(), net.second.weight.detach()
    torch.testing.assert_close(W.norm(dim=1), torch.full((4000,), 0.3))
    assert (a.abs() == torch.tensor(0.3)).all() and abs(a.sign().mean()) < 5 / 63
    assert W.mean(dim=0).abs().max() < 5 * 0.3 / np.sqrt(50 * 4000)  # no direction preferred
    assert torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=0).first.weight)
    assert not torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=1).first.weight)
