"""First-order errors against the formulas of theory.md 5."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from helpers.torch_settings import threads
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from phasetrack.measures.linearization import first_order, gradient_error, slope_drift, value_error
from phasetrack.model.losses import LogisticLoss
from phasetrack.phases.classifier import Thresholds

BATCH = st.lists(st.floats(-20, 20), min_size=1, max_size=30)


def by_definition(f, loss, slope):
    """Both errors, from loss(f) and slope(f) of each sample."""
    zero = np.zeros_like(f)
    linear = loss(zero) + slope(zero) * f
    change = np.abs(loss(f) - loss(zero)).mean()
    return (
        np.abs(loss(f) - linear).mean() / change,
        np.abs(slope(f) - slope(zero)).mean() / np.abs(slope(zero)).mean(),
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(BATCH.filter(lambda f: max(map(abs, f)) > 1e-3), st.integers(0, 2**31))
def test_logistic_loss(f, seed):
    f = np.array(f)
    y = np.random.default_rng(seed).choice([-1.0, 1.0], len(f))
    expected = by_definition(f, lambda g: naive.loss(g, y), lambda g: naive.loss_slope(g, y))
    measured = [e(*naive.tensors(f, y), LogisticLoss()).item() for e in (value_error, slope_drift)]
    assert measured == pytest.approx(expected, rel=1e-6)
    assert measured[1] == pytest.approx(np.tanh(np.abs(f) / 2).mean())


@pytest.mark.parametrize(
    "loss, values, slopes, targets",
    [
        (torch.nn.MSELoss(), lambda f, y: (f - y) ** 2, lambda f, y: 2 * (f - y), [-1.0, 1.0]),
        (
            torch.nn.BCEWithLogitsLoss(),
            lambda f, y: np.log1p(np.exp(f)) - y * f,
            lambda f, y: 1 / (1 + np.exp(-f)) - y,
            [0.0, 1.0],
        ),
        (
            lambda f, y: (f - y).pow(4).mean(),
            lambda f, y: (f - y) ** 4,
            lambda f, y: 4 * (f - y) ** 3,
            [-1.0, 1.0],
        ),
        (
            torch.nn.MSELoss(reduction="sum"),
            lambda f, y: (f - y) ** 2,
            lambda f, y: 2 * (f - y),
            [-1.0, 1.0],
        ),
    ],
    ids=["mse", "bce", "plain function", "summed"],
)
def test_any_loss(loss, values, slopes, targets):
    rng = np.random.default_rng(0)
    f, y = rng.standard_normal(50), rng.choice(targets, 50)
    expected = by_definition(f, lambda g: values(g, y), lambda g: slopes(g, y))
    measured = [e(*naive.tensors(f, y), loss).item() for e in (value_error, slope_drift)]
    assert measured == pytest.approx(expected)


def test_no_output_is_no_error():
    zero, y = torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert value_error(zero, y, LogisticLoss()) == 0
    assert slope_drift(zero, y, LogisticLoss()) == 0


def test_small_outputs_have_the_errors_of_a_second_order_expansion():
    # log(1 + exp(-f)) = log 2 - f/2 + f^2/8: value error f/4, slope drift f/2
    f, y = torch.full((1,), 1e-3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert value_error(f, y, LogisticLoss()).item() == pytest.approx(1e-3 / 4, rel=1e-3)
    assert slope_drift(f, y, LogisticLoss()).item() == pytest.approx(1e-3 / 2, rel=1e-6)


def test_gradient_error_is_relative_in_frobenius_norm():
    exact = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.zeros(2)
    first_order = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.zeros(2)
    first, second = gradient_error(exact, first_order)
    assert first.item() == pytest.approx(4 / 3)
    assert second.item() == 0  # 0/0: nothing differs
    (missed,) = gradient_error((torch.ones(2),), (torch.zeros(2),))
    assert missed.item() == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-8, 1e-16, 1e-30], ids="f={:g}".format)
def test_tiny_outputs_are_in_the_linear_regime(size, dtype):
    """The true errors are f/4 and f/2; rounding must not carry them over the threshold."""
    f, y = torch.full((5,), size, dtype=dtype), torch.ones(5, dtype=dtype)
    assert value_error(f, y, LogisticLoss()) < Thresholds().linear_exit
    assert slope_drift(f, y, LogisticLoss()) <= size + torch.finfo(dtype).eps


@pytest.mark.parametrize(
    "loss, y",
    [
        (LogisticLoss(), [1.0, -1.0]),
        (torch.nn.MSELoss(), [1.0, -1.0]),
        (torch.nn.BCEWithLogitsLoss(), [1.0, 0.0]),
        (lambda f, y: (f - y).square().mean(), [0.0, 0.0]),  # at f = y the slope is 0 as well
    ],
    ids=["logistic", "mse", "bce", "at its minimum"],
)
def test_exactly_no_output_is_exactly_no_error(loss, y):
    for error in (value_error, slope_drift):
        assert error(torch.zeros(2), torch.tensor(y), loss) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gradient_error_of_a_network(seed):
    """Gradients of both layers by autograd, against their formulas in numpy."""
    W, a = naive.network(4, 6, seed)
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (30, 6))
    y, active = -x[:, 0] * x[:, 1], np.maximum(x @ W.T, 0)
    f = active @ a / 4

    def by_hand(slopes):
        pull = slopes[:, None] / 4 / len(x)
        return a[:, None] * ((pull * (active > 0)).T @ x), (pull * active).sum(axis=0)

    exact, linear = by_hand(naive.loss_slope(f, y)), by_hand(-y)
    pairs = zip(exact, linear, strict=True)
    expected = [np.linalg.norm(g - h) / np.linalg.norm(h) for g, h in pairs]

    layers = [t.requires_grad_() for t in naive.tensors(W, a)]
    inputs, labels = naive.tensors(x, y)
    outputs = torch.relu(inputs @ layers[0].T) @ layers[1] / 4
    full = torch.autograd.grad(LogisticLoss()(outputs, labels), layers, retain_graph=True)
    first_order = torch.autograd.grad((-labels * outputs).mean(), layers)
    measured = [error.item() for error in gradient_error(full, first_order)]
    assert measured == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss", [LogisticLoss(), nn.BCEWithLogitsLoss()], ids=["logistic", "binary"]
)
def test_a_step_is_read_to_the_bit_whatever_is_read_with_it_on_several_threads(loss):
    """PyTorch divides large tables among threads, each of which computes its last few numbers another way."""
    generator = torch.Generator().manual_seed(0)
    with threads(3):
        for steps in (5, 17, 31, 64, 23, 47):
            outputs = 3 * torch.randn(steps, 4099, generator=generator, dtype=torch.float64)
            targets = (torch.randn(outputs.shape, generator=generator) > 0).double()
            whole = first_order(outputs, targets, loss, rank=2)
            alone = [
                first_order(f, y, loss, rank=2)
                for f, y in zip(outputs.split(1), targets.split(1), strict=True)
            ]
            for read, single in zip(whole, zip(*alone, strict=True), strict=True):
                assert torch.equal(read, torch.cat(single))
