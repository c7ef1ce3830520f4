"""Hooks, through attach() alone: what is seen, what is left out, and that nothing stays behind."""

import contextlib
import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach
from phasetrack.measures import heaviness
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.samples import finite
from phasetrack.tracking.tracker import TrackingWarning

D, P, M = 10, 12, 64
TASK = XOR(D)


def setting(dtype=torch.float32, optimizer=torch.optim.SGD, lr=3.0, **options):
    net = TwoLayerNet(D, P, seed=2).to(dtype)
    return net, optimizer(net.parameters(), lr=lr, **options), LogisticLoss()


def sample(step, size=M, start=0, dtype=torch.float32):
    return TASK.sample(size, seed=4, step=step, start=start, dtype=dtype)


def train(net, optimizer, loss, steps):
    """A plain training loop over the steps of a range."""
    dtype = next(net.parameters()).dtype
    for step in steps:
        x, y = sample(step, dtype=dtype)
        optimizer.zero_grad()
        loss(net(x).squeeze(-1), y).backward()
        optimizer.step()


def follow(net, optimizer, loss, **options):
    return attach(net, optimizer, loss=loss, geometry=TASK.geometry, **options)


def hooks(*objects):
    """Ids of every hook on modules and optimizers, whatever kind they are of."""
    parts = [m for o in objects for m in (o.modules() if isinstance(o, nn.Module) else [o])]
    tables = [(part, name) for part in parts for name in vars(part) if name.endswith("_hooks")]
    return [id(hook) for part, name in tables for hook in getattr(part, name).values()]


def users_hooks(net, optimizer, loss):
    """One hook of each kind that phasetrack uses too, and the calls they note."""
    calls = []

    def note(kind):
        return lambda *_: calls.append(kind)

    net.first.register_forward_hook(note("forward"))
    loss.register_forward_hook(note("loss"))
    optimizer.register_step_pre_hook(note("before"))
    optimizer.register_step_post_hook(note("after"))
    return calls


# --- hooks come and go -----------------------------------------------------------------------


def in_the_loop(net, optimizer, loss):
    with follow(net, optimizer, loss):
        train(net, optimizer, loss, range(1))
        raise ZeroDivisionError


def in_backward(net, optimizer, loss):
    with follow(net, optimizer, loss):
        f = net(sample(0)[0])
        f.register_hook(lambda _: 1 / 0)
        loss(f, sample(0)[1]).backward()


def in_a_strict_probe(net, optimizer, loss):
    with follow(net, optimizer, loss, probes=[lambda _: 1 / 0], strict=True):
        train(net, optimizer, loss, range(1))


def in_detach(net, optimizer, loss):
    class Sink:
        def write(self, record):
            pass

        def close(self, summary, history):
            raise ZeroDivisionError

    with follow(net, optimizer, loss, sinks=[Sink()], strict=True):
        train(net, optimizer, loss, range(1))


@pytest.mark.parametrize(
    "fail", [in_the_loop, in_backward, in_a_strict_probe, in_detach], ids=lambda f: f.__name__
)
def test_a_failure_leaves_the_users_hooks_and_no_other(fail):
    objects = setting()
    users_hooks(*objects)
    before = hooks(*objects)
    with pytest.raises(ZeroDivisionError):
        fail(*objects)
    assert hooks(*objects) == before and len(before) == 4


def test_unrecorded_step_has_only_the_hooks_that_count_it():
    """Modules with hooks are called by a slower way."""
    objects = setting()
    net, optimizer, _ = objects
    with follow(*objects, every=3) as tracker:
        counts = []
        for step in range(7):
            counts.append(len(hooks(*objects)))
            train(*objects, range(step, step + 1))
        assert counts == [4, 2, 2, 4, 2, 2, 4]
        assert len(hooks(net)) == 0 and len(hooks(optimizer)) == 2
    assert hooks(*objects) == [] and tracker.history.steps.tolist() == [0, 3, 6]
    assert not np.isnan(tracker.history["loss/train"]).any()


def test_hooks_stay_until_a_step_has_gone_through_them():
    """The first step is not recorded: whether the model is compiled is not known before it."""
    objects = setting()
    with follow(*objects, every=lambda step: step == 2) as tracker:
        counts = []
        for step in range(4):
            counts.append(len(hooks(*objects)))
            train(*objects, range(step, step + 1))
    assert counts == [4, 2, 4, 2] and tracker.history.steps.tolist() == [2]


def test_time_is_counted_at_the_rates_of_steps_that_are_not_recorded():
    net, optimizer, loss = setting(lr=3.0 * P)
    slower = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    times = []
    probe = lambda snapshot: {"mine": times.append(snapshot.time) or 0.0}  # noqa: E731
    with follow(net, optimizer, loss, every=4, probes=[probe]):
        for step in range(9):
            train(net, optimizer, loss, range(step, step + 1))
            slower.step()
    assert times == pytest.approx([0.0, *(sum(3.0 * 0.5**s for s in range(n)) for n in (4, 8))])


def frozen(net, optimizer):
    for parameter in net.parameters():
        parameter.requires_grad_(False)


def loaded(net, optimizer):
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] *= 0.25
    optimizer.load_state_dict(state)


def changed_in_place(net, optimizer):
    optimizer.param_groups[0]["lr"].mul_(0.25)


@pytest.mark.parametrize(
    ("change", "lr", "factor"),
    [(frozen, 3.0, 0.0), (loaded, 3.0, 0.25), (changed_in_place, torch.tensor(3.0), 0.25)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_between_recorded_steps_is_seen_in_the_time(change, lr, factor):
    net, optimizer, loss = setting(lr=lr)
    times = []
    probe = lambda snapshot: {"mine": times.append(snapshot.time) or 0.0}  # noqa: E731
    with follow(net, optimizer, loss, every=8, probes=[probe]):
        train(net, optimizer, loss, range(3))
        change(net, optimizer)
        for _ in range(5):
            optimizer.step()
        net.requires_grad_()
        train(net, optimizer, loss, range(8, 9))
    eta = 3.0 * net.scale
    assert times == pytest.approx([0.0, 3 * eta + 5 * eta * factor])


def test_an_attach_that_fails_late_leaves_no_hook(tmp_path, monkeypatch):
    """Files are opened after the hooks are on."""
    objects = setting()

    def fail(*_, **__):
        assert hooks(*objects)
        raise RuntimeError("no disk")

    monkeypatch.setattr("phasetrack.tracking.sink_group.HistorySink", fail)
    with pytest.raises(RuntimeError, match="no disk"):
        follow(*objects, logdir=tmp_path)
    assert hooks(*objects) == []


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_snapshot_schedule_is_named_and_leaves_no_file(tmp_path):
    """The mistake mended, the same logdir is taken."""
    objects = setting()
    with pytest.raises(ExpectedError) as caught:
        follow(*objects, logdir=tmp_path / "log", snapshots=0)
    left = [path.name for path in tmp_path.rglob("*")]
    assert hooks(*objects) == []
    assert (caught.value.argument, left) == ("snapshots", [])


def test_the_users_hooks_fire_the_same_with_tracking_and_after_it():
    objects = setting()
    calls = users_hooks(*objects)
    once = ["forward", "loss", "before", "after"]
    with follow(*objects):
        train(*objects, range(2))
        assert calls == once * 2
    train(*objects, range(2, 3))
    assert calls == once * 3


def test_detach_twice_closes_a_sink_once():
    closed = []

    class Sink:
        def write(self, record):
            pass

        def close(self, summary, history):
            closed.append(summary["steps"])

    objects = setting()
    with follow(*objects, sinks=[Sink()]) as tracker:
        train(*objects, range(3))
        tracker.detach()
        tracker.detach()
    assert closed == [3] and hooks(*objects) == []


@pytest.mark.parametrize("users", [False, True], ids=["alone", "beside a user's hook"])
def test_a_callback_may_detach(users):
    """Ending the tracking at an event must not end the training."""
    objects = setting()
    net, optimizer, loss = objects
    tracker = follow(net, optimizer, loss, on_alert=lambda t, _: t.detach())
    calls = users_hooks(*objects) if users else []
    with torch.no_grad():
        net.second.weight.fill_(math.nan)  # DIVERGED at the first step
    train(*objects, range(3))
    assert tracker.history.steps.tolist() == [0]
    assert calls.count("before") == (3 if users else 0)


def test_a_tracker_may_be_detached_in_the_middle_of_accumulation():
    objects = setting()
    net, optimizer, loss = objects
    tracker = follow(*objects)
    loss(net(sample(0)[0]), sample(0)[1]).backward()
    tracker.detach()
    loss(net(sample(0)[0]), sample(0)[1]).backward()
    optimizer.step()
    assert hooks(*objects) == [] and len(tracker.history.steps) == 0


# --- training is left alone ------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.5}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
}


@pytest.mark.parametrize("failing", [False, True], ids=["all probes", "a failing probe"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_state_and_random_numbers_are_the_same_to_the_bit(name, failing):
    kind, options = OPTIMIZERS[name]

    def run(probed):
        torch.manual_seed(11)
        net = nn.Sequential(
            nn.Linear(D, P), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(P, 1)
        )
        optimizer, loss, probes = kind(net.parameters(), **options), LogisticLoss(), None
        if probed:
            probes = [*default_probes(gradients=True), *([lambda _: 1 / 0] if failing else [])]
        watching = follow(net, optimizer, loss, probes=probes) if probed else None
        quiet = pytest.warns(TrackingWarning) if probed else contextlib.nullcontext()
        with quiet, watching or contextlib.nullcontext():
            train(net, optimizer, loss, range(6))
        kept = [v for state in optimizer.state.values() for v in state.values()]
        kept = [value for value in kept if isinstance(value, torch.Tensor)]
        gradients = [parameter.grad for parameter in net.parameters()]
        return [*net.parameters(), *gradients, *kept, torch.random.get_rng_state()]

    bare, probed = run(False), run(True)
    assert len(bare) == len(probed)
    assert all(torch.equal(one, other) for one, other in zip(bare, probed, strict=True))


# --- what a state is -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_readings_are_those_of_the_weights_before_the_update(dtype):
    objects = setting(dtype)
    net = objects[0]
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    with follow(*objects) as tracker:
        for step in range(4):
            W = net.first.weight.detach().double().clone()
            a = net.second.weight.detach().double().clone()[0]
            train(*objects, range(step, step + 1))
            assert not torch.equal(W, net.first.weight.double())
            x, y = (t.numpy() for t in sample(step, dtype=torch.float64))
            f = np.array([naive.output(W.numpy(), a.numpy(), row) for row in x])
            read = {name: tracker.history[name][-1] for name in tracker.history}
            close = {"rel": tolerance, "abs": tolerance * 1e-2}
            assert read["loss/train"] == pytest.approx(naive.loss(f, y).mean(), **close)
            zeta = heaviness.certificate(W, a, TASK.geometry).item()
            assert read["heaviness/zeta_star"] == pytest.approx(zeta, rel=tolerance)
            clean = naive.margins(W.numpy(), a.numpy(), D)
            assert read["margin/max"] == pytest.approx(max(clean), **close)
    assert tracker.history.steps.tolist() == [0, 1, 2, 3]


def test_zeta_star_of_a_small_network_is_that_of_its_definition():
    """Every set of neurons, tried one after the other."""
    net = TwoLayerNet(5, 8).double()
    W, a = naive.network(8, 5, seed=10, signal=3.0)
    with torch.no_grad():
        net.first.weight.copy_(torch.from_numpy(W))
        net.second.weight.copy_(torch.from_numpy(a)[None])
    optimizer, loss, task = torch.optim.SGD(net.parameters(), lr=0.1), LogisticLoss(), XOR(5)
    with attach(net, optimizer, loss=loss, geometry=task.geometry) as tracker:
        x, y = task.sample(32, seed=0, step=0, dtype=torch.float64)
        loss(net(x), y).backward()
        optimizer.step()
    expected = naive.certificate(W, a)
    assert math.isfinite(expected)
    assert tracker.history["heaviness/zeta_star"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "sizes", [[32, 32], [1] * 8, [40, 20, 4]], ids=["halves", "ones", "uneven"]
)
def test_micro_batches_read_as_the_whole_batch(sizes):
    total = sum(sizes)

    def history(pieces):
        net, optimizer, loss = setting(torch.float64)
        with follow(net, optimizer, loss, probes=default_probes(gradients=True)) as tracker:
            for step in range(3):
                optimizer.zero_grad()
                start = 0
                for size in pieces:
                    x, y = sample(step, size, start, torch.float64)
                    (loss(net(x), y) * size / total).backward()
                    start += size
                optimizer.step()
        return tracker.history

    whole, parts = history([total]), history(sizes)
    assert parts.steps.tolist() == [0, 1, 2] and list(parts) == list(whole)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_is_the_value_that_the_loop_computes(reduction):
    net, optimizer, _ = setting(torch.float64)
    loss = LogisticLoss(reduction)
    with follow(net, optimizer, loss) as tracker:
        x, y = sample(0, dtype=torch.float64)
        value = loss(net(x), y)
        value.sum().backward()
        optimizer.step()
    assert tracker.history["loss/train"][0] == pytest.approx(value.detach().sum().item())


# --- what is no training ---------------------------------------------------------------------


def no_grad(net, loss, x, y):
    with torch.no_grad():
        loss(net(x), y)


def inference(net, loss, x, y):
    with torch.inference_mode():
        loss(net(x), y)


def forward_only(net, loss, x, y):
    """With gradients on, as people do who read the accuracy of the batch."""
    (net(x) * y > 0).sum()


def nothing(net, loss, x, y):
    pass


@pytest.mark.parametrize("when", ["before", "between", "after"])
@pytest.mark.parametrize("look", [no_grad, inference, forward_only], ids=lambda f: f.__name__)
def test_evaluation_changes_no_reading(look, when):
    """Other data of the same size is looked at around the step's forward pass or amidst it."""

    def history(evaluate):
        net, optimizer, loss = setting(torch.float64)
        with follow(net, optimizer, loss) as tracker:
            for step in range(3):
                x, y = sample(step, dtype=torch.float64)
                other = sample(step, start=M, dtype=torch.float64)
                optimizer.zero_grad()
                if when == "before":
                    evaluate(net, loss, *other)
                f = net(x)
                if when == "between":
                    evaluate(net, loss, *other)
                loss(f, y).backward()
                if when == "after":
                    evaluate(net, loss, *other)
                optimizer.step()
        return tracker.history

    plain, watched = history(nothing), history(look)
    for name in plain:
        np.testing.assert_array_equal(watched[name], plain[name], err_msg=name)


def test_steps_are_counted_and_not_forward_passes():
    objects = setting()
    net, optimizer, loss = objects
    with follow(*objects, every=2) as tracker:
        for step in range(5):
            for _ in range(3):
                loss(net(sample(step)[0]), sample(step)[1]).backward()
            optimizer.step()
    assert tracker.history.steps.tolist() == [0, 2, 4] and tracker.summary()["steps"] == 5


# --- ways of calling the loss ----------------------------------------------------------------


def call_positional(loss, f, y):
    return loss(f, y)


def call_half_named(loss, f, y):
    return loss(f, targets=y)


def call_named(loss, f, y):
    return loss(outputs=f, targets=y)


@pytest.mark.parametrize(
    "call", [call_positional, call_half_named, call_named], ids=lambda f: f.__name__
)
def test_a_loss_called_with_names_is_seen(call):
    net, optimizer, loss = setting(torch.float64)
    with follow(net, optimizer, loss) as tracker:
        x, y = sample(0, dtype=torch.float64)
        value = call(loss, net(x), y)
        value.backward()
        optimizer.step()
    assert "loss" not in tracker.undefined, tracker.undefined["loss"]
    assert tracker.history["loss/train"][0] == pytest.approx(value.item())


def test_unrecognised_function_is_seen_only_through_the_tracker():
    net, optimizer, _ = setting()

    def pairs(f, y):  # no mean over samples: no slope tells its targets
        return torch.relu(1 - y * f).mean() + (f.sum() / 10) ** 2

    with follow(net, optimizer, pairs) as tracker:
        train(net, optimizer, pairs, range(2))
        assert "tracker.loss" in tracker.undefined["loss"]
        train(net, optimizer, tracker.loss, range(2, 3))
    assert np.isnan(tracker.history["loss/train"]).tolist() == [True, True, False]


def test_a_loss_is_called_once_for_each_call_of_the_users():
    """Readings evaluate it on copies: counters and hooks in the user's own do not move."""

    class Counting(LogisticLoss):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return super().forward(outputs, targets)

    net, optimizer, _ = setting()
    loss = Counting()
    with follow(net, optimizer, loss, probes=default_probes(gradients=True)):
        train(net, optimizer, loss, range(4))
    assert loss.calls == 4


def test_in_place_changes_after_the_loss_do_not_reach_the_readings():
    net, optimizer, loss = setting(torch.float64)
    with follow(net, optimizer, loss) as tracker:
        x, y = sample(0, dtype=torch.float64)
        f = net(x)
        value = loss(f, y)
        value.backward()
        with torch.no_grad():
            f.mul_(100)
        optimizer.step()
    assert tracker.history["loss/train"][0] == pytest.approx(value.item())


@pytest.mark.parametrize(
    "outputs, inputs, sound",
    [
        ([1.0, 2.0], [1.0, math.nan], None),  # finite outputs leave no doubt
        ([math.nan, 2.0], [1.0, -2.0], True),
        ([math.inf, 2.0], [1.0, -2.0], True),
        ([math.nan, 2.0], [1.0, math.nan], False),
        ([-math.inf, 2.0], [1.0, -math.inf], False),
        ([3e38, 3e38], [math.nan, 1.0], True),  # finite, and their sum is not
        ([math.nan, 2.0], [1, 2], True),
        ([math.nan, 2.0], [], True),
    ],
)
def test_inputs_are_doubted_where_outputs_are_not_finite(outputs, inputs, sound):
    found = finite(torch.tensor(outputs), torch.tensor(inputs))
    assert (found if found is None else found.item()) is sound
