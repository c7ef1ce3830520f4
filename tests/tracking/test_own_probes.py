"""attach(): probes and sinks of one's own, what is said of what cannot be read, and summaries."""

import copy
import io
import json
import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from phasetrack import ExpectedError, LogisticLoss, Phase, TwoLayerNet, attach, every, log_spaced
from phasetrack.phases.history import Record, Undefined
from phasetrack.phases.run_labels import RunLabels
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.recorder import FAILURES_IN_A_ROW
from phasetrack.tracking.tracker import TrackingWarning

D, P, M = 10, 12, 64
TASK = XOR(D)


def setting(dtype=torch.float32):
    net = TwoLayerNet(D, P, seed=2).to(dtype)
    return net, torch.optim.SGD(net.parameters(), lr=3.0), LogisticLoss()


def train(net, optimizer, loss, steps):
    for step in steps:
        x, y = TASK.sample(M, seed=4, step=step, dtype=next(net.parameters()).dtype)
        optimizer.zero_grad()
        loss(net(x).squeeze(-1), y).backward()
        optimizer.step()


def follow(net, optimizer, loss, **options):
    return attach(net, optimizer, loss=loss, geometry=TASK.geometry, **options)


class Notes:
    """A sink that keeps what it is given."""

    def __init__(self, fail_at=None, fail_on_close=False):
        self.records, self.closed = [], []
        self.fail_at, self.fail_on_close = fail_at, fail_on_close

    def write(self, record):
        if record.step == self.fail_at:
            raise OSError("disk full")
        self.records.append(record)

    def close(self, summary, history):
        self.closed.append((summary, history))
        if self.fail_on_close:
            raise OSError("disk gone")


# --- probes ----------------------------------------------------------------------------------


def test_a_function_is_a_probe():
    def mine(snapshot):
        return {
            "mine/number": 2,
            "mine/tensor": torch.tensor(0.5, dtype=torch.float16),
            "mine/reason": Undefined("because"),
            "mine/neurons": snapshot.neurons.second_layer.abs(),
        }

    sink, objects = Notes(), setting()
    with follow(*objects, probes=[mine], sinks=[sink]) as tracker:
        train(*objects, range(3))
    assert tracker.history["mine/number"].tolist() == [2.0] * 3
    assert tracker.history["mine/tensor"].tolist() == [0.5] * 3
    assert tracker.undefined["mine/reason"] == "because"
    assert "mine/neurons" not in tracker.history
    np.testing.assert_allclose(sink.records[0].distributions["mine/neurons"], 0.1)
    own = {name for name in tracker.history if name.startswith("mine/")}
    assert own == {"mine/number", "mine/tensor", "mine/reason"}


def test_a_probe_sees_this_state_the_one_before_and_the_first():
    seen = []

    def look(snapshot):
        steps = [s and s.step for s in (snapshot, snapshot.previous, snapshot.first)]
        seen.append((*steps, snapshot.previous is None or snapshot.previous.previous is None))
        return {}

    objects = setting()
    with follow(*objects, probes=[look], every=2):
        train(*objects, range(7))
    assert seen == [
        (0, None, None, True),
        (2, 0, 0, True),
        (4, 2, 0, True),
        (6, 4, 0, True),
    ]


BAD = {
    "raises": lambda _: 1 / 0,
    "nothing": lambda _: None,
    "a matrix": lambda _: {"bad": torch.zeros(2, 2)},
    "text": lambda _: {"bad": "high"},
    "none": lambda _: {"bad": None},
    "too large": lambda _: {"bad": 10**400},
}


@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
@pytest.mark.parametrize("bad", BAD)
def test_a_probe_that_always_fails_is_switched_off_after_a_row_of_failures(bad, last):
    calls = []

    def counted(state):
        calls.append(state.step)
        return BAD[bad](state)

    probes = [*default_probes(), counted] if last else [counted, *default_probes()]
    objects = setting()
    tracker = follow(*objects, probes=probes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(*objects, range(6))
    tracker.detach()
    assert [w.category for w in caught] == [TrackingWarning] * 2
    assert calls == list(range(FAILURES_IN_A_ROW))
    assert tracker.undefined["counted"].startswith("switched off")
    assert tracker.history.steps.tolist() == list(range(6)) and "bad" not in tracker.history
    assert np.isfinite(tracker.history["loss/train"]).all()
    assert tracker.phase is Phase.SIGNAL_FINDING


def test_a_probe_that_fails_at_first_has_a_reason_under_the_names_of_its_readings():
    def later(state):
        return {"mine/inverse": 1 / state.step}

    objects = setting()
    with pytest.warns(TrackingWarning, match="later failed"), follow(*objects, probes=[later]) as t:
        train(*objects, range(3))
    np.testing.assert_array_equal(t.history["mine/inverse"], [np.nan, 1, 0.5])
    assert "division by zero" in t.undefined["mine/inverse"]


def test_a_state_that_cannot_be_recorded_costs_its_own_record(monkeypatch):
    class Falling(RunLabels):
        def update(self, step, readings):
            if step == 2:
                raise RuntimeError("in labels")
            return super().update(step, readings)

    monkeypatch.setattr("phasetrack.tracking.recorder.RunLabels", Falling)
    objects = setting()
    with pytest.warns(TrackingWarning, match="step 2 could not be recorded.*in labels") as caught:  # noqa: SIM117
        with follow(*objects, block=4) as tracker:
            train(*objects, range(9))
    assert len(caught) == 1
    assert tracker.history.steps.tolist() == [0, 1, *range(3, 9)]


# --- names of readings -----------------------------------------------------------------------


NAMES = {
    "step": "which the tracker itself gives",
    "phase/id": "which the tracker itself gives",
    "loss/train": "which the probe 'loss' gives",
    "growth/perp_rate": "which the probe 'growth' gives",
    "neurons/perp": "which the probe 'heaviness' gives",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_is_refused(name, tmp_path):
    def mine(state):
        return {name: torch.ones(P) if name == "neurons/perp" else 9.0, "mine/x": 1.0}

    sink, objects, plain = Notes(), setting(), setting()
    probes = [*default_probes(), mine]
    with pytest.warns(TrackingWarning, match=NAMES[name]) as caught:  # noqa: SIM117
        with follow(*objects, probes=probes, sinks=[sink], logdir=tmp_path / "run") as tracker:
            train(*objects, range(4))
    with follow(*plain) as reference:
        train(*plain, range(4))
    assert len(caught) == 1 and "'mine'" in str(caught[0].message)
    assert "'mine'" in tracker.undefined[name] and NAMES[name] in tracker.undefined[name]
    assert tracker.history["mine/x"].tolist() == [1.0] * 4
    for metric in reference.history:
        np.testing.assert_array_equal(tracker.history[metric], reference.history[metric])
    assert (
        "step" not in tracker.history and (sink.records[3].distributions["neurons/perp"] < 1).any()
    )
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]


def test_of_two_probes_with_one_name_the_first_is_kept():
    objects = setting()
    probes = [lambda _: {"mine/x": 1.0, "mine/y": 1.0}, lambda _: {"mine/x": 2.0, "mine/z": 2.0}]
    with (
        pytest.warns(TrackingWarning, match="'mine/x'"),
        follow(*objects, probes=probes) as tracker,
    ):
        train(*objects, range(2))
    for _, row in tracker.history.rows():
        assert {n: v for n, v in row.items() if n.startswith("mine/")} == {
            "mine/x": 1.0,
            "mine/y": 1.0,
            "mine/z": 2.0,
        }


# --- types of values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, read",
    [
        (np.float16(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.longdouble(1.5), 1.5),
        (np.int8(-2), -2.0),
        (np.uint64(2), 2.0),
        (np.bool_(True), 1.0),
        (True, 1.0),
        (np.array(1.5), 1.5),
        (np.array(3, dtype=np.int16), 3.0),
        (Fraction(3, 2), 1.5),
        (Decimal("1.5"), 1.5),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor(1.5, dtype=torch.float16), 1.5),
        (torch.tensor(2, dtype=torch.uint8), 2.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.nn.Parameter(torch.tensor(1.5)), 1.5),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}".rstrip(),
)
def test_a_number_of_any_type_is_a_reading(value, read):
    class OfAStack(Probe):
        name = "of a stack"

        def measure(self, snapshot):
            return {"stack/x": value}

    objects = setting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with follow(*objects, probes=[lambda _: {"mine/x": value}, OfAStack()]) as tracker:
            train(*objects, range(2))
    assert tracker.history["mine/x"].tolist() == tracker.history["stack/x"].tolist() == [read] * 2


@pytest.mark.parametrize(
    "turn",
    [
        lambda v: v.bfloat16(),
        lambda v: v.half(),
        lambda v: v.float().requires_grad_(),
        lambda v: v > 0,
        lambda v: v.numpy(),
        lambda v: v.numpy().astype(np.float32),
        lambda v: v.numpy().astype(np.int32),
    ],
    ids=["bfloat16", "half", "gradient", "bool", "numpy", "numpy float32", "numpy int32"],
)
def test_a_value_for_each_neuron_is_read_from_any_type(turn):
    values = torch.linspace(-3, 3, P, dtype=torch.float64)
    sink, objects = Notes(), setting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with follow(*objects, probes=[lambda _: {"mine/x": turn(values)}], sinks=[sink]):
            train(*objects, range(2))
    found = sink.records[1].distributions["mine/x"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, torch.as_tensor(turn(values)).detach().double().numpy())


@pytest.mark.parametrize(
    "value", ["1.5", b"1", 1j, np.complex64(1), torch.tensor(1j), np.array(["a"]), np.ones((2, 2))]
)
def test_a_value_without_real_numbers_is_refused(value):
    objects = setting()
    with (
        pytest.raises(ExpectedError, match=r"mine/x: .*is not a reading"),
        follow(*objects, probes=[lambda _: {"mine/x": value}], strict=True),
    ):
        train(*objects, range(1))


@pytest.mark.parametrize("bad", BAD)
def test_strict_lets_a_probe_fail(bad):
    objects = setting()
    with pytest.raises((ZeroDivisionError, TypeError, ValueError, RuntimeError, OverflowError)):  # noqa: SIM117
        with follow(*objects, probes=[BAD[bad]], strict=True):
            train(*objects, range(1))


def test_readings_of_infinity_are_kept():
    objects = setting()
    with follow(*objects, probes=[lambda _: {"up": math.inf, "down": -math.inf}]) as tracker:
        train(*objects, range(1))
    assert tracker.history["up"][0] == math.inf and tracker.history["down"][0] == -math.inf
    assert tracker.undefined.keys().isdisjoint({"up", "down"})


# --- sinks -----------------------------------------------------------------------------------


def test_a_sink_is_given_every_record_and_is_closed_once_with_the_summary():
    sink, objects = Notes(), setting()
    with follow(*objects, sinks=[sink]) as tracker:
        train(*objects, range(3))
    assert [record.step for record in sink.records] == [0, 1, 2]
    assert all(isinstance(record, Record) for record in sink.records)
    rows = [dict(record.readings) for record in sink.records]
    for (_, row), given in zip(tracker.history.rows(), rows, strict=True):
        assert {k: v for k, v in row.items() if v == v} == {
            k: v for k, v in given.items() if v == v
        }
    ((summary, history),) = sink.closed
    assert history is tracker.history and summary == tracker.summary() | summary


def test_a_sink_that_fails_leaves_the_others_at_work():
    broken, good, objects = Notes(fail_at=1), Notes(), setting()
    tracker = follow(*objects, sinks=[broken, good])
    with pytest.warns(TrackingWarning, match="Notes failed.*disk full") as caught:
        train(*objects, range(4))
        tracker.detach()
    assert len(caught) == 1 and "disk full" in tracker.undefined["Notes"]
    assert [len(sink.records) for sink in (broken, good)] == [1, 4]
    assert [len(sink.closed) for sink in (broken, good)] == [0, 1]


def test_a_sink_that_cannot_be_closed_leaves_the_others_closed():
    broken, good, objects = Notes(fail_on_close=True), Notes(), setting()
    tracker = follow(*objects, sinks=[broken, good])
    train(*objects, range(1))
    with pytest.warns(TrackingWarning, match="closing Notes failed.*disk gone"):
        tracker.detach()
    assert len(good.closed) == 1


@pytest.mark.parametrize(
    "sink", [Notes(fail_at=0), Notes(fail_on_close=True)], ids=["write", "close"]
)
def test_strict_lets_a_sink_fail(sink):
    objects = setting()
    with pytest.raises(OSError, match="disk"), follow(*objects, sinks=[sink], strict=True):
        train(*objects, range(1))


# --- what cannot be read ---------------------------------------------------------------------


def test_every_nan_of_a_run_has_a_reason():
    objects = setting()
    with follow(*objects) as tracker:
        train(*objects, range(3))
    missing = {name for name in tracker.history if np.isnan(tracker.history[name]).any()}
    assert missing and all(tracker.undefined[name] for name in missing)
    growth = [name for name in tracker.history if name.startswith("growth/") and "_rate" in name]
    first = [name for name in growth if "_heavy" not in name]
    assert len(first) >= 12
    for name in first:
        values = tracker.history[name]
        assert math.isnan(values[0]) and np.isfinite(values[1:]).all(), name
        assert tracker.undefined[name] == "growth needs an earlier recorded step"


def test_momentum_has_rates_but_no_prediction():
    net, _, loss = setting()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with follow(net, optimizer, loss) as tracker:
        train(net, optimizer, loss, range(3))
    assert np.isfinite(tracker.history["growth/signal_rate"][1:]).all()
    assert np.isnan(tracker.history["growth/signal_rate_predicted"]).all()
    assert "without momentum" in tracker.undefined["growth/signal_rate_predicted"]


def test_momentum_that_begins_and_ends_in_the_midst():
    """The law holds for intervals that begin without it; every record has the same metrics in order, but for sparse ones."""
    net, optimizer, loss = setting()
    notes = Notes()
    with follow(net, optimizer, loss, sinks=[notes]) as tracker:
        for momentum, steps in ((0.0, range(4)), (0.9, range(4, 8)), (0.0, range(8, 12))):
            optimizer.param_groups[0]["momentum"] = momentum
            train(net, optimizer, loss, steps)
    predicted = np.isfinite(tracker.history["growth/signal_rate_predicted"])
    assert predicted.nonzero()[0].tolist() == [1, 2, 3, 4, 9, 10, 11]
    dense = [[n for n in r.readings if not n.startswith("kernel/")] for r in notes.records]
    assert len({tuple(names) for names in dense}) == 1


# --- schedules, copies, summaries ------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule, steps",
    [
        (1, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, [0, 3, 6]),
        (every(5), [0, 5]),
        (log_spaced(2), [0, 1, 4]),
        (lambda step: step in (2, 7), [2, 7]),
        (lambda _: False, []),
    ],
    ids=["1", "3", "every(5)", "log_spaced(2)", "some", "none"],
)
def test_only_scheduled_steps_are_recorded(schedule, steps):
    everything, some = setting(torch.float64), setting(torch.float64)
    with follow(*everything) as all_of_them, follow(*some, every=schedule) as tracker:
        train(*everything, range(8))
        train(*some, range(8))
    assert tracker.history.steps.tolist() == steps and tracker.summary()["steps"] == 8
    for name in ("loss/train", "heaviness/zeta_star", "margin/min"):
        if steps:
            np.testing.assert_array_equal(tracker.history[name], all_of_them.history[name][steps])


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None], ids=repr)
def test_what_is_no_schedule_is_refused(value):
    net, optimizer, loss = setting()
    with pytest.raises(ExpectedError, match=f"every: {value!r} is not an integer >= 1"):
        follow(net, optimizer, loss, every=value)
    follow(net, optimizer, loss).detach()


def test_a_saved_and_loaded_optimizer_goes_on_untracked():
    net, optimizer, loss = setting()
    with follow(net, optimizer, loss) as tracker:
        train(net, optimizer, loss, range(2))
        file = io.BytesIO()
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        twin = copy.deepcopy(optimizer)
    assert not [key for key in saved["net"] if "hook" in key]
    twin.step()
    other, other_optimizer, other_loss = setting()
    other.load_state_dict(saved["net"])
    other_optimizer.load_state_dict(saved["optimizer"])
    train(other, other_optimizer, other_loss, range(2, 4))
    train(net, optimizer, loss, range(2, 4))
    assert tracker.history.steps.tolist() == [0, 1]
    assert torch.equal(net.first.weight, other.first.weight)


def test_summary():
    objects = setting(torch.float64)
    with follow(*objects) as tracker:
        assert tracker.summary()["final"] == {} and tracker.reason == "no step was recorded yet"
        train(*objects, range(60))
        summary = tracker.summary()
    assert list(summary) == [
        "phase",
        "reason",
        "steps",
        "boundaries",
        "alerts",
        "timeline",
        "loss_halving_step",
        "loss_at",
        "growth",
        "final",
        "forecast",
        "undefined",
        "notes",
        "vocabularies",
        "thresholds",
        "units",
    ]
    assert summary["steps"] == 60 and summary["phase"] == tracker.phase.name
    assert summary["final"].keys() == set(tracker.history)
    assert summary["final"]["loss/train"] == tracker.history["loss/train"][-1]
    assert [set(boundary) for boundary in summary["boundaries"]] == [
        {"name", "onset", "detected", "low", "high", "left"} for _ in tracker.boundaries
    ]
    assert summary["timeline"][0]["start"] == 0 and summary["timeline"][-1]["end"] == 59
    assert summary["forecast"] == {} and summary["thresholds"]["zeta_enter"] == 0.8
