"""Runs trained side by side are the runs that each would have been alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from phasetrack import ExpectedError, RunSettings, predict, read_run, train
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.training import ensemble as ensembles
from phasetrack.training.ensemble import train_together
from phasetrack.training.networks import Networks, draw
from phasetrack.training.placement import task_of

SMALL = RunSettings(d=16, width=32, batch=64, steps=12)
# Different in all that members may differ in.
MEMBERS = [
    SMALL,
    replace(SMALL, seed=1, eta=0.4, steps=5),
    replace(SMALL, seed=1, theta=0.3),
    replace(SMALL, seed=2, train="second", steps=9),
    replace(SMALL, seed=3, train="first"),
    replace(SMALL, seed=4, shuffle_labels=True),
    replace(SMALL, seed=5, steps=None, eta=1.0, target=1.0),
    replace(SMALL, seed=6, eta=500.0, steps=40),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for index, settings in enumerate(MEMBERS):
        train(settings, out=out, name=str(index))
    return [read_run(out / str(index)) for index in range(len(MEMBERS))]


@pytest.fixture(scope="module")
def together():
    tasks = map(task_of, MEMBERS)
    forecasts = [
        predict(task.geometry, settings, population=task.population)
        for task, settings in zip(tasks, MEMBERS, strict=True)
    ]
    done = list(train_together(MEMBERS, forecasts=forecasts))
    assert [outcome.settings for outcome in done] == [MEMBERS[o.index] for o in done]
    return sorted(done, key=lambda outcome: outcome.index)


def test_members_end_when_they_would_have_alone(alone, together):
    assert [o.summary["stopped"] for o in together] == [
        "steps", "steps", "steps", "steps", "steps", "steps", "fitted", "diverged",
    ]  # fmt: skip
    for run, outcome in zip(alone, together, strict=True):
        for key in ("steps", "stopped", "phase", "reason", "timeline", "thresholds", "forecast"):
            np.testing.assert_equal(outcome.summary[key], run.summary[key], err_msg=key)


@pytest.mark.parametrize("index", range(len(MEMBERS) - 1))
def test_histories_are_those_of_single_runs(alone, together, index):
    run, outcome = alone[index], together[index]
    assert outcome.history.steps.tolist() == run.history.steps.tolist()
    assert list(outcome.history) == list(run.history)
    for name in run.history:
        np.testing.assert_allclose(
            outcome.history[name], run.history[name], rtol=1e-3, atol=2e-5, err_msg=name
        )
    assert outcome.summary["undefined"] == run.summary["undefined"]
    assert outcome.summary.keys() == run.summary.keys() - {"directory", "seconds", "matmul"}
    got, expected = (
        [(b["name"], b["onset"], b["detected"]) for b in s["boundaries"]]
        for s in (outcome.summary, run.summary)
    )
    assert [(n, d) for n, _, d in got] == [(n, d) for n, _, d in expected]
    assert [o for _, o, _ in got] == pytest.approx([o for _, o, _ in expected], rel=1e-4)


def test_the_last_weights_are_a_network_of_its_own(alone, together):
    for run, outcome in zip(alone[:-1], together[:-1], strict=True):
        state = torch.load(run.path / "checkpoint.pt", weights_only=True)["model"]
        for name, weights in outcome.network.state_dict().items():
            torch.testing.assert_close(weights, state[name], rtol=1e-4, atol=1e-6)
            assert weights.untyped_storage().nbytes() == weights.nbytes


def test_gradient_is_autograds_in_float64():
    settings = [replace(SMALL, seed=seed) for seed in range(3)]
    networks = Networks(settings)
    networks.W, networks.a = networks.W.double() * 20, networks.a.double() * 20
    x, y = (t.double() for t in draw(settings, 3, 0, 64, "cpu"))
    outputs, to_first, to_second = networks.gradient(x, y, 64)
    for member, s in enumerate(settings):
        net = TwoLayerNet(s.d, s.width, theta=20 * s.theta, seed=s.seed).double()
        net.first.weight.data = networks.W[member].clone()
        net.second.weight.data = networks.a[member : member + 1].clone()
        expected = net(x[member])
        LogisticLoss()(expected, y[member]).backward()
        torch.testing.assert_close(outputs[member], expected.detach(), rtol=1e-12, atol=1e-14)
        for ours, layer in ((to_first[member], net.first), (to_second[member], net.second)):
            exact = layer.weight.grad.reshape(ours.shape)
            torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-14)


def test_a_batch_in_pieces_and_members_in_groups_change_nothing(monkeypatch, together):
    settings = [replace(MEMBERS[0], micro_batch=25), replace(MEMBERS[2], micro_batch=25)]
    monkeypatch.setattr(ensembles, "PIECE_BYTES", 1)  # one at a time
    done = list(train_together(settings))
    assert [o.index for o in done] == [0, 1]
    for ours, theirs in zip(done, (together[0], together[2]), strict=True):
        for name in ours.history:
            np.testing.assert_allclose(
                ours.history[name], theirs.history[name], rtol=1e-3, atol=2e-5, err_msg=name
            )


def test_every_nth_step_is_recorded():
    settings = [replace(SMALL, every=4, seed=seed, steps=10 - seed) for seed in range(2)]
    done = sorted(train_together(settings), key=lambda outcome: outcome.index)
    assert [o.history.steps.tolist() for o in done] == [[0, 4, 8], [0, 4, 8]]
    assert [o.summary["steps"] for o in done] == [10, 9]


def test_one_set_of_inputs_for_all_networks():
    settings = [replace(SMALL, seed=seed) for seed in range(2)]
    x, _ = XOR(16).sample(50, seed=9, step=0)
    outputs = Networks(settings).outputs(x)
    for seed in range(2):
        net = TwoLayerNet(16, 32, theta=0.1, seed=seed)
        torch.testing.assert_close(outputs[seed], net(x).detach())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"d": 8, "batch": 64}, r"d: The runs differ in it: \[8, 16\]"),
        ({"width": 8}, r"width: The runs differ in it: \[8, 32\]"),
        ({"batch": 32}, r"batch: The runs differ in it: \[32, 64\]"),
        ({"every": 3}, r"every: The runs differ in it: \[1, 3\]"),
        ({"gradient_error": True}, "gradient_error: True needs a run of its own"),
        ({"snapshots": 5}, "snapshots: 5 needs a run of its own"),
    ],
    ids=["d", "width", "batch", "every", "gradient error", "snapshots"],
)
def test_what_cannot_go_together_is_refused(change, message):
    with pytest.raises(ExpectedError, match=message):
        train_together([SMALL, replace(SMALL, **change)])


def test_other_arguments_are_checked_before_anything_is_trained():
    with pytest.raises(ExpectedError, match="forecasts: 2 forecasts are given for 1 runs"):
        train_together([SMALL], forecasts=[None, None])
    with pytest.raises(ExpectedError, match=r"device: 'x' is not a device"):
        train_together([SMALL], device="x")


def test_what_is_not_waited_for_leaves_no_hooks():
    outcomes = train_together([SMALL, replace(SMALL, steps=2)])
    first = next(outcomes)
    outcomes.close()
    assert first.index == 1 and not first.network.first._forward_hooks


def test_nothing_is_nothing():
    assert list(train_together([])) == []


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    list(train_together([replace(SMALL, steps=2)]))
    assert torch.equal(before, torch.get_rng_state())
