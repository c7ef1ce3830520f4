"""attach() under the ways in which people train."""

import contextlib
import copy
import gc
import math
import warnings
import weakref

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from phasetrack import ClusterGeometry, LogisticLoss, TrackingWarning, TwoLayerNet, attach
from phasetrack.phases.history import History
from phasetrack.tasks import XOR
from phasetrack.tracking.schedules import as_schedule

D = 8
TASK = XOR(D)
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
)


def hooks(*objects):
    found = [m for o in objects for m in (o.modules() if isinstance(o, nn.Module) else [o])]
    return sum(len(getattr(o, name, ())) for o in found for name in HOOKS)


def net(seed=0, p=16):
    return TwoLayerNet(D, p, seed=seed)


def step(model, optimizer, loss, number, count=32, wrap=None):
    x, y = TASK.sample(count, seed=0, step=number, dtype=next(model.parameters()).dtype)
    optimizer.zero_grad()
    loss(model(x).reshape(-1), y).backward()
    optimizer.step()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=1e-2),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=1e-2),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=1e-3),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=1e-2),
}
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU]


@given(
    p=st.integers(1, 20),
    biases=st.tuples(st.booleans(), st.booleans()),
    activation=st.sampled_from(ACTIVATIONS),
    heads=st.sampled_from([1, 2]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    dropout=st.booleans(),
    pieces=st.integers(1, 3),
    every=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
@pytest.mark.filterwarnings("ignore::phasetrack.tracking.tracker.TrackingWarning")
def test_any_model_trains_the_same_to_the_bit(
    p, biases, activation, heads, dtype, optimizer, dropout, pieces, every, seed
):
    def run(probed):
        torch.manual_seed(seed)
        layers = [nn.Linear(D, p, bias=biases[0]), activation()]
        layers += [nn.Dropout(0.3)] if dropout else []
        model = nn.Sequential(*layers, nn.Linear(p, heads, bias=biases[1])).to(dtype)
        steering = OPTIMIZERS[optimizer](model.parameters())
        loss = nn.BCEWithLogitsLoss() if heads == 1 else nn.CrossEntropyLoss()
        keys, tracker = list(model.state_dict()), None
        if probed:
            tracker = attach(model, steering, loss=loss, geometry=TASK.geometry, every=every)
        for number in range(4):
            steering.zero_grad()
            for piece in range(pieces):
                x, y = TASK.sample(12, seed=seed, step=number, start=12 * piece, dtype=dtype)
                target = (y > 0).to(dtype) if heads == 1 else (y > 0).long()
                outputs = model(x)
                loss(outputs.squeeze(-1) if heads == 1 else outputs, target).backward()
            steering.step()
        assert list(model.state_dict()) == keys
        if tracker:
            assert tracker.history.steps.tolist() == [s for s in range(4) if s % every == 0]
            assert not any("switched off" in reason for reason in tracker.undefined.values())
            tracker.detach()
            assert hooks(model, steering, loss) == 0
            options = {"loss": loss, "geometry": TASK.geometry}
            with contextlib.suppress(ZeroDivisionError), attach(model, steering, **options):
                raise ZeroDivisionError  # in the middle of the loop
            assert hooks(model, steering, loss) == 0
        state = [v for s in steering.state.values() for v in s.values() if torch.is_tensor(v)]
        return [*model.state_dict().values(), *state, torch.random.get_rng_state()]

    assert same(run(False), run(True))


def test_a_closure_is_read_at_the_state_before_the_step():
    def run(probed):
        model, loss = net().double(), LogisticLoss()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
        options = {"loss": loss, "geometry": TASK.geometry, "strict": True}
        tracker = attach(model, optimizer, **options) if probed else None
        expected = []
        for number in range(4):
            x, y = TASK.sample(64, seed=0, step=number, dtype=torch.float64)
            with torch.no_grad():
                f = model(x)
                expected.append((2 * torch.log1p(torch.exp(-y * f))).mean().item())

            def closure(x=x, y=y):
                optimizer.zero_grad()
                value = loss(model(x), y)
                value.backward()
                return value

            optimizer.step(closure)
        if tracker:
            tracker.detach()
            np.testing.assert_allclose(tracker.history["loss/train"], expected)
            assert hooks(model, optimizer, loss) == 0
        return list(model.parameters())

    assert same(run(False), run(True))


def test_a_closure_that_evaluates_the_last_micro_batch():
    """As Lightning does it: all but one backward pass come before the step."""
    model, loss = (
        nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 1)).double(),
        LogisticLoss(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        x, y = TASK.sample(60, seed=0, step=0, dtype=torch.float64)
        f = model(x).detach()[:, 0]  # two means, each with weight 1
        expected = (loss(f[:20], y[:20]).item() + loss(f[20:], y[20:]).item()) / 2
        loss(model(x[:20])[:, 0], y[:20]).backward()

        def closure():
            value = loss(model(x[20:])[:, 0], y[20:])
            value.backward()
            return value

        optimizer.step(closure)
    assert tracker.history["loss/train"][0] == pytest.approx(expected)
    assert tracker.view.scale == pytest.approx(1)


def rows(snapshot):
    return {"rows": float(snapshot.batch.size)}


@pytest.mark.parametrize("every", [1, 3])
def test_a_loss_that_the_step_evaluates_itself_belongs_to_no_batch(every):
    """Some optimizers call a closure that they were given before, at weights of their own."""

    class Looking(torch.optim.Optimizer):
        def step(self):
            ahead()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.1 * parameter.grad)

    model, loss = net(), LogisticLoss()
    optimizer = Looking(model.parameters(), {"lr": 0.1})
    ahead = lambda: loss(model(TASK.geometry.centres[:3].float()), torch.ones(3))  # noqa: E731
    options = {"loss": loss, "geometry": TASK.geometry, "every": every, "probes": [rows]}
    with attach(model, optimizer, **options, strict=True) as tracker:
        for number in range(7):
            step(model, optimizer, loss, number)
    assert set(tracker.history["rows"].tolist()) == {32.0}


def test_samples_of_other_weights_than_the_closure_s_state_are_left_out():
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = TASK.sample(30, seed=0, step=0)

    def closure():
        value = loss(model(x[10:]), y[10:])
        value.backward()
        return value

    options = {"loss": loss, "geometry": TASK.geometry, "probes": [rows]}
    with attach(model, optimizer, **options, strict=True) as tracker:
        loss(model(x[:10]), y[:10]).backward()
        with torch.no_grad():
            next(model.parameters()).mul_(0.5)
        optimizer.step(closure)
    assert tracker.history["rows"].tolist() == [20.0]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of Dynamo itself
def test_compiled_optimizer_step_is_read_and_compiles_nothing_of_phasetrack(monkeypatch):
    from torch._dynamo.convert_frame import ConvertFrameAssert

    compiled_here, compile_frame = [], ConvertFrameAssert.__call__

    def noting(self, frame, *args, **kwargs):
        if "/phasetrack/tracking/" in frame.f_code.co_filename.replace("\\", "/"):
            compiled_here.append(frame.f_code.co_qualname)
        return compile_frame(self, frame, *args, **kwargs)

    monkeypatch.setattr(ConvertFrameAssert, "__call__", noting)
    histories = []
    for compiled in (False, True):
        model, loss = net(), LogisticLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        take = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        with attach(model, optimizer, loss=loss, geometry=TASK.geometry, every=2) as tracker:
            for number in range(5):
                x, y = TASK.sample(32, seed=0, step=number)
                optimizer.zero_grad()
                loss(model(x), y).backward()
                take()
        assert tracker.notes == []
        histories.append(tracker.history["loss/train"])
    torch._dynamo.reset()
    assert compiled_here == []
    np.testing.assert_allclose(*histories, rtol=1e-5)


@pytest.mark.parametrize("every", [1, 2, lambda step: step in (1, 3)], ids=["1", "2", "odd"])
@pytest.mark.parametrize("order", ["compile first", "attach first"])
def test_compiled_models(order, every):
    def run(probed):
        torch._dynamo.reset()
        model, loss = net(), LogisticLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        options = {"loss": loss, "geometry": TASK.geometry, "every": every, "strict": True}
        tracker = None
        compiled = torch.compile(model, backend="aot_eager") if order == "compile first" else model
        if probed:
            tracker = attach(compiled, optimizer, **options)
        if order == "attach first":
            compiled = torch.compile(model, backend="aot_eager")
        for number in range(5):
            step(compiled, optimizer, loss, number)
        if tracker:
            with (
                warnings.catch_warnings()
            ):  # attached first, the tracker does not see the compiled pass
                warnings.simplefilter("ignore", TrackingWarning)
                tracker.detach()
            recorded = as_schedule(every)
            assert tracker.history.steps.tolist() == [s for s in range(5) if recorded(s)]
            assert not np.isnan(tracker.history["loss/train"]).any()
        return list(model.parameters())

    assert same(run(False), run(True))


class Around(nn.Module):
    """A model that holds both layers in one module of its own."""

    def __init__(self):
        super().__init__()
        self.net = net().float()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("loss", [None, LogisticLoss()], ids=["in place", "given"])
def test_a_compiled_part_of_a_model_is_read(loss):
    def run(compiles):
        torch._dynamo.reset()
        model = Around()
        if compiles:
            model.net = torch.compile(model.net, backend="aot_eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
            for number in range(3):
                step(model, optimizer, loss or LogisticLoss(), number)
        return tracker.history

    read, plain = run(True), run(False)
    for name in ("loss/train", "margin/clean/mu1", "margin/empirical/mu1", "heaviness/zeta_star"):
        np.testing.assert_allclose(read[name], plain[name], rtol=1e-4, err_msg=name)


def test_a_model_compiled_in_place_says_the_remedy_that_works():
    torch._dynamo.reset()
    model, loss = net().float(), LogisticLoss()
    model.compile(backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.warns(TrackingWarning, match=r"torch\.compile\(model\) instead of model\.compile"):
        tracker = attach(model, optimizer, geometry=TASK.geometry)
        for number in range(3):
            step(model, optimizer, loss, number)
        tracker.detach()
    assert len(tracker.notes) == 1


def test_mixed_precision():
    """bfloat16 autocast and a loss scaler: the scale must not reach the readings."""
    model, loss = net().float(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        for number in range(4):
            x, y = TASK.sample(64, seed=0, step=number)
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss(model(x), y)
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
    assert tracker.history["loss/train"] == pytest.approx(2 * math.log(2), abs=0.05)
    assert tracker.history.steps.tolist() == [0, 1, 2, 3]
    assert tracker.history["growth/signal_rate"][1:] == pytest.approx(
        tracker.history["growth/signal_rate_predicted"][1:], abs=0.6
    )


@pytest.mark.parametrize("directions", ["few coordinates", "all coordinates"])
def test_a_step_within_autocast_is_read_as_one_outside(directions):
    """Readings keep their digits, and outputs that a cast made float32 again raise no doubts."""
    task = XOR(16)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1))).Q
    turn = torch.eye(16) if directions == "few coordinates" else turn
    geometry = ClusterGeometry(task.geometry.centres @ turn.double(), task.geometry.labels)

    def run(within: bool) -> History:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.5), LogisticLoss()
        with attach(model, optimizer, loss=loss, geometry=geometry, strict=True) as tracker:
            for number in range(3):
                x, y = task.sample(64, seed=0, step=number)
                x = x @ turn
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    outputs = model(x).squeeze(-1).float()
                loss(outputs, y).backward()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=within):
                    optimizer.step()
                    assert tracker.phase  # measures what is pending
        return tracker.history

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outside, inside = run(False), run(True)
    assert all(np.array_equal(outside[name], inside[name], equal_nan=True) for name in outside)


def test_warm_up_from_a_rate_of_zero_and_a_schedule():
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=4.0)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: min(1.0, number / 4))
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        for number in range(8):
            step(model, optimizer, loss, number)
            warm.step()
    rates = tracker.history["growth/signal_rate"]
    assert math.isnan(rates[1])  # no time passed: there is no rate
    assert np.isfinite(rates[3:]).all()


def test_frozen_now_and_unfrozen_later():
    model, loss = net(), LogisticLoss()
    model.first.weight.requires_grad_(False)
    groups = [
        {"params": [model.first.weight], "lr": 2.0},
        {"params": [model.second.weight], "lr": 4.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    sizes = []

    def look(snapshot):
        sizes.append((snapshot.sizes.first, snapshot.sizes.second))
        return {}

    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, probes=[look], strict=True):
        for number in range(4):
            if number == 2:
                model.first.weight.requires_grad_(True)
            step(model, optimizer, loss, number)
    assert sizes == [(0.0, 0.25)] * 2 + [(2 / 16, 0.25)] * 2


def test_both_layers_frozen_at_first():
    model, loss = net(), LogisticLoss()
    model.requires_grad_(False)
    attach(
        model, torch.optim.SGD(model.parameters(), lr=1.0), loss=loss, geometry=TASK.geometry
    ).detach()


def test_muon_for_the_matrices():
    model = nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 1))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    muon, loss = torch.optim.Muon(matrices, lr=0.02), LogisticLoss()
    rest = torch.optim.SGD([p for p in model.parameters() if p.ndim == 1], lr=0.1)
    with attach(model, muon, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        for number in range(3):
            x, y = TASK.sample(32, seed=0, step=number)
            model.zero_grad()
            loss(model(x)[:, 0], y).backward()
            muon.step()
            rest.step()
    assert tracker.history.steps.tolist() == [0, 1, 2]
    assert "SGD without momentum" in tracker.undefined["growth/signal_rate_predicted"]


@pytest.mark.long
def test_memory_does_not_grow_over_ten_thousand_steps():
    """Beyond the history's own 8 bytes a reading, of which there are some 80 a step."""
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    process, sizes = psutil.Process(), []
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for number in range(11_000):
            step(model, optimizer, loss, number, count=16)
            if number in (1_000, 10_999):
                gc.collect()
                sizes.append(process.memory_info().rss)
    allowed = 10_000 * 8 * len(tracker.history) * 1.2 + 5e6
    assert sizes[1] - sizes[0] < allowed


def test_two_models_at_once_do_not_mix():
    pairs = []
    for seed in (0, 1):
        model, loss = net(seed), LogisticLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        pairs.append(
            (model, optimizer, loss, attach(model, optimizer, loss=loss, geometry=TASK.geometry))
        )
    for number in range(3):
        for model, optimizer, loss, _ in pairs:
            step(model, optimizer, loss, number)
    first, second = (tracker.history for *_, tracker in pairs)
    assert first.steps.tolist() == second.steps.tolist() == [0, 1, 2]
    assert (first["margin/min"] != second["margin/min"]).all()
    for *_, tracker in pairs:
        tracker.detach()


def test_detached_and_attached_again():
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):
        with attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
            step(model, optimizer, loss, 0)
        step(model, optimizer, loss, 1)
        assert tracker.history.steps.tolist() == [0]
    assert hooks(model, optimizer, loss) == 0


def test_averaged_and_clipped():
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    average = torch.optim.swa_utils.AveragedModel(model)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        for number in range(3):
            x, y = TASK.sample(32, seed=0, step=number)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            average.update_parameters(model)
            with torch.no_grad():
                loss(average(x), y)
        twin = copy.deepcopy(average)
    assert tracker.history.steps.tolist() == [0, 1, 2] and hooks(model, average, twin) <= hooks(
        twin
    )


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "left attached"])
def test_nothing_of_the_model_is_kept_alive(detached):
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tracker = attach(model, optimizer, loss=loss, geometry=TASK.geometry)
    step(model, optimizer, loss, 0)
    if detached:
        tracker.detach()
    ghost = weakref.ref(model)
    del model, optimizer, tracker, loss
    gc.collect()
    assert ghost() is None


class Enough(Exception):  # noqa: N818, it is no error
    pass


def test_callbacks_see_each_event_and_may_end_the_training():
    model, loss = net(), LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 * 16)
    seen = []

    def stop(tracker, transition):
        if transition.vocabulary != "finds-then-tunes":  # callbacks hear of every vocabulary
            return
        seen.append(
            (
                transition.after.name,
                tracker.phase.name,
                len(tracker.history.steps) - 1 == transition.step,
            )
        )
        if transition.after.name == "FITTED":
            raise Enough

    options = {"loss": loss, "geometry": TASK.geometry, "on_transition": stop}
    with pytest.raises(Enough), attach(model, optimizer, **options) as tracker:
        for number in range(300):
            step(model, optimizer, loss, number, count=64)
    assert seen == [("SIGNAL_HEAVY", "SIGNAL_HEAVY", True), ("FITTED", "FITTED", True)]
    assert hooks(model, optimizer, loss) == 0 and tracker.phase.name == "FITTED"


def test_alert_callbacks():
    model, loss, seen = net(), LogisticLoss(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    options = {"loss": loss, "geometry": TASK.geometry}
    with attach(model, optimizer, **options, on_alert=lambda _, alert: seen.append(alert.name)):
        step(model, optimizer, loss, 0)
        with torch.no_grad():
            model.second.weight.fill_(math.nan)
        step(model, optimizer, loss, 1)
        step(model, optimizer, loss, 2)
    assert seen == ["DIVERGED"]


@pytest.mark.parametrize(
    "loss, to_target",
    [
        (nn.SoftMarginLoss(), lambda y: y),
        (nn.BCEWithLogitsLoss(), lambda y: (y + 1) / 2),
        (nn.MSELoss(), lambda y: y),
        (nn.MSELoss(reduction="sum"), lambda y: y),
        (nn.HuberLoss(), lambda y: y),
        (nn.SmoothL1Loss(), lambda y: y),
    ],
    ids=lambda v: f"{type(v).__name__}" if isinstance(v, nn.Module) else "",
)
def test_losses_of_torch(loss, to_target):
    model = net().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        x, y = TASK.sample(64, seed=0, step=0, dtype=torch.float64)
        value = loss(model(x), to_target(y))
        value.backward()
        optimizer.step()
    assert tracker.history["loss/train"][0] == pytest.approx(value.item())
    assert tracker.history["linearization/value_error"][0] < 0.2


@pytest.mark.parametrize(
    "loss", [LogisticLoss("none"), nn.MSELoss(reduction="none")], ids=["logistic", "mse"]
)
def test_losses_that_the_loop_averages(loss):
    model = net().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        x, y = TASK.sample(64, seed=0, step=0, dtype=torch.float64)
        value = loss(model(x), y).mean()
        value.backward()
        optimizer.step()
    assert tracker.history["loss/train"][0] == pytest.approx(value.item())


@pytest.mark.parametrize("kind", ["hinge", "cross entropy"])
def test_losses_that_are_functions(kind):
    def hinge(f, y):
        return torch.relu(1 - y * f).mean()

    def cross_entropy(f, y):
        return nn.functional.cross_entropy(f, y)

    two = kind == "cross entropy"
    model = nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 2 if two else 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    function = cross_entropy if two else hinge
    with attach(model, optimizer, loss=function, geometry=TASK.geometry, strict=True) as tracker:
        x, y = TASK.sample(64, seed=0, step=0, dtype=torch.float64)
        value = tracker.loss(model(x), (y > 0).long()) if two else tracker.loss(model(x)[:, 0], y)
        value.backward()
        optimizer.step()
    assert tracker.history["loss/train"][0] == pytest.approx(value.item())


def test_geometry_from_directions_and_data():
    directions = ClusterGeometry.from_directions(TASK.geometry.centres[[0, 2]], [1, -1], ["u", "v"])
    assert directions.names == ("u", "-u", "v", "-v")
    torch.testing.assert_close(directions.centres, TASK.geometry.centres)
    x, y = TASK.sample(4000, seed=0, step=0)
    data = ClusterGeometry.from_data(x, y, clusters=TASK.geometry.assign(x))
    assert data.labels.tolist() == [1, 1, -1, -1] and data.names == ("c0", "c1", "c2", "c3")
    torch.testing.assert_close(data.centres, TASK.geometry.centres, atol=0.12, rtol=0)


def test_undefined_predictions_say_why():
    model = nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = torch.optim.Adam(model.parameters())
    loss = LogisticLoss()
    with attach(model, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        for number in range(3):
            step(model, optimizer, loss, number)
    assert "SGD without momentum" in tracker.undefined["growth/signal_rate_predicted"]
    assert "earlier" in tracker.undefined["growth/signal_rate"]
