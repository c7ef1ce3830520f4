"""attach(): readings of one state each, training left alone, hooks that go away."""

import contextlib
import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from helpers import references as naive
from torch import nn

import phasetrack
from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach, log_spaced
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.tracker import TrackingWarning

D, P, M = 12, 16, 96
TASK = XOR(D)


def steps(model, optimizer, loss, count, *, pieces=1, targets=lambda y: y, flat=True, start=0):
    """A training loop as people write it; gradients of `pieces` micro-batches add up."""
    dtype = next(model.parameters()).dtype
    for step in range(start, start + count):
        optimizer.zero_grad()
        for piece in range(pieces):
            size = M // pieces
            x, y = TASK.sample(size, seed=1, step=step, start=piece * size, dtype=dtype)
            f = model(x)
            (loss(f.squeeze(-1) if flat else f, targets(y)) / pieces).backward()
        optimizer.step()


def setting(lr=3.0, dtype=torch.float32, optimizer=torch.optim.SGD, **options):
    net = TwoLayerNet(D, P, seed=3).to(dtype)
    return net, optimizer(net.parameters(), lr=lr, **options), LogisticLoss()


def hooks(*objects):
    names = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_optimizer_step_pre_hooks",
        "_optimizer_step_post_hooks",
    )
    found = [m for o in objects for m in (o.modules() if isinstance(o, nn.Module) else [o])]
    return sum(len(getattr(o, name, ())) for o in found for name in names)


class WithDropout(nn.Module):
    """Draws random numbers in training, and changes its activations in place."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(D, P), nn.Linear(P, 1)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.2)

    def forward(self, x):
        return self.head(self.drop(self.relu(self.hidden(x))))


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize(
    "make",
    [
        lambda net: torch.optim.SGD(net.parameters(), lr=0.5),
        lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda net: torch.optim.Adam(net.parameters(), lr=0.01),
    ],
    ids=["sgd", "momentum", "adam"],
)
@pytest.mark.filterwarnings("ignore::phasetrack.tracking.tracker.TrackingWarning")
def test_training_is_unchanged_to_the_bit(make, pieces):
    def train(probed):
        torch.manual_seed(5)
        model, loss = WithDropout(), LogisticLoss()
        optimizer = make(model)
        if probed:
            probes = default_probes(gradients=True)
            with attach(model, optimizer, loss=loss, geometry=TASK.geometry, probes=probes) as t:
                steps(model, optimizer, loss, 12, pieces=pieces)
            assert t.history.steps.tolist() == list(range(12))
        else:
            steps(model, optimizer, loss, 12, pieces=pieces)
        return [*model.state_dict().values(), torch.random.get_rng_state()]

    for bare, probed in zip(train(False), train(True), strict=True):
        assert torch.equal(bare, probed)


def test_readings_describe_the_state_before_each_update():
    net, optimizer, loss = setting(dtype=torch.float64)
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(6):
            W, a = net.first.weight.detach().clone(), net.second.weight.detach()[0].clone()
            x, y = (t.numpy() for t in TASK.sample(M, seed=1, step=step, dtype=torch.float64))
            steps(net, optimizer, loss, 1, start=step)
            f = np.maximum(x @ W.numpy().T, 0) @ a.numpy() / P
            read = {name: tracker.history[name][step] for name in tracker.history}
            assert read["loss/train"] == pytest.approx(naive.loss(f, y).mean())
            assert read["error/train"] == (f * y <= 0).mean()
            assert read["linearization/slope_drift"] == pytest.approx(np.tanh(abs(f) / 2).mean())
            clean = naive.margins(W.numpy(), a.numpy(), D)
            assert read["margin/min"] == pytest.approx(min(clean))
            assert read["margin/clean/mu1"] == pytest.approx(clean[0])
            on_mu1 = (x[:, 0] == 1) & (x[:, 1] == -1)
            assert read["margin/empirical/mu1"] == pytest.approx((f * y)[on_mu1].mean())
            needed = [naive.needed_zeta(w, s) for w, s in zip(W.numpy(), a.numpy(), strict=True)]
            heavy = sum((w**2).sum() for w, z in zip(W.numpy(), needed, strict=True) if z <= 0.5)
            assert read["heaviness/heavy_mass"] == pytest.approx(heavy / (W**2).sum().item())
            zeta = phasetrack.measures.heaviness.certificate(W, a, TASK.geometry)
            assert read["heaviness/zeta_star"] == pytest.approx(zeta.item())
            assert read["heaviness/chance"] == 2 / D


def test_growth_is_the_change_of_root_mean_squares():
    net, optimizer, loss = setting(dtype=torch.float64)
    seen = []
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, every=2) as tracker:
        for step in range(5):
            seen.append(net.first.weight.detach().clone().numpy())
            steps(net, optimizer, loss, 1, start=step)
    perp = [np.sqrt((W[:, 2:] ** 2).sum()) for W in seen]
    eta = 3.0 / P
    rates = tracker.history["growth/perp_rate"]
    assert math.isnan(rates[0]) and "earlier" in tracker.undefined["growth/perp_rate"]
    assert rates[1:] == pytest.approx(
        [math.log(perp[2] / perp[0]) / (2 * eta), math.log(perp[4] / perp[2]) / (2 * eta)]
    )


def test_micro_batches_are_one_step():
    histories = []
    for pieces in (1, 4):
        net, optimizer, loss = setting(dtype=torch.float64)
        probes = default_probes(gradients=True)
        with attach(net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes) as tracker:
            steps(net, optimizer, loss, 5, pieces=pieces)
        histories.append(tracker.history)
    whole, parts = histories
    assert parts.steps.tolist() == [0, 1, 2, 3, 4] and list(whole) == list(parts)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-9, atol=1e-12)


def test_inputs_are_kept_only_for_probes_that_need_them():
    def seen_with(probe):
        seen = []

        def look(snapshot):
            seen.append(snapshot.batch.inputs)
            return {}

        net, optimizer, loss = setting()
        probes = [look, *probe]
        with attach(net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes):
            steps(net, optimizer, loss, 1, pieces=4)
        return [len(piece) for piece in seen[0]]

    assert seen_with([]) == []
    assert seen_with(default_probes(gradients=True)) == [M // 4] * 4


def test_gradient_error_is_that_of_autograd():
    net, optimizer, loss = setting(dtype=torch.float64, lr=100.0)
    probes = default_probes(gradients=True)
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes) as tracker:
        steps(net, optimizer, loss, 4)
        twin = copy.deepcopy(net)
        steps(net, optimizer, loss, 1, start=4)
    x, y = TASK.sample(M, seed=1, step=4, dtype=torch.float64)
    exact = torch.autograd.grad(loss(twin(x), y), list(twin.parameters()))
    linear = torch.autograd.grad((-y * twin(x)).mean(), list(twin.parameters()))
    for name, g, g0 in zip(("first", "second"), exact, linear, strict=True):
        expected = ((g - g0).norm() / g0.norm()).item()
        read = tracker.history[f"linearization/gradient_error_{name}"][4]
        assert read == pytest.approx(expected) and expected > 1e-3


@pytest.mark.parametrize(
    "every, expected",
    [(3, [0, 3, 6, 9]), (log_spaced(3), [0, 1, 3, 5, 10]), (lambda s: s == 4, [4])],
    ids=["every third", "log spaced", "one"],
)
def test_schedules(every, expected):
    net, optimizer, loss = setting()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, every=every) as tracker:
        steps(net, optimizer, loss, 12)
    assert tracker.history.steps.tolist() == expected
    assert not np.isnan(tracker.history["loss/train"]).any()


def test_evaluation_is_not_counted():
    net, optimizer, loss = setting()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for step in range(3):
            with torch.no_grad():
                x, y = TASK.sample(7, seed=9, step=step)
                loss(net(x), -y)
            steps(net, optimizer, loss, 1, start=step)
    assert tracker.history["loss/train"] == pytest.approx(2 * math.log(2), abs=0.02)
    assert tracker.history.steps.tolist() == [0, 1, 2]


def test_a_plain_function_as_loss():
    net, optimizer, _ = setting()

    def loss(f, y):
        return torch.nn.functional.mse_loss(f, y)

    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        steps(net, optimizer, tracker.loss, 3)
    assert tracker.history["loss/train"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda loss, f, y: loss(f, target=y),
        lambda loss, f, y: loss(input=f, target=y),
        lambda loss, f, y: loss(target=y, input=f),
    ],
    ids=["target named", "both named", "both named, reversed"],
)
def test_a_loss_called_with_names(call):
    net, optimizer, _ = setting()
    loss = nn.SoftMarginLoss()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        steps(net, optimizer, lambda f, y: call(loss, f, y), 2)
    assert tracker.history["loss/train"] == pytest.approx(math.log(2), abs=0.01)


def test_bce_with_labels_of_zero_and_one():
    net, optimizer, _ = setting()
    loss = nn.BCEWithLogitsLoss()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        steps(net, optimizer, loss, 3, targets=lambda y: (y + 1) / 2)
    history = tracker.history
    assert history["loss/train"] == pytest.approx(math.log(2), abs=0.01)
    f_mu1 = history["margin/empirical/mu1"]
    assert f_mu1 == pytest.approx(history["margin/clean/mu1"], abs=0.01)


def test_uncalled_loss_is_recognised_by_its_gradient_from_the_second_step():
    net, optimizer, loss = setting()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        steps(net, optimizer, LogisticLoss(), 3)  # another instance than the one given
    read = tracker.history["loss/train"]
    assert np.isnan(read).tolist() == [True, False, False]
    assert read[1] == pytest.approx(2 * math.log(2), rel=1e-3)
    assert "no loss call was seen" in tracker.undefined["loss"]


def test_uncalled_loss_is_reported():
    net, optimizer, loss = setting()
    with (
        pytest.warns(TrackingWarning, match=r"no recorded step had a loss.*tracker\.loss"),
        attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker,
    ):
        steps(net, optimizer, lambda f, y: (f.sum() - y.sum()).square(), 3)
    assert tracker.phase.name == "UNDETERMINED" and "slope drift" in tracker.reason
    assert any("no recorded step had a loss" in note for note in tracker.summary()["notes"])
    assert (tracker.history["heaviness/zeta_star"] > 0).all()


WRONG = {
    "nan inputs": "inputs: The batch contains NaN or infinity. Check the data",
    "no gradient": "loss: The loss was called on detached outputs. Call the loss",
}


@pytest.mark.parametrize("strict", [False, True], ids=["warned", "strict"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_batches_are_explained(wrong, strict):
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 2))
    loss = nn.CrossEntropyLoss(ignore_index=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(number):
        x, y = TASK.sample(M, seed=0, step=number)
        y = (y > 0).long()
        if wrong == "nan inputs":
            x[0, 0] = math.nan
        f = model(x)
        value = loss(f.detach() if wrong == "no gradient" else f, y)
        (value + 0 * f.sum()).backward()
        optimizer.step()

    tracker = attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=strict)
    expected = pytest.raises(ExpectedError) if strict else pytest.warns(TrackingWarning)
    with expected as caught, tracker:
        for number in range(3):
            step(number)
    if strict:
        assert WRONG[wrong] in str(caught.value)
    else:
        assert len([w for w in caught if WRONG[wrong] in str(w.message)]) == 1
        assert tracker.undefined["batch"].startswith(WRONG[wrong])
        assert "linearization" in tracker.undefined
        assert tracker.history["heaviness/heavy_mass"][0] >= 0


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt], ids=str)
def test_no_hook_is_left(failure):
    net, optimizer, loss = setting()
    before = hooks(net, optimizer, loss)
    expected = pytest.raises(failure) if failure else contextlib.nullcontext()
    with expected, attach(net, optimizer, loss=loss, geometry=TASK.geometry):
        assert hooks(net, optimizer, loss) > before
        steps(net, optimizer, loss, 1)
        if failure:
            raise failure
    assert hooks(net, optimizer, loss) == before == 0


def test_only_own_hooks_are_removed():
    net, optimizer, loss = setting()
    calls = []
    net.first.register_forward_hook(lambda *_: calls.append("forward"))
    optimizer.register_step_pre_hook(lambda *_: calls.append("step"))
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry)
    tracker.detach()
    tracker.detach()
    steps(net, optimizer, loss, 1)
    assert calls == ["forward", "step"] and len(tracker.history.steps) == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"geometry": naive.xor(5)}, r"lies in R\^5, and first takes 12 inputs"),
        ({"every": 0}, "every: 0 is not an integer >= 1."),
        (
            {"layers": ("first", "third")},
            "layers: The model has no layer or parameter 'third'. Pass two of first, second.",
        ),
    ],
    ids=["geometry", "schedule", "layers"],
)
def test_a_failed_attach_attaches_nothing(changes, message, tmp_path):
    net, optimizer, loss = setting()
    options = {"loss": loss, "geometry": TASK.geometry, "logdir": tmp_path / "log"} | changes
    with pytest.raises(ExpectedError, match=message):
        attach(net, optimizer, **options)
    assert hooks(net, optimizer, loss) == 0
    assert not (tmp_path / "log").exists()


def test_a_directory_that_holds_a_run_is_refused(tmp_path):
    (tmp_path / "history.jsonl").touch()
    net, optimizer, loss = setting()
    with pytest.raises(ExpectedError, match="already holds a run"):
        attach(net, optimizer, loss=loss, geometry=TASK.geometry, logdir=tmp_path)
    assert hooks(net, optimizer, loss) == 0


def test_an_optimizer_of_something_else_is_refused():
    net, _, loss = setting()
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(
        ExpectedError, match="optimizer: The optimizer trains neither first nor second"
    ):
        attach(net, other, loss=loss, geometry=TASK.geometry)
    assert hooks(net, other, loss) == 0


def test_a_second_tracker_is_refused_and_the_first_stays():
    net, optimizer, loss = setting()
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry)
    with pytest.raises(ExpectedError, match="Call detach"):
        attach(net, optimizer, loss=loss, geometry=TASK.geometry)
    steps(net, optimizer, loss, 2)
    tracker.detach()
    assert tracker.history.steps.tolist() == [0, 1]
    attach(net, optimizer, loss=loss, geometry=TASK.geometry).detach()


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda o: pickle.loads(pickle.dumps(o)),
        lambda o: torch.load(_saved(o), weights_only=False),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_made_while_attached_are_not_tracked(copied):
    net, optimizer, loss = setting()
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        twin, twin_loss = copied(net), copied(loss)
        twin_optimizer = torch.optim.SGD(twin.parameters(), lr=3.0)
        steps(twin, twin_optimizer, twin_loss, 2)
        assert len(tracker.history.steps) == 0
        steps(net, optimizer, loss, 2)
    assert torch.equal(net.first.weight, twin.first.weight)


def _saved(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("strict", [False, True], ids=["warned", "strict"])
def test_a_hook_that_fails_does_not_stop_the_training(strict, monkeypatch):
    net, optimizer, loss = setting()
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, strict=strict)

    def fail(*_):
        raise ZeroDivisionError("in traces")

    monkeypatch.setattr(phasetrack.ClusterGeometry, "traces", fail)
    expected = pytest.raises(ZeroDivisionError) if strict else pytest.warns(TrackingWarning)
    with expected as caught, tracker:
        steps(net, optimizer, loss, 3)
    if not strict:
        assert len([w for w in caught if "in traces" in str(w.message)]) == 1
        assert "in traces" in tracker.undefined["hooks"]
        assert tracker.history.steps.tolist() == [0, 1, 2]
        assert (tracker.history["heaviness/zeta_star"] > 0).all()


def broken(snapshot):
    if snapshot.step == 1:
        raise ZeroDivisionError("of the probe")
    return {"mine/step": float(snapshot.step)}


def test_a_failing_probe_costs_the_readings_of_that_step():
    net, optimizer, loss = setting()
    probes = (*default_probes(), broken)
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes)
    with pytest.warns(TrackingWarning, match="broken failed; its readings of this step") as caught:
        steps(net, optimizer, loss, 4)
    tracker.detach()
    assert len(caught) == 1
    assert all("of the probe" in tracker.undefined[name] for name in ("broken", "mine/step"))
    own = tracker.history["mine/step"]
    assert own[[0, 2, 3]].tolist() == [0, 2, 3] and np.isnan(own[1])
    assert (tracker.history["heaviness/zeta_star"] > 0).all()


def test_strict_raises_what_a_probe_raises():
    net, optimizer, loss = setting()
    options = {"loss": loss, "geometry": TASK.geometry, "probes": [broken], "strict": True}
    with pytest.raises(ZeroDivisionError), attach(net, optimizer, **options):
        steps(net, optimizer, loss, 4)
    assert hooks(net, optimizer, loss) == 0


class BrokenSink:
    def write(self, record):
        raise OSError("disk full")

    def close(self, summary, history):
        raise AssertionError("a sink that was switched off is closed no more")


def test_a_failing_sink_is_switched_off_with_one_warning():
    net, optimizer, loss = setting()
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, sinks=[BrokenSink()])
    with pytest.warns(TrackingWarning, match="BrokenSink failed.*disk full") as caught:
        steps(net, optimizer, loss, 3)
    tracker.detach()
    assert len(caught) == 1 and len(tracker.history.steps) == 3


def test_phases_from_anybodys_loop():
    net, optimizer, loss = setting(lr=0.2 * P)
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, escape_steps=75) as tracker:
        steps(net, optimizer, loss, 150)
    summary = tracker.summary()
    assert tracker.phase.name == summary["phase"] == "FITTED" and tracker.alerts == []
    assert [b.name for b in tracker.boundaries] == ["signal_heavy", "linear_exit", "fitted"]
    assert [(t.before.name, t.after.name) for t in tracker.transitions] == [
        ("SIGNAL_FINDING", "SIGNAL_HEAVY"),
        ("SIGNAL_HEAVY", "FITTED"),
    ]
    assert set(summary) >= {"phase", "boundaries", "alerts", "final", "forecast", "thresholds"}


def test_the_layers_factor_is_measured_on_the_first_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P, bias=False), nn.ReLU(), nn.Linear(P, 1, bias=False))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), LogisticLoss()
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        steps(model, optimizer, loss, 1)
    assert tracker.view.scale == pytest.approx(1)
    assert tracker.undefined.keys().isdisjoint({"loss", "margin/min"})
