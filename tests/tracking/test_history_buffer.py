"""Records that a file holds need no memory, and come back whole."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import phasetrack
from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach
from phasetrack.phases.history import History
from phasetrack.tasks import XOR
from phasetrack.tracking import history_buffer as recording
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.tracker import TrackingWarning

TASK = XOR(8)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(recording, "HELD", 4)


class Paper:
    """A source that keeps what it is given."""

    def __init__(self):
        self.history = History()

    def records(self, *, names=None):
        return History(self.history.rows(names=names))


def assert_same(one, other):
    assert one.steps.tolist() == other.steps.tolist() and list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), NUMBERS), max_size=30)


def recorded(rows, kept, plain, paper):
    """Record rows in all three, and yield each step once its records may leave the memory."""
    for step, row in enumerate(rows):
        for history in (kept, plain, paper.history):
            history.append(step, row)
        kept.mark_written()
        yield step


@given(ROWS, st.lists(st.integers(0, 29)))
def test_the_whole_is_what_was_recorded(rows, asked):
    paper, plain = Paper(), History()
    kept = HistoryBuffer(source=paper)
    for step in recorded(rows, kept, plain, paper):
        if step in asked:
            assert_same(kept.load_all(), plain)
    assert kept.count == len(rows) and kept.last_step == len(rows) - 1
    assert_same(kept.load_all(), plain)


@given(ROWS)
def test_some_metrics_and_the_last_readings_need_no_memory(rows):
    paper, plain = Paper(), History()
    kept = HistoryBuffer(source=paper)
    for _ in recorded(rows, kept, plain, paper):
        pass
    held, final = kept._history.count, {name: plain[name][-1] for name in plain}
    np.testing.assert_equal(kept.final, final)
    some = kept.read({"a"})
    assert kept._history.count == held < 4
    assert some.count == len(rows) and ("a" in some) == ("a" in plain)
    if "a" in plain:
        np.testing.assert_array_equal(some["a"], plain["a"])


def test_what_is_written_leaves_the_memory_until_it_is_asked_for():
    paper = Paper()
    kept = HistoryBuffer(source=paper)
    for step in range(10):
        kept.append(step, {"a": step})
        paper.history.append(step, {"a": step})
        kept.mark_written()
    assert kept._history.count == 2
    whole = kept.load_all()
    assert whole.count == 10
    kept.append(10, {"a": 10})
    kept.mark_written()
    assert kept.load_all() is whole and whole.count == 11


def test_a_history_that_somebody_holds_grows_with_each_record():
    kept = HistoryBuffer()
    kept.append(0, {"a": 0.5})
    held = kept.load_all()
    kept.append(1, {"a": 1.5})
    assert held["a"].tolist() == [0.5, 1.5]


def test_without_a_source_all_is_held():
    kept = HistoryBuffer()
    for step in range(10):
        kept.append(step, {"a": math.pi})
        kept.mark_written()
    assert kept.load_all()["a"].tolist() == [math.pi] * 10


def loop(logdir, **options):
    net, loss = TwoLayerNet(8, 6, seed=1), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, logdir=logdir, **options)

    def run(start, stop):
        for step in range(start, stop):
            x, y = TASK.sample(32, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()

    return tracker, run


def expected(steps):
    tracker, run = loop(None)
    with tracker:
        run(0, steps)
    return tracker.history


def held(tracker):
    tracker.sync()
    return tracker._recorder.history._history.count


def test_a_run_with_files_leaves_its_records_to_them(tmp_path):
    tracker, run = loop(tmp_path)
    with tracker:
        run(0, 23)
        assert held(tracker) < 4 and tracker.state_dict()["records"] == 23
        assert_same(tracker.history, expected(23))
        run(23, 40)
        assert tracker.history.count == 40
    assert_same(tracker.history, expected(40))


def test_a_summary_says_the_same(tmp_path):
    tracker, run = loop(tmp_path)
    with tracker:
        run(0, 23)
    other, run = loop(None)
    with other:
        run(0, 23)
    assert str(tracker.summary()) == str(other.summary())
    written, whole = phasetrack.read_run(tmp_path).summary, other.summary()
    for key in ("final", "loss_at", "loss_halving_step", "growth", "timeline", "boundaries"):
        np.testing.assert_equal(written[key], whole[key])


class Reader:
    """A sink of a user's own that looks at every record at the end."""

    def write(self, record):
        """Nothing."""

    def close(self, summary, history):
        self.seen = history["loss/train"].tolist()


def test_detach_leaves_the_records_to_the_file_and_they_are_read_from_there(tmp_path):
    tracker, run = loop(tmp_path)
    run(0, 23)
    tracker.detach()
    assert tracker._recorder.history._history.count < 4
    assert_same(tracker.history, expected(23))
    reader = Reader()
    tracker, run = loop(tmp_path / "other", sinks=[reader])
    with tracker:
        run(0, 23)
    assert reader.seen == tracker.history["loss/train"].tolist()


@pytest.mark.parametrize("change", ["deleted", "changed", "replaced"])
def test_a_file_that_is_changed_after_detach_costs_its_records_and_says_so(change, tmp_path):
    tracker, run = loop(tmp_path)
    with tracker:
        run(0, 23)
    file, summary = tmp_path / "history.jsonl", str(tracker.summary())
    content = file.read_bytes()
    if change == "changed":
        with file.open("r+b") as again:
            again.write(content.replace(b"1", b"2", 1))
    else:
        file.unlink()
        if change == "replaced":
            file.write_bytes(content)
    with pytest.warns(TrackingWarning, match="only the last records are left"):
        assert len(tracker.history.steps) < 4
    assert str(tracker.summary()) == summary


def test_records_come_back_from_a_file_that_was_deleted(tmp_path):
    tracker, run = loop(tmp_path)
    with tracker, pytest.warns(TrackingWarning, match="HistorySink failed"):
        run(0, 20)
        tracker.sync()
        (tmp_path / "history.jsonl").unlink()
        run(20, 30)
        assert held(tracker) == 30
    assert_same(tracker.history, expected(30))


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_that_was_cut_gives_what_is_left_and_says_so(strict, tmp_path):
    tracker, run = loop(tmp_path, strict=strict)
    run(0, 23)
    tracker.sync()
    with (tmp_path / "history.jsonl").open("r+b") as file:
        file.truncate(100)
    if strict:
        with pytest.raises(ExpectedError, match="holds 0 records, and 20 were written"):
            _ = tracker.history
        tracker._recorder.history.release_source()
    else:
        with pytest.warns(TrackingWarning, match="only the last records are left"):
            left = tracker.history.steps.tolist()
        assert len(left) < 4 and left == list(range(23))[23 - len(left) :]
        assert "history" in tracker.undefined
    tracker.detach()
