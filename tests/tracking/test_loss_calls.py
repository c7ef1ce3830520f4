"""Which loss calls count for a step: those whose gradient reaches the layers and goes into it."""

import copy
import gc

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from phasetrack import TrackingWarning, attach
from phasetrack.tasks import XOR

TASK = XOR(d=16)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))


def sample(step, m=64):
    x, y = TASK.sample(m, seed=0, step=step)
    return x, (y > 0).float()


class Loop:
    """A loop of four steps; `read` is what the tracker recorded of what the loop computed."""

    def __init__(self, loss=None, lr=0.1, **options):
        self.model, self.loss = net(), loss or nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.options, self.right = options, []

    def value(self, step, model=None, m=64):
        x, y = sample(step, m)
        return self.loss((model or self.model)(x).squeeze(-1), y)

    def run(self, take, steps=4):
        with attach(
            self.model, self.optimizer, loss=self.loss, geometry=TASK.geometry, **self.options
        ) as self.tracker:
            for step in range(steps):
                take(self, step)
        return self

    def plain_step(self, step):
        self.optimizer.zero_grad()
        value = self.value(step)
        self.right.append(value.item())
        value.backward()
        self.optimizer.step()

    @property
    def read(self):
        return self.tracker.history["loss/train"]


# --- what does not count ---------------------------------------------------------------------


def evaluates(loop, step):
    loop.plain_step(step)
    loop.value(100 + step, m=512).item()


def evaluates_before_backward(loop, step):
    loop.optimizer.zero_grad()
    value = loop.value(step)
    loop.value(100 + step, m=512).item()
    loop.right.append(value.item())
    value.backward()
    loop.optimizer.step()


def attacks_first(loop, step):
    x, y = sample(step)
    shift = torch.zeros_like(x, requires_grad=True)
    for _ in range(3):
        (slope,) = torch.autograd.grad(loop.loss(loop.model(x + shift).squeeze(-1), y), shift)
        shift = (shift + 0.3 * slope.sign()).detach().requires_grad_(True)
    loop.optimizer.zero_grad()
    value = loop.loss(loop.model(x + shift.detach()).squeeze(-1), y)
    loop.right.append(value.item())
    value.backward()
    loop.optimizer.step()


def measures_a_gradient_norm(loop, step):
    torch.autograd.grad(loop.value(100 + step, m=512), list(loop.model.parameters()))
    loop.plain_step(step)


def throws_a_batch_away(loop, step):
    loop.value(100 + step).backward()
    loop.optimizer.zero_grad()
    loop.plain_step(step)


def zeroes_gradients_in_place(loop, step):
    loop.value(100 + step).backward()
    loop.optimizer.zero_grad(set_to_none=False)
    value = loop.value(step)
    loop.right.append(value.item())
    value.backward()
    loop.optimizer.step()


def trains_another_model_by_the_same_loss(loop, step):
    other = copy.deepcopy(loop.model)
    with torch.no_grad():
        other[2].bias.add_(1.0)
    loop.optimizer.zero_grad()
    value = loop.value(step)
    loop.right.append(value.item())
    (value + loop.value(step, model=other)).backward()
    loop.optimizer.step()


def takes_gradients_per_sample(loop, step):
    loop.optimizer.zero_grad()
    value = loop.value(step)
    loop.right.append(value.item())
    value.backward()
    weights = {name: p.detach() for name, p in loop.model.named_parameters()}
    x, y = sample(step)

    def one(weights, x, y):
        outputs = functional_call(loop.model, weights, (x.unsqueeze(0),))
        return loop.loss(outputs.squeeze(-1), y.unsqueeze(0))

    vmap(grad(one), in_dims=(None, 0, 0))(weights, x, y)
    loop.optimizer.step()


def skips_what_is_not_finite(loop, step):
    x, y = sample(step)
    if step == 2:
        x = x.clone()
        x[0, 0] = torch.nan
    loop.optimizer.zero_grad()
    value = loop.loss(loop.model(x).squeeze(-1), y)
    if not torch.isfinite(value):
        return
    loop.right.append(value.item())
    value.backward()
    loop.optimizer.step()


@pytest.mark.parametrize(
    "take",
    [
        evaluates,
        evaluates_before_backward,
        attacks_first,
        measures_a_gradient_norm,
        throws_a_batch_away,
        zeroes_gradients_in_place,
        trains_another_model_by_the_same_loss,
        takes_gradients_per_sample,
        skips_what_is_not_finite,
    ],
    ids=lambda take: take.__name__,
)
def test_only_the_step_s_own_calls_are_read(take):
    loop = Loop(strict=True).run(take)
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-6)
    sizes = loop.tracker.history["margin/empirical/mu1"]
    assert not np.isnan(sizes).any()


def test_gradients_that_are_assigned_count():
    """As in loops that take them by `torch.autograd.grad`."""

    def take(loop, step):
        value = loop.value(step)
        loop.right.append(value.item())
        found = torch.autograd.grad(value, list(loop.model.parameters()))
        for parameter, gradient in zip(loop.model.parameters(), found, strict=True):
            parameter.grad = gradient
        loop.optimizer.step()

    loop = Loop(strict=True).run(take)
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::phasetrack.TrackingWarning")
def test_calls_of_other_weights_leave_no_batch():
    """Sharpness-aware minimisation by hand: the gradients are those at w + e."""

    def take(loop, step):
        loop.optimizer.zero_grad()
        loop.value(step).backward()
        before = [p.detach().clone() for p in loop.model.parameters()]
        with torch.no_grad():
            for p in loop.model.parameters():
                p.add_(0.1 * p.grad)
        loop.optimizer.zero_grad()
        loop.value(step).backward()
        with torch.no_grad():
            for p, old in zip(loop.model.parameters(), before, strict=True):
                p.copy_(old)
        loop.optimizer.step()

    loop = Loop().run(take)
    assert "loss/train" not in loop.tracker.history
    assert "weights changed" in loop.tracker.undefined["loss"]
    assert (loop.tracker.history["heaviness/zeta_star"] > 0).all()
    assert any("weights changed" in why for why in loop.tracker.undefined.values())


@pytest.mark.filterwarnings("ignore::phasetrack.TrackingWarning")
def test_reentrant_checkpoint_is_absent_and_never_mixed_up():
    def take(loop, step):
        loop.optimizer.zero_grad()
        for part in range(2):
            x, y = sample(2 * step + part)
            f = checkpoint(loop.model, x.requires_grad_(True), use_reentrant=True)
            loop.loss(f.squeeze(-1), y).backward()
        loop.optimizer.step()

    history = Loop().run(take).tracker.history
    assert "loss/train" not in history or np.isnan(history["loss/train"]).all()


# --- several calls ---------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.25, 0.75), (1.0, 1.0), (1024.0, 1024.0)])
def test_calls_count_by_their_weights(weights):
    """The calls of a step are one batch: a mean, whatever factor the loop puts on its loss as a whole."""

    def take(loop, step):
        loop.optimizer.zero_grad()
        values = [loop.value(2 * step + part) for part in range(2)]
        for weight, value in zip(weights, values, strict=True):
            (weight * value).backward()
        found = sum(w * v.item() for w, v in zip(weights, values, strict=True))
        loop.right.append(found / sum(weights))
        loop.optimizer.step()

    loop = Loop(strict=True, lr=1e-3).run(take)
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-6)


@pytest.mark.parametrize("factor", [1 / 64, 0.1, 128.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_leaves_out_a_factor_of_the_loop(factor, reduction):
    """As of a static scale, a share in a larger objective, a sum that is divided: the loss is that of the call."""

    def take(loop, step):
        loop.optimizer.zero_grad()
        value = loop.value(step)
        loop.right.append(value.item())
        (factor * value).backward()
        loop.optimizer.step()

    loss = nn.BCEWithLogitsLoss(reduction=reduction)
    loop = Loop(loss, strict=True, lr=1e-4).run(take)
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-6)
    assert ("loss/mean" in loop.tracker.history) == (reduction == "sum")


def test_samples_that_count_against_others_have_no_mean():
    """As of unlearning: what is to be kept minus what is to be forgotten."""

    def take(loop, step):
        loop.optimizer.zero_grad()
        value = loop.value(2 * step) - loop.value(2 * step + 1)
        loop.right.append(value.item())
        value.backward()
        loop.optimizer.step()

    tracker = (loop := Loop(lr=1e-3).run(take)).tracker
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-4, atol=1e-6)
    for name in ("loss/spread", "linearization/value_error"):
        assert np.isnan(tracker.history[name]).all()
        assert "as much against" in tracker.undefined[name]
    assert np.isfinite(tracker.history["error/train"]).all()


def test_many_passes_before_their_loss_calls():
    """Each finds its own inputs, however many passes lie between."""

    def take(loop, step):
        batches = [sample(10 * step + part) for part in range(7)]
        loop.optimizer.zero_grad()
        outputs = [loop.model(x).squeeze(-1) for x, _ in batches]
        for f, (_, y) in zip(outputs, batches, strict=True):
            (loop.loss(f, y) / len(batches)).backward()
        loop.optimizer.step()

    def whole(loop, step):
        batches = [sample(10 * step + part) for part in range(7)]
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        loop.optimizer.zero_grad()
        loop.loss(loop.model(x).squeeze(-1), y).backward()
        loop.optimizer.step()

    parts, one = Loop(strict=True).run(take), Loop(strict=True).run(whole)
    for name in ("loss/train", "error/train", "margin/empirical/mu1", "margin/empirical/-mu2"):
        if name in one.tracker.history:
            expected = one.tracker.history[name]
            np.testing.assert_allclose(parts.tracker.history[name], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "sum", "weighted"])
def test_losses_of_each_sample_come_to_what_the_loop_makes_of_them(kind):
    weights = torch.linspace(0.1, 2.0, 64)
    reduce = {
        "mean": lambda losses: losses.mean(),
        "sum": lambda losses: losses.sum(),
        "weighted": lambda losses: (weights * losses).mean(),
    }[kind]

    def take(loop, step):
        loop.optimizer.zero_grad()
        value = reduce(loop.value(step))
        loop.right.append(value.item())
        value.backward()
        loop.optimizer.step()

    loop = Loop(nn.BCEWithLogitsLoss(reduction="none"), strict=True, lr=1e-3).run(take)
    np.testing.assert_allclose(loop.read, loop.right, rtol=1e-5)


# --- nothing is held -------------------------------------------------------------------------


def test_calls_that_are_thrown_away_are_not_held():
    loop = Loop()
    tracker = attach(loop.model, loop.optimizer, loss=loop.loss, geometry=TASK.geometry)

    def alive(count):
        for step in range(count):
            loop.value(step).item()
        gc.collect()
        return sum(type(each).__name__ == "LossCall" for each in gc.get_objects())

    before = alive(0)  # of other tests
    assert alive(30) == before
    with pytest.warns(TrackingWarning, match="30 forward passes with gradients"):
        tracker.detach()


def test_inputs_overwritten_before_the_step_have_no_gradient_error():
    from phasetrack.probes import default_probes

    buffer = torch.empty(64, 16)

    def take(loop, step):
        loop.optimizer.zero_grad()
        for part in range(2):
            x, y = sample(2 * step + part)
            loop.loss(loop.model(buffer.copy_(x)).squeeze(-1), y).backward()
        loop.optimizer.step()

    tracker = Loop(probes=default_probes(gradients=True)).run(take).tracker
    assert "linearization/gradient_error_first" not in tracker.history
    assert "overwritten" in tracker.undefined["gradient_errors"]
    assert not np.isnan(tracker.history["margin/empirical/mu1"]).any()


# --- what is said ----------------------------------------------------------------------------


def test_an_optimizer_that_is_replaced_is_reported_once():
    loop = Loop()
    with pytest.warns(TrackingWarning, match="no step of the tracked SGD is seen") as said:
        tracker = attach(loop.model, loop.optimizer, loss=loop.loss, geometry=TASK.geometry)
        loop.plain_step(0)
        loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.01)
        for step in range(1, 40):
            loop.plain_step(step)
        tracker.detach()
    assert len(said) == 1 and tracker.history.count == 1
    assert any("no step of the tracked" in note for note in tracker.notes)


def test_notes_are_in_the_summary():
    loop = Loop()
    with pytest.warns(TrackingWarning, match="no recorded step had a loss"):
        tracker = attach(loop.model, loop.optimizer, loss=loop.loss, geometry=TASK.geometry)
        for step in range(12):
            loop.optimizer.zero_grad()
            x, _ = sample(step)
            loop.model(x).square().sum().backward()
            loop.optimizer.step()
        notes = tracker.summary()["notes"]
        tracker.detach()
    assert len([note for note in notes if "no recorded step had a loss" in note]) == 1
