"""What counts as one optimizer step."""

import json
import math

import pytest
import torch
from torch import nn

from phasetrack import attach
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
