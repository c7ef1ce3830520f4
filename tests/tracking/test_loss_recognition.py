"""Losses that are recognised by their gradient at the outputs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from phasetrack import LogisticLoss, attach
from phasetrack.tasks import XOR
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.loss_recognition import recognised, usual_losses

TASK = XOR(d=16)
ONE = {
    "bce": (lambda f, y: functional.binary_cross_entropy_with_logits(f, (y > 0).float()), 0),
    "paper": (lambda f, y: (2 * functional.softplus(-y * f)).mean(), 1),
    "mse": (functional.mse_loss, 1),
    "mse of 0 and 1": (lambda f, y: (f - (y > 0).float()).square().mean(), 0),
    "sum": (lambda f, y: functional.mse_loss(f, y, reduction="sum"), 1),
}
NOT = {
    "hinge": lambda f, y: torch.relu(1 - y * f).mean(),
    "regression": lambda f, y: functional.mse_loss(f, y * torch.linspace(0, 3, len(y))),
    "no targets": lambda f, _: f.square().mean(),
    "all at once": lambda f, y: (f.sum() - y.sum()).square(),
    "exponential": lambda f, y: torch.exp(-y * f).mean(),
}


def arrived(loss, f, y):
    f = f.clone().requires_grad_(True)
    value = loss(f, y)
    value.backward()
    return value.item(), f.grad


@given(st.sampled_from(sorted(ONE)), st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 3.0]))
def test_one_output(name, seed, size):
    generator = torch.Generator().manual_seed(seed)
    f = size * torch.randn(40, generator=generator)
    y = torch.sign(torch.randn(40, generator=generator))
    loss, coding = ONE[name]
    value, gradient = arrived(loss, f, y)
    found = recognised(f, gradient, usual_losses(False))
    assert found is not None
    low = -1.0 if coding else 0.0
    assert found.targets.tolist() == [1.0 if sign > 0 else low for sign in y.tolist()]
    assert float(found.value) == pytest.approx(value, rel=1e-5)


@given(st.sampled_from(sorted(NOT)), st.integers(0, 10**6), st.sampled_from([1e-5, 0.3, 3.0]))
def test_what_is_no_usual_loss_is_not_recognised(name, seed, size):
    generator = torch.Generator().manual_seed(seed)
    f = size * torch.randn(40, generator=generator)
    y = torch.sign(torch.randn(40, generator=generator))
    _, gradient = arrived(NOT[name], f, y)
    assert recognised(f, gradient, usual_losses(False)) is None


@pytest.mark.parametrize("name", ["no targets", "all at once"])
def test_outputs_beside_which_targets_are_nothing_tell_no_loss(name):
    f, y = 1e12 * torch.randn(40), torch.sign(torch.randn(40))
    assert recognised(f, arrived(NOT[name], f, y)[1], usual_losses(False)) is None


FACTORS = [(1.0, 1), (1 / 3, 3), (1024.0, 1), (2.0**16 / 3, 3)]


@given(st.integers(2, 12), st.integers(0, 10**6), st.sampled_from(FACTORS))
def test_classes_in_parts_and_with_a_gradient_scaler(classes, seed, how):
    factor, parts = how
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(50, classes, generator=generator)
    y = torch.randint(0, classes, (50,), generator=generator)
    value, gradient = arrived(functional.cross_entropy, f, y)
    found = recognised(f, factor * gradient, usual_losses(True), parts=parts)
    assert found is not None and torch.equal(found.targets, y)
    assert float(found.value) == pytest.approx(value, rel=1e-5)
    assert recognised(f, 0.3 * gradient, usual_losses(True)) is None  # its value is not the loop's


def test_a_given_loss_is_tried_first():
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))
    f, y = torch.randn(50, 2), torch.randint(0, 2, (50,))
    value, gradient = arrived(weighted, f, y)
    found = recognised(f, gradient, [HostLoss.of(weighted), *usual_losses(True)], known=1)
    assert found is not None and float(found.value) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("given_loss", [None, functional.cross_entropy], ids=["none", "function"])
def test_a_loop_with_the_loss_in_place_is_read_as_one_that_shows_it(given_loss):
    def run(loss, call):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
            for step in range(20):
                x, y = TASK.sample(64, seed=0, step=step)
                optimizer.zero_grad()
                call(model(x), (y > 0).long()).backward()
                optimizer.step()
        return tracker.history

    module = nn.CrossEntropyLoss()
    shown, in_place = run(module, module), run(given_loss, functional.cross_entropy)
    assert set(shown) == set(in_place)
    for name in ("loss/train", "error/train", "margin/empirical/mu1", "linearization/value_error"):
        np.testing.assert_allclose(in_place[name], shown[name], rtol=1e-5, atol=1e-7)


def test_the_paper_s_loss_is_told_from_half_of_it():
    f, y = torch.randn(64), torch.sign(torch.randn(64))
    _, gradient = arrived(LogisticLoss(), f, y)
    found = recognised(f, gradient, usual_losses(False))
    assert found is not None and isinstance(found.loss.function, LogisticLoss)
