"""What counts as one optimizer step."""

import itertools
import json
import math
from unittest import mock

import pytest
import torch
from torch import nn

from phasetrack import attach, read_run
from phasetrack.tasks import XOR

TASK = XOR(d=8)


def loop(optimizer_of, steps, take=lambda optimizer, _: optimizer.step(), **options):
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1)), nn.MSELoss()
    optimizer = optimizer_of(model.parameters())
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, **options) as tracker:
        for step in range(steps):
            x, y = TASK.sample(16, seed=0, step=step)

            def closure(x=x, y=y):
                optimizer.zero_grad()
                value = loss(model(x).squeeze(-1), y)
                value.backward()
                return value

            closure()
            take(optimizer, closure)
    return tracker


class Handing(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


class Twice(Handing):
    def step(self, closure=None):
        super().step()
        return super().step(closure)


class Raising(Handing):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % 2:
            raise RuntimeError("out of memory")
        return super().step(closure)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", [torch.optim.SGD, Handing, Twice])
def test_a_step_within_a_step_counts_once(kind, every, tmp_path):
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)  # its class has hooks of its own
    tracker = loop(lambda p: kind(p, lr=0.1), 6, logdir=tmp_path / "run", every=every)
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert tracker.step == 6
    assert [json.loads(line)["step"] for line in lines] == list(range(0, 6, every))


def test_a_step_that_raises_is_taken_again_and_recorded_once():
    def take(optimizer, _):
        try:
            optimizer.step()
        except RuntimeError:
            optimizer.step()

    tracker = loop(lambda p: Raising(p, lr=0.1), 4, take)
    assert tracker.step == 4 and tracker.history.steps.tolist() == [0, 1, 2, 3]


def refuse(*_, **__):
    raise RuntimeError("not this batch")


def a_hook_raises(optimizer, _):
    """The third step is recorded, and a hook of the user's own then refuses it."""
    handle = optimizer.register_step_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="not this batch"):
        optimizer.step()
    handle.remove()


def the_cell_is_interrupted(optimizer, _):
    with pytest.raises(KeyboardInterrupt), mock.patch.object(nn.Parameter, "add_", interrupt):
        optimizer.step()


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("broken", [a_hook_raises, the_cell_is_interrupted])
def test_a_step_that_is_recorded_and_not_taken_is_in_the_history_once(broken, tmp_path):
    """The loop skips the batch, and the next one is taken with the same weights."""
    rounds = itertools.count()

    def take(optimizer, closure):
        if next(rounds) in (2, 3):
            broken(optimizer, closure)
        else:
            optimizer.step()

    tracker = loop(
        lambda p: torch.optim.SGD(p, lr=0.1, foreach=False), 7, take, logdir=tmp_path / "run"
    )
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert tracker.step == 5 and tracker.history.steps.tolist() == [0, 1, 2, 3, 4]
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert read_run(tmp_path / "run").summary["steps"] == 5


def test_a_callback_that_raises_and_is_caught_costs_no_step(tmp_path):
    caught = []

    def take(optimizer, _):
        try:
            optimizer.step()
        except ZeroDivisionError as error:
            caught.append(error)

    def fail(tracker, transition):
        raise ZeroDivisionError(transition.after.name)

    options = {"logdir": tmp_path / "run", "on_transition": fail, "block": 1}
    tracker = loop(lambda p: torch.optim.SGD(p, lr=0.1), 12, take, **options)
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert caught and steps == tracker.history.steps.tolist() == list(range(tracker.step))


@pytest.mark.parametrize("place", ["positional", "keyword", "dictionary"])
def test_a_closure_in_any_argument_makes_the_batch(place):
    class Own(torch.optim.SGD):
        def step(self, closure=None, options=None):
            call = closure or (options and options["closure"])
            with torch.enable_grad():
                call()
            return super().step()

    def take(optimizer, closure):
        if place == "positional":
            optimizer.step(closure)
        elif place == "keyword":
            optimizer.step(closure=closure)
        else:
            optimizer.step(options={"closure": closure})

    tracker = loop(lambda p: Own(p, lr=0.1), 4, take)
    assert tracker.step == 4 and not any(map(math.isnan, tracker.history["loss/train"]))


def test_a_fused_step_that_the_scaler_skips_is_not_counted():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1)), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(5):
            x, y = TASK.sample(16, seed=0, step=step)
            optimizer.zero_grad()
            scaler.scale(loss(model(x).squeeze(-1), y)).backward()
            if step == 2:
                model[0].weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
    assert tracker.step == 4 and tracker.history.steps.tolist() == [0, 1, 2, 3]


def test_groups_without_a_rate_cost_what_needs_a_rate():
    class Own(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"step_size": 0.1})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["step_size"] * p.grad)

    tracker = loop(Own, 4)
    assert tracker.history.steps.tolist() == [0, 1, 2, 3]
    assert not any(map(math.isnan, tracker.history["loss/train"]))
    assert not any(map(math.isnan, tracker.history["heaviness/zeta_star"]))
