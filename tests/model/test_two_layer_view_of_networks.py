"""The paper's network: refusals, precision, gradients; and views of it and of other models."""

import numpy as np
import pytest
import torch
from helpers import references as naive
from torch import nn

from phasetrack import ExpectedError, TwoLayerNet, TwoLayerView

D, P = 6, 5


def sequential(bias=True, between=None, dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Linear(D, P, bias=bias), between or nn.ReLU(), nn.Linear(P, 1, bias=bias)]
    return nn.Sequential(*layers).to(dtype)


@pytest.mark.parametrize("theta", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("d, width", [(1, 1), (2, 300), (300, 2)], ids=["one", "wide", "deep"])
def test_start(d, width, theta):
    net = TwoLayerNet(d, width, theta=theta, seed=5)
    W, a = (layer.weight.detach().double().numpy() for layer in (net.first, net.second))
    assert W.shape == (width, d) and a.shape == (1, width)
    np.testing.assert_allclose(np.sqrt((W**2).sum(axis=1)), theta, rtol=1e-6)
    np.testing.assert_allclose(np.abs(a), theta, rtol=1e-6)
    assert net.first.bias is None and net.second.bias is None


def test_directions_are_uniform_and_signs_fair_and_free_of_them():
    net = TwoLayerNet(8, 20000, theta=1.0, seed=1)
    W, a = (layer.weight.detach().double().numpy() for layer in (net.first, net.second))
    sigma = 1 / np.sqrt(20000)
    assert np.abs(W.mean(axis=0)).max() < 5 * sigma
    np.testing.assert_allclose(20000 * sigma**2 * np.cov(W.T), np.eye(8) / 8, atol=5 * sigma)
    assert abs(a.mean()) < 5 * sigma and np.abs((a[0][:, None] * W).mean(axis=0)).max() < 5 * sigma


def test_a_seed_is_a_network_and_the_global_generator_is_left_alone():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(99)
        before = torch.random.get_rng_state()
        states.append(TwoLayerNet(D, P, seed=seed).state_dict())
        assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["first.weight"], states[2]["first.weight"])


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-4), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("shape", [(7, D), (1, D), (2, 3, D)], ids=str)
def test_formula(dtype, rtol, shape):
    net = TwoLayerNet(D, P, theta=0.4, seed=2).to(dtype)
    W, a = (layer.weight.detach().double().numpy() for layer in (net.first, net.second))
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(shape)).to(dtype)
    rows = x.double().numpy().reshape(-1, D)
    expected = np.array([naive.output(W, a[0], row) for row in rows]).reshape(shape[:-1])
    outputs = net(x)
    assert outputs.shape == shape[:-1] and outputs.dtype == dtype
    np.testing.assert_allclose(outputs.detach().double().numpy(), expected, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"d": 0}, "d: 0 is not an integer >= 1."),
        ({"width": 2.0}, "width: 2.0 is not an integer >= 1."),
        ({"theta": 0.0}, "theta: 0 is not a finite number > 0."),
        ({"theta": float("nan")}, "theta: nan is not a finite number > 0."),
        ({"seed": "a"}, "seed: 'a' is not an integer"),
        ({"seed": 2**64}, f"seed: {2**64} is not an integer"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ExpectedError) as caught:
        TwoLayerNet(**({"d": 3, "width": 4} | options))
    assert str(caught.value).startswith(message)


def test_the_view_of_it_needs_no_batch():
    net = TwoLayerNet(D, P)
    view = TwoLayerView.of(net)
    assert view.settled and view.plain and view.names == ("first", "second")
    assert view.scale == 1 / P and view.bias is None and view.output_bias is None
    assert torch.equal(view.W, net.first.weight) and torch.equal(view.a, net.second.weight[0])
    assert not view.W.requires_grad and not view.a.requires_grad


@pytest.mark.parametrize("factor", [1.0, -2.5, 1e-3, 1e4], ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "biases"])
@pytest.mark.parametrize("after", [True, False], ids=["f = s head", "f = s sum + c"])
def test_the_factor_is_measured(factor, bias, after):
    model = sequential(bias)
    x = torch.randn(30, D, dtype=torch.float64)
    f = model(x).squeeze(1)
    shift = model[2].bias if bias else 0.0
    outputs = factor * f if after else factor * (f - shift) + shift
    view = TwoLayerView.of(model).calibrated(x, outputs)
    assert view.scale == pytest.approx(factor) and view.notes == () and view.settled
    np.testing.assert_allclose(
        view.outputs(x, view.W, view.A).detach().numpy(), outputs.detach().numpy(), rtol=1e-8
    )


def test_biases_are_read():
    model = sequential()
    view = TwoLayerView.of(model, scale=3.0)
    assert torch.equal(view.bias, model[0].bias)
    assert view.output_bias.item() == pytest.approx(3 * model[2].bias.item())
    assert not view.plain and TwoLayerView.of(sequential(bias=False)).plain


def test_the_view_is_of_the_weights_as_they_are_now():
    model = sequential()
    view = TwoLayerView.of(model)
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert torch.equal(view.W, model[0].weight)


@pytest.mark.parametrize("between", [nn.Dropout, lambda: nn.LayerNorm(P)], ids=["dropout", "norm"])
def test_what_acts_between_the_layers_is_noted_once(between):
    model = nn.Sequential(nn.Linear(D, P), between(), nn.ReLU(), nn.Linear(P, 1))
    view = TwoLayerView.of(model)
    assert view.notes == (f"{type(model[1]).__name__} acts between the layers",)
    assert view.activation is torch.relu


def test_an_output_that_the_layers_do_not_explain_is_noted_with_the_difference():
    model = sequential()
    x = torch.randn(50, D, dtype=torch.float64)
    (note,) = TwoLayerView.of(model).calibrated(x, torch.sin(9 * model(x).squeeze(1))).notes
    assert note.startswith("the layers 0 and 2 alone do not reproduce the model's output (relative")
