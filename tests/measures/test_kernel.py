"""The tangent kernel against autograd, and laziness by construction."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from phasetrack.measures import kernel
from phasetrack.model.formula import Formula, FrozenLayers

D, P, N = 5, 7, 6


def layers(heads=1, bias=True, activation=torch.relu, scale=0.3, bias_scaled=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(P, D), (heads, P), (P,), (heads,)]
    W, A, b, c = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    formula = Formula(P, heads, scale, activation, bias_scaled, bias, submodule=False)
    return FrozenLayers(formula, W, A, *((b, c) if bias else ()))


def inputs():
    return torch.randn((N, D), generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def gradients(net, x):
    """Every output's gradient by all weights, (n, heads, weights), by autograd."""
    parts = [
        p.clone().requires_grad_() for p in (net.W, net.A, net.bias, net.head_bias) if p is not None
    ]
    live = FrozenLayers(net.formula, *parts)
    rows = []
    for value in live.outputs(x).reshape(len(x), -1).flatten():
        found = torch.autograd.grad(value, parts, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in found]))
    return torch.stack(rows).view(len(x), -1, len(rows[0]))


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "activation", [torch.relu, torch.tanh, nn.functional.gelu], ids=["relu", "tanh", "gelu"]
)
def test_kernel_is_the_product_of_gradients(heads, bias, activation):
    net, x = layers(heads, bias, activation, bias_scaled=heads > 1), inputs()
    rows = gradients(net, x)
    expected = torch.einsum("ihw,khw->ik", rows, rows)
    torch.testing.assert_close(kernel.kernel(net, x), expected, rtol=1e-12, atol=1e-12)


def test_drift_alignment_and_velocity_by_hand():
    one, other = torch.eye(2).double(), torch.tensor([[2.0, 0], [0, 0]]).double()
    assert kernel.drift(other, one).item() == pytest.approx(1)
    assert kernel.alignment(other, one).item() == pytest.approx(1 / math.sqrt(2))
    assert kernel.velocity(other, one, 4.0).item() == pytest.approx(0.25)
    several = torch.stack([one, other])
    torch.testing.assert_close(kernel.drift(several, one)[1], kernel.drift(other, one))


@pytest.mark.parametrize("heads", [1, 3])
def test_the_linearisation_is_the_first_order_expansion_about_the_start(heads):
    start, now, x = layers(heads), layers(heads, seed=1), inputs()
    names = ("W", "A", "bias", "head_bias")
    values = [getattr(start, name) for name in names]
    moves = [getattr(now, name) - value for name, value in zip(names, values, strict=True)]
    f = start.outputs(x)
    along = gradients(start, x) @ torch.cat([move.flatten() for move in moves])
    change = along.reshape(f.shape)
    torch.testing.assert_close(kernel.linearised_outputs(now, start, x), f + change)
    gap = (now.outputs(x) - f - change).norm() / (now.outputs(x) - f).norm()
    assert kernel.linearisation_error(now, start, x).item() == pytest.approx(gap.item())
    assert kernel.linearisation_error(start, start, x) == 0
    moved = sum(part.square().sum() for part in moves) / sum(v.square().sum() for v in values)
    assert kernel.distance(now, start).item() == pytest.approx(moved.sqrt().item())


def test_a_network_scaled_about_its_start_is_lazier_the_larger_the_factor():
    """f = alpha (g(w) - g(w_0)), trained by gradient descent to one loss: the kernel of g moves as 1 / alpha."""
    torch.manual_seed(0)
    x = torch.randn(24, 6, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    y = torch.sin(2 * x[:, 0])
    net = nn.Sequential(
        nn.Linear(6, 80, bias=False), nn.ReLU(), nn.Linear(80, 1, bias=False)
    ).double()
    start = [p.detach().clone() for p in net.parameters()]
    first = FrozenLayers(Formula(80, 1, 1.0, torch.relu, False, False, submodule=False), *start)
    drifts, errors = [], []
    for alpha in (0.2, 1.0, 5.0, 50.0):
        with torch.no_grad():
            for parameter, value in zip(net.parameters(), start, strict=True):
                parameter.copy_(value)
            origin = net(x).squeeze(1)
        for _ in range(4000):
            loss = (alpha * (net(x).squeeze(1) - origin) - y).square().mean()
            if loss < 0.02:
                break
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.sub_(0.3 / alpha**2 / max(1, 1 / alpha) * parameter.grad)
        assert loss < 0.02
        now = FrozenLayers(first.formula, *(p.detach().clone() for p in net.parameters()))
        drifts.append(kernel.drift(kernel.kernel(now, x), kernel.kernel(first, x)).item())
        errors.append(kernel.linearisation_error(now, first, x).item())
    assert drifts == sorted(drifts, reverse=True) and errors == sorted(errors, reverse=True)
    assert drifts[0] > 0.3 and drifts[-1] < 0.01
    assert errors[0] > 0.3 and errors[-1] < 0.05


def test_the_kernel_of_a_module_with_biases_by_functional_call():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(D, P), nn.Tanh(), nn.Linear(P, 1)).double()
    x = inputs()
    named = {name: p.detach() for name, p in net.named_parameters()}
    rows = torch.func.jacrev(lambda p: functional_call(net, p, (x,)).squeeze(1))(named)
    flat = torch.cat([part.flatten(1) for part in rows.values()], dim=1)
    frozen = FrozenLayers(
        Formula(P, 1, 1.0, torch.tanh, False, True, submodule=False),
        named["0.weight"],
        named["2.weight"],
        named["0.bias"],
        named["2.bias"],
    )
    torch.testing.assert_close(kernel.kernel(frozen, x), flat @ flat.T)
