"""Losses of torch and plain functions, one sample at a time, against formulas in numpy."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack.model.losses import LogisticLoss, pointwise, value_and_slope
from phasetrack.tracking.host_loss import HostLoss

RNG = np.random.default_rng(3)
F, Y = 2 * RNG.standard_normal(15), RNG.choice([-1.0, 1.0], 15)
T = (Y + 1) / 2
LOGITS, CLASSES = RNG.standard_normal((15, 4)), RNG.integers(0, 4, 15)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def bce(f, t):
    return np.log1p(np.exp(f)) - t * f, sigmoid(f) - t


def mse(f, y):
    return (f - y) ** 2, 2 * (f - y)


def soft_margin(f, y):
    return np.log1p(np.exp(-y * f)), -y * sigmoid(-y * f)


def huber(f, y):
    r = f - y
    near = np.abs(r) <= 1
    return np.where(near, r**2 / 2, np.abs(r) - 0.5), np.where(near, r, np.sign(r))


def logistic(f, y):
    return 2 * np.log1p(np.exp(-y * f)), -2 * y * sigmoid(-y * f)


LOSSES = {
    "bce": (nn.BCEWithLogitsLoss(), T, bce),
    "bce, sum": (nn.BCEWithLogitsLoss(reduction="sum"), T, bce),
    "mse": (nn.MSELoss(), Y, mse),
    "mse, none": (nn.MSELoss(reduction="none"), Y, mse),
    "soft margin": (nn.SoftMarginLoss(), Y, soft_margin),
    "smooth l1": (nn.SmoothL1Loss(), Y, huber),
    "logistic": (LogisticLoss("sum"), Y, logistic),
    "function, mean": (lambda f, y: (f - y).square().mean(), Y, mse),
    "function, sum": (lambda f, y: (f - y).square().sum(), Y, mse),
    "function, each": (lambda f, y: (f - y).square(), Y, mse),
    "functional": (nn.functional.binary_cross_entropy_with_logits, T, bce),
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_slopes(name):
    loss, targets, formula = LOSSES[name]
    expected, slope = formula(F, targets)
    outputs, targets = torch.from_numpy(F), torch.from_numpy(targets)
    np.testing.assert_allclose(pointwise(loss)(outputs, targets).numpy(), expected)
    values, slopes = value_and_slope(loss, outputs, targets)
    np.testing.assert_allclose(values.numpy(), expected)
    np.testing.assert_allclose(slopes.numpy(), slope, atol=1e-15)


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), nn.functional.cross_entropy],
    ids=["mean", "sum", "function"],
)
def test_cross_entropy_of_classes(loss):
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    own = np.arange(15), CLASSES
    values, slopes = value_and_slope(loss, torch.from_numpy(LOGITS), torch.from_numpy(CLASSES))
    np.testing.assert_allclose(values.numpy(), -np.log(shares[own]))
    shares[own] -= 1
    np.testing.assert_allclose(slopes.numpy(), shares, atol=1e-15)


IGNORING = {
    "module": nn.CrossEntropyLoss(ignore_index=9),
    "function with settings": partial(nn.functional.cross_entropy, ignore_index=9),
    "function": nn.functional.cross_entropy,
}


@pytest.mark.parametrize("name", IGNORING)
def test_samples_that_a_loss_ignores_have_loss_0(name):
    loss = IGNORING[name]
    ignored = HostLoss.of(loss).ignored
    assert ignored == (-100 if name == "function" else 9)
    targets = torch.from_numpy(np.where(np.arange(15) % 3, CLASSES, ignored))
    values, slopes = value_and_slope(loss, torch.from_numpy(LOGITS), targets)
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    right = np.where(np.arange(15) % 3, -np.log(shares[np.arange(15), CLASSES]), 0)
    np.testing.assert_allclose(values.numpy(), right)
    assert not slopes[::3].any() and slopes[1].all()


cross_entropy = nn.functional.cross_entropy
SUMS = {
    "function of classes": lambda f, y: cross_entropy(f, y, reduction="sum"),
    "function with settings": partial(cross_entropy, reduction="sum"),
    "function of numbers": lambda f, y: (f - y).square().sum(),
    "module": nn.MSELoss(reduction="sum"),
}
MEANS = {
    "function of classes": cross_entropy,
    "function with settings": partial(cross_entropy, label_smoothing=0.1),
    "module": nn.MSELoss(),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_loss_that_adds_its_samples_up_is_told(name):
    assert HostLoss.of(SUMS[name]).is_sum


@pytest.mark.parametrize("name", MEANS)
def test_a_loss_that_is_a_mean_is_told(name):
    assert not HostLoss.of(MEANS[name]).is_sum


@pytest.mark.parametrize("look", [pointwise, value_and_slope], ids=lambda f: f.__name__)
def test_the_users_module_is_left_as_it_is(look):
    loss, calls = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), []
    for register in (
        loss.register_forward_hook,
        loss.register_forward_pre_hook,
        loss.register_full_backward_hook,
    ):
        register(lambda *_: calls.append(1))
    f, t = torch.from_numpy(F), torch.from_numpy(T)
    if look is pointwise:
        look(loss)(f, t)
    else:
        look(loss, f, t)
    assert calls == [] and loss.reduction == "mean" and loss.training
    assert len(loss._forward_hooks) == 1


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no grad"])
def test_the_users_tensors_are_left_as_they_are(grad):
    with torch.set_grad_enabled(grad):
        outputs = torch.from_numpy(F).clone().requires_grad_(True)
        values, slopes = value_and_slope(LogisticLoss(), outputs * 1, torch.from_numpy(Y))
    assert outputs.grad is None and not values.requires_grad and not slopes.requires_grad
    assert torch.is_grad_enabled()
    np.testing.assert_allclose(slopes.numpy(), logistic(F, Y)[1])


@pytest.mark.parametrize("far", [-1e4, 1e4], ids=["wrong side", "right side"])
def test_far_outputs_stay_finite(far):
    value, slope = value_and_slope(LogisticLoss(), torch.tensor([far]), torch.ones(1))
    assert value.item() == max(0.0, -2 * far) and slope.item() == (-2 if far < 0 else 0)
