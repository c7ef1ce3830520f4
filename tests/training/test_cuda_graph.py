"""Steps played from a graph, here pretended: what goes in, what the hooks see, what is left behind."""

from contextlib import ExitStack

import pytest
import torch
from helpers.fake_gpu import pretended_graph

from phasetrack import LogisticLoss, RunSettings, TwoLayerNet, attach
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.training import cuda_graph as graphed
from phasetrack.training.cuda_graph import GraphedStep
from phasetrack.training.matmul import DEFAULT, Matmul
from phasetrack.training.step import stepper, take_step

CPU = torch.device("cpu")
D, WIDTH, BATCH, STEPS = 16, 8, 40, 12


@pytest.fixture
def begun(monkeypatch):
    """Begins runs, and ends them with the test."""
    monkeypatch.setattr(graphed, "_captured", pretended_graph)
    with ExitStack() as ending:
        yield lambda *how, **options: ending.enter_context(Run(*how, **options))


class Run:
    """A small run, to be stepped either way."""

    def __init__(self, name="xor", train="both", **options):
        self.settings = RunSettings(task=name, d=D, width=WIDTH, batch=BATCH, train=train)
        self.task, self.loss = make_task(name, D), LogisticLoss()
        self.net = FusedTwoLayerNet(D, WIDTH, seed=3)
        trained = {"both": self.net, "first": self.net.first, "second": self.net.second}[train]
        self.optimizer = torch.optim.SGD(trained.parameters(), lr=0.1 * WIDTH)
        self.parts = (self.settings, self.task, self.net, self.optimizer, self.loss)
        self.tracker = attach(
            self.net, self.optimizer, loss=self.loss, geometry=self.task.geometry, **options
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tracker.detach()

    def played(self):
        take = GraphedStep(*self.parts, CPU)
        for step in range(STEPS):
            take(step)
        return self

    def called(self):
        for step in range(STEPS):
            take_step(*self.parts, step, device=CPU, matmul=Matmul(DEFAULT))
        return self

    @property
    def weights(self):
        return [parameter.detach() for parameter in self.net.parameters()]


@pytest.mark.parametrize("train", ["both", "first", "second"])
@pytest.mark.parametrize("name", TASKS)
def test_steps_are_those_of_call_after_call(name, train, begun):
    played, called = begun(name, train).played(), begun(name, train).called()
    assert all(map(torch.equal, played.weights, called.weights))
    assert not all(map(torch.equal, played.weights, begun(name, train).weights))


@pytest.mark.parametrize("options", [{}, {"every": 5}, {"block": 1}], ids=str)
def test_the_tracker_sees_the_same(options, begun):
    played, called = (
        run.tracker.history for run in (begun(**options).played(), begun(**options).called())
    )
    assert played.steps.tolist() == called.steps.tolist() and list(played) == list(called)
    for name in called:
        assert played[name].tolist() == pytest.approx(called[name].tolist(), nan_ok=True, abs=0)


def test_hooks_are_called_once_a_step_on_what_was_computed(begun):
    run, seen = begun(), []
    for module in (run.net, run.loss):
        module.register_forward_hook(lambda _, given, result: seen.append((*given, result)))
    take = GraphedStep(*run.parts, CPU)
    for step in range(3):
        take(step)
        # nothing was seen while the graph was made
        (x, outputs), (given, y, loss) = seen[2 * step :]
        _, made = take._graph
        assert all(a is b for a, b in zip(made, (x, y, outputs, loss), strict=False))
        inputs, labels = run.task.sample(BATCH, seed=0, step=step)
        assert torch.equal(x, inputs) and torch.equal(y, labels) and torch.equal(given, outputs)
        assert torch.equal(loss, LogisticLoss()(outputs, labels))
    assert len(seen) == 6


@pytest.mark.parametrize("raising", ["net", "loss", None])
def test_network_and_loss_are_as_before(raising, begun):
    run = begun().played()
    if raising:

        def stop(*_):
            raise KeyboardInterrupt

        hook = getattr(run, raising).register_forward_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            run.played()
        hook.remove()
    x, y = run.task.sample(7, seed=1, step=0)
    assert "forward" not in vars(run.net) and "forward" not in vars(run.loss)
    assert run.loss(run.net(x), y).ndim == 0 and run.net(x).shape == (7,)


def test_gradients_that_were_cleared_in_between_are_back(begun):
    cleared, called = begun(), begun().called()
    take = GraphedStep(*cleared.parts, CPU)
    for step in range(STEPS):
        cleared.optimizer.zero_grad()
        take(step)
    assert all(map(torch.equal, cleared.weights, called.weights))


@pytest.mark.parametrize(
    "device, changed, fused, played",
    [
        ("cuda", {}, True, True),
        ("cuda:1", {"micro_batch": BATCH}, True, True),
        ("cpu", {}, True, False),
        ("cuda", {"micro_batch": BATCH // 2}, True, False),
        ("cuda", {"gradient_error": True}, True, False),
        ("cuda", {}, False, False),
    ],
)
def test_a_gpu_plays_where_a_batch_is_one_piece(device, changed, fused, played, begun, monkeypatch):
    monkeypatch.setattr(
        "phasetrack.training.step.GraphedStep", lambda *given: ("played", given[-1])
    )
    run, where = begun(), torch.device(device)
    settings = RunSettings(**{"d": D, "width": WIDTH, "batch": BATCH} | changed)
    net = run.net if fused else TwoLayerNet(D, WIDTH)
    took = stepper(settings, run.task, net, *run.parts[3:], device=where, matmul=Matmul(DEFAULT))
    assert (took == ("played", where)) is played
    if not played:
        assert took.func is take_step and took.keywords["device"] == where
