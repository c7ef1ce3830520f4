"""Snapshots measured in blocks: the very same records, no later than someone waits for them."""

import itertools
import json
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from helpers.torch_settings import threads
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach
from phasetrack.tasks import XOR
from phasetrack.tracking import snapshot_maker, snapshot_queue
from phasetrack.tracking.probes.default import Probe, default_probes
from phasetrack.tracking.tracker import TrackingWarning

D, P = 10, 33
TASK = XOR(D)


def plain():
    net = TwoLayerNet(D, P, seed=2)
    return net, torch.optim.SGD(net.parameters(), lr=0.5 * P), LogisticLoss(), "signs"


def biased():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(D, P), nn.GELU(), nn.Linear(P, 1))
    return net, torch.optim.Adam(net.parameters(), lr=0.02), nn.BCEWithLogitsLoss(), "bits"


def logits():
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 2))
    return net, torch.optim.SGD(net.parameters(), lr=0.5), nn.CrossEntropyLoss(), "classes"


MODELS = {"plain": plain, "biased": biased, "logits": logits}


def train(objects, steps, sizes=(50, 50, 50, 37)):
    net, optimizer, loss, kind = objects
    for step in range(*steps) if isinstance(steps, tuple) else range(steps):
        x, y = TASK.sample(sizes[step % len(sizes)], seed=4, step=step)
        y = {"signs": y, "bits": (y > 0).float(), "classes": (y > 0).long()}[kind]
        optimizer.zero_grad()
        loss(net(x).squeeze(-1), y).backward()
        optimizer.step()


def follow(objects, **options):
    net, optimizer, loss, _ = objects
    return attach(net, optimizer, loss=loss, geometry=TASK.geometry, **options)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Blocks end where they are full, not with the clock."""
    monkeypatch.setattr(snapshot_queue, "LATEST", 1e9)


class Counting:
    """A sink that notes at which step it was given each record."""

    def __init__(self):
        self.step, self.given = -1, []

    def write(self, record):
        self.given.append((self.step, record.step))

    def close(self, summary, history):
        pass


def run(make, folder, block, steps=60):
    objects = make()
    with follow(objects, logdir=folder, block=block) as tracker:
        train(objects, steps)
    state = {name: weight.clone() for name, weight in objects[0].state_dict().items()}
    return tracker, state


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_any_block_gives_the_same_files_and_labels(make, tmp_path):
    one, weights = run(make, tmp_path / "1", 1)
    lines = (tmp_path / "1/history.jsonl").read_bytes()
    assert len(lines.splitlines()) == 60 and one.boundaries
    for block in (3, 8, 32):
        other, same = run(make, tmp_path / str(block), block)
        assert (tmp_path / f"{block}/history.jsonl").read_bytes() == lines
        assert json.dumps(other.summary()) == json.dumps(one.summary())
        assert other.transitions == one.transitions and list(other.undefined.items()) == list(
            one.undefined.items()
        )
        assert all(torch.equal(same[name], weights[name]) for name in weights)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_large_batches_are_read_to_the_bit_on_several_threads(make):
    """Tables of many snapshots are divided among threads, in places that depend on their number."""
    histories = []
    for block in (1, 19, 64):
        objects = make()
        with threads(3), follow(objects, block=block) as tracker:
            train(objects, 40, sizes=(4099,))
        histories.append(tracker.history)
    for other, name in itertools.product(histories[1:], histories[0]):
        np.testing.assert_array_equal(other[name], histories[0][name], name)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_weights_read_in_their_block_are_those_of_their_step(make, tmp_path, monkeypatch):
    run(make, tmp_path / "copied", 8)
    monkeypatch.setattr(snapshot_maker, "COPIED", 0)  # as large weights are read: at once
    run(make, tmp_path / "read", 8)
    copied, read = (tmp_path / name / "history.jsonl" for name in ("copied", "read"))
    assert copied.read_bytes() == read.read_bytes()


def test_records_lag_by_less_than_a_block_and_none_is_lost():
    sink, objects = Counting(), plain()
    with follow(objects, sinks=[sink], block=8):
        for step in range(30):
            sink.step = step
            train(objects, (step, step + 1), sizes=(64,))
    assert [record for _, record in sink.given] == list(range(30))
    lags = [now - record for now, record in sink.given]
    assert max(lags) == 7 and sink.given[0] == (0, 0)


def test_a_slow_loop_is_measured_at_each_step(monkeypatch):
    monkeypatch.setattr(snapshot_queue, "LATEST", 0.0)
    sink, objects = Counting(), plain()
    with follow(objects, sinks=[sink], block=8):
        for step in range(5):
            sink.step = step
            train(objects, (step, step + 1))
    assert sink.given == [(step, step) for step in range(5)]


@pytest.mark.parametrize(
    "name", ["history", "phase", "reason", "boundaries", "transitions", "alerts", "undefined"]
)
def test_reading_the_tracker_measures_and_writes_nothing(name, tmp_path):
    sink, objects = Counting(), plain()
    with follow(objects, sinks=[sink], logdir=tmp_path, block=32) as tracker:
        train(objects, 5)
        assert len(sink.given) == 1  # the first alone: nothing comes before it
        before = (tmp_path / "history.jsonl").read_bytes()
        getattr(tracker, name)
        assert len(tracker._recorder.queue) == 0  # measured
        assert tracker.history.steps.tolist() == list(range(5))
        assert len(sink.given) == 1 and (tmp_path / "history.jsonl").read_bytes() == before
        tracker.sync()
        assert [record for _, record in sink.given] == list(range(5))


@pytest.mark.parametrize(
    "options",
    [
        {"on_transition": lambda *_: None},
        {"on_alert": lambda *_: None},
        {"strict": True},
        {"probes": [*default_probes(), lambda snapshot: {"mine": snapshot.view.W.norm()}]},
    ],
    ids=["on_transition", "on_alert", "strict", "a probe of one's own"],
)
def test_where_someone_waits_each_step_is_measured_at_once(options):
    sink, objects = Counting(), plain()
    with follow(objects, sinks=[sink], block=32, **options):
        for step in range(5):
            sink.step = step
            train(objects, (step, step + 1))
    assert sink.given == [(step, step) for step in range(5)]


def test_large_networks_are_not_gathered():
    sink = Counting()
    net = TwoLayerNet(D, 8192, seed=2)
    objects = net, torch.optim.SGD(net.parameters(), lr=1.0), LogisticLoss(), "signs"
    with follow(objects, sinks=[sink], block=32):
        for step in range(4):
            sink.step = step
            train(objects, (step, step + 1))
        # 8192 neurons by 4 clusters: sums over one table are divided among threads
    assert [now - record for now, record in sink.given] == [0] * 4


class AtFault(Probe):
    """A probe of stacks that cannot read one step."""

    name = "at fault"

    def measure(self, snapshot):
        if 5 in snapshot.steps:
            raise ValueError("step 5")
        return {"mine/step": torch.tensor([float(step) for step in snapshot.steps])}


@pytest.mark.parametrize("block", [1, 3, 8])
def test_a_probe_that_fails_costs_its_own_readings_of_that_step(block):
    objects = plain()
    with pytest.warns(TrackingWarning, match="at fault failed.*step 5") as caught:  # noqa: SIM117
        with follow(objects, probes=[AtFault(), *default_probes()], block=block) as tracker:
            train(objects, 12)
    assert len(caught) == 1
    own = tracker.history["mine/step"]
    assert np.isnan(own).nonzero()[0].tolist() == [5]
    assert np.delete(own, 5).tolist() == [step for step in range(12) if step != 5]
    assert "step 5" in tracker.undefined["mine/step"] and "step 5" in tracker.undefined["at fault"]
    assert tracker.history.steps.tolist() == list(range(12))
    assert np.isfinite(tracker.history["loss/train"]).all()


@pytest.mark.parametrize("block", [1, 5, 32])
def test_a_probe_that_fails_in_a_row_is_switched_off_at_the_same_step(block):
    class Late(Probe):
        name = "late"

        def __init__(self):
            self.calls = []

        def measure(self, snapshot):
            self.calls.append(snapshot.steps[-1])
            if any(step in (2, 3, 5) or step >= 9 for step in snapshot.steps):
                raise ValueError("late")
            return {"late/step": torch.tensor([float(step) for step in snapshot.steps])}

    probe, objects = Late(), plain()
    with pytest.warns(TrackingWarning) as caught:  # noqa: SIM117
        with follow(objects, probes=[*default_probes(), probe], block=block) as tracker:
            train(objects, 40)
    assert [str(w.message).split(";")[0] for w in caught] == [
        "phasetrack: late failed",
        "phasetrack: late failed and is switched off",
    ]
    read = np.isfinite(tracker.history["late/step"]).nonzero()[0].tolist()
    assert read == [0, 1, 4, 6, 7, 8]
    assert tracker.undefined["late"].startswith("switched off") and max(probe.calls) <= 11 + block
    assert np.isfinite(tracker.history["loss/train"]).all()


def test_an_interruption_loses_no_step_that_was_taken():
    class Stop(Counting):
        def write(self, record):
            super().write(record)
            if record.step == 4 and len(self.given) == 5:
                raise KeyboardInterrupt

    sink, objects = Stop(), plain()
    with pytest.raises(KeyboardInterrupt), follow(objects, sinks=[sink], block=8) as tracker:
        train(objects, 20)
    assert [record for _, record in sink.given] == tracker.history.steps.tolist() == list(range(9))
    whole = plain()
    with follow(whole, block=1) as reference:
        train(whole, 9)
    for name in reference.history:
        same = tracker.history[name] == reference.history[name]
        assert (same | (reference.history[name] != reference.history[name])).all(), name


SCRIPT = """
    import sys, torch
    from phasetrack import LogisticLoss, TwoLayerNet, attach
    from phasetrack.tracking import snapshot_queue
    from phasetrack.tasks import XOR
    snapshot_queue.LATEST = 1e9
    def train():
        net, loss = TwoLayerNet(8, 4), LogisticLoss()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        held = attach(net, optimizer, loss=loss, geometry=XOR(8).geometry, logdir=sys.argv[1])
        for step in range(5):
            x, y = XOR(8).sample(16, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        return held
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        "held = train()",
        "held = train(); 1 / 0",
        pytest.param("train()", marks=pytest.mark.long),
        pytest.param("train(); import gc; gc.collect()", marks=pytest.mark.long),
    ],
)
def test_the_end_of_a_process_loses_nothing(end, tmp_path):
    script = textwrap.dedent(SCRIPT) + end
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(5))


def test_a_wrong_block_is_refused():
    with pytest.raises(ExpectedError, match="block: 0 is not an integer >= 1"):
        follow(plain(), block=0)


def test_a_state_holds_what_was_pending():
    objects = plain()
    with follow(objects, block=32) as tracker, warnings.catch_warnings():
        train(objects, 6)
        state = tracker.state_dict()
    assert state["records"] == 6
