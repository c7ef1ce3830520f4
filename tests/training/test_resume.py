"""A run that is taken up again is the run that was never stopped: state, files, refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, RunSettings, TwoLayerNet, attach, read_run
from phasetrack.phases.classifier import PhaseClassifier, Thresholds
from phasetrack.storage.checkpoint import CheckpointSchedule, load_checkpoint, save_checkpoint
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.tracker import TrackingWarning
from phasetrack.training.run import resume, train

TASK, STEPS = XOR(8), 24


class Loop:
    """A user's own training, with a model whose scale the first batch tells."""

    def __init__(self, **options):
        torch.manual_seed(0)
        self.loss = nn.BCEWithLogitsLoss()
        self.net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.02)
        self.tracker = attach(
            self.net, self.optimizer, loss=self.loss, geometry=TASK.geometry, **options
        )

    def run(self, end):
        for step in range(self.tracker.step, end):
            x, y = TASK.sample(64, seed=0, step=step)
            self.optimizer.zero_grad()
            self.loss(self.net(x).squeeze(-1), (y > 0).float()).backward()
            self.optimizer.step()
        return self

    def save(self, path):
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        torch.save(parts, path)

    def load(self, path):
        saved = torch.load(path, weights_only=True)
        for name in PARTS:
            getattr(self, name).load_state_dict(saved[name])
        return self


PARTS = ("net", "optimizer", "tracker")


def assert_same(one, other):
    for name, weights in other.net.state_dict().items():
        assert torch.equal(one.net.state_dict()[name], weights)
    ours, theirs = one.tracker, other.tracker
    assert ours.history.steps.tolist() == theirs.history.steps.tolist()
    assert list(ours.history) == list(theirs.history)
    for name in theirs.history:
        np.testing.assert_array_equal(ours.history[name], theirs.history[name])
    for name in ("phase", "reason", "boundaries", "transitions", "alerts", "undefined", "step"):
        np.testing.assert_equal(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_equal(ours.summary(), theirs.summary())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    loop = Loop(logdir=path, snapshots=5).run(STEPS)
    loop.tracker.detach()
    return loop, path


@pytest.mark.parametrize("kept, reached", [(0, 3), (1, 1), (7, 7), (7, 19), (23, 24)])
def test_a_users_loop_goes_on(kept, reached, whole, tmp_path):
    """Saved before step `kept`; stopped before step `reached`, what lies between is recomputed."""
    first = Loop(logdir=tmp_path / "run", snapshots=5).run(kept)
    first.save(tmp_path / "mine.pt")
    first.run(reached).tracker.detach()
    second = Loop(logdir=tmp_path / "run", snapshots=5, resume=True).load(tmp_path / "mine.pt")
    assert second.tracker.step == kept
    second.run(STEPS).tracker.detach()
    assert_same(second, whole[0])
    for name in ("history.jsonl", "neurons", "weights"):
        files = [tmp_path / "run" / name, whole[1] / name]
        both = [
            {f.name: f.read_bytes() for f in (p.iterdir() if p.is_dir() else [p])} for p in files
        ]
        assert both[0] == both[1]


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, STEPS), min_size=1, max_size=5))
def test_without_files_the_state_holds_the_records(whole, tmp_path_factory, stops):
    path = tmp_path_factory.mktemp("state") / "mine.pt"
    loop = Loop()
    for stop in sorted(stops):
        loop.run(stop).save(path)
        loop.tracker.detach()
        loop = Loop().load(path)
    loop.run(STEPS).tracker.detach()
    assert_same(loop, whole[0])


def test_a_run_that_was_killed_before_it_saved_starts_over(whole, tmp_path):
    Loop(logdir=tmp_path / "run").run(5).tracker.detach()
    second = Loop(logdir=tmp_path / "run", resume=True)
    second.tracker.start_over()
    second.run(STEPS).tracker.detach()
    assert_same(second, whole[0])
    assert read_run_steps(tmp_path / "run") == list(range(STEPS))


def read_run_steps(path):
    return [json.loads(line)["step"] for line in (path / "history.jsonl").read_text().splitlines()]


def test_the_first_time_resume_changes_nothing(whole, tmp_path):
    loop = Loop(logdir=tmp_path / "run", resume=True).run(STEPS)
    loop.tracker.detach()
    assert_same(loop, whole[0])
    assert (tmp_path / "run/history.jsonl").read_bytes() == (
        whole[1] / "history.jsonl"
    ).read_bytes()


def test_nothing_is_overwritten_unasked(tmp_path):
    Loop(logdir=tmp_path / "run").run(5).tracker.detach()
    before = (tmp_path / "run/history.jsonl").read_bytes()
    with pytest.raises(ExpectedError, match=r"logdir: .* already holds a run"):
        Loop(logdir=tmp_path / "run")
    loop = Loop(logdir=tmp_path / "run", resume=True)
    with pytest.warns(TrackingWarning, match="holds records of an earlier run"):
        loop.run(3)
        loop.tracker.detach()
    assert (tmp_path / "run/history.jsonl").read_bytes() == before
    assert loop.tracker.history.steps.tolist() == [0, 1, 2]


def test_a_state_saved_in_a_callback_records_no_step_twice(tmp_path):
    saved = []
    loop = Loop(on_transition=lambda tracker, _: saved.append(tracker.state_dict())).run(40)
    state = saved[0]
    again = Loop()
    again.tracker.load_state_dict(state)
    again.run(state["capture"]["step"] + 2)
    steps = again.tracker.history.steps.tolist()
    assert steps == list(range(state["capture"]["step"] + 2))
    loop.tracker.detach()


def test_a_closed_or_broken_off_tracker_has_no_state():
    loop = Loop().run(2)
    loop.tracker.detach()
    with pytest.raises(ExpectedError, match=r"Call state_dict\(\) before detach\(\)"):
        loop.tracker.state_dict()

    class Interrupting:
        def write(self, record):
            raise KeyboardInterrupt

        def close(self, summary, history):
            pass

    loop = Loop(sinks=[Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        loop.run(1)
    with pytest.raises(ExpectedError, match="between two optimizer steps"):
        loop.tracker.state_dict()


def test_a_state_holds_what_was_read_of_weights_and_neither_them_nor_inputs():
    loop = Loop(probes=default_probes(gradients=True)).run(5)
    state = loop.tracker.state_dict()
    for name in ("previous", "first"):
        layers, seen = state[name]["layers"], state[name]["seen"]
        assert set(layers) == {"coordinates", "perp", "head", "bias", "head_bias", "gradient"}
        assert set(seen) == {"outputs", "targets", "traces", "sound"}
        assert layers["perp"].shape == layers["head"].shape[1:]


def test_probes_that_failed_stay_off(tmp_path):
    class Failing:
        name, needs = "failing", frozenset()

        def __init__(self):
            self.calls = 0

        def measure(self, snapshot):
            self.calls += 1
            raise RuntimeError("broken")

    def follow(**options):
        return Loop(probes=[*default_probes(), Failing()], **options)

    with pytest.warns(TrackingWarning, match="failing failed"):
        first = follow().run(3)
    first.save(tmp_path / "mine.pt")
    second = follow().load(tmp_path / "mine.pt").run(6)
    assert second.tracker.undefined["failing"].startswith("switched off")
    assert second.tracker.history.steps.tolist() == list(range(6))


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (lambda s: s.pop("format"), "the state of a tracker"),
        (lambda s: s.update(format=99), "A state of format 99 cannot be read"),
        (lambda s: s["classifier"].pop("heavy"), "the state of a tracker"),
        (lambda s: s["classifier"].update(phase="BORED"), "the state of a tracker"),
        (lambda s: s["sinks"].clear(), "differ in their sinks: clock, history"),
        (lambda s: s["sinks"]["history"].update(checksum=1), "does not begin with the"),
        (lambda s: s["sinks"]["history"].update(bytes=10**9), "does not begin with the"),
        (lambda s: s["sinks"]["history"].update(bytes=-1), "does not begin with the"),
        (lambda s: s["sinks"]["neurons"].update(stride="x"), "stride: 'x' is not an integer"),
        (
            lambda s: s["sinks"]["tensorboard"]["files"][0].update(name="../../etc/passwd"),
            "'../../etc/passwd', which is not an event file",
        ),
        (lambda s: s.update(records=3), "holds 7 records, and the state counts 3"),
        (lambda s: s["previous"]["layers"].update(perp=torch.zeros(3)), "The saved perp has shape"),
        (
            lambda s: s["previous"]["layers"].update(perp="x"),
            "The saved perp is a str, not a tensor",
        ),
        (
            lambda s: s["capture"]["view"].update(transposed=[True, False]),
            "The saved layers have shapes",
        ),
        (lambda s: s.update(alerts=[["x"]]), "the state of a tracker"),
    ],
)
def test_a_state_that_is_none_changes_nothing(spoil, complaint, tmp_path):
    first = Loop(logdir=tmp_path / "run").run(7)
    state = first.tracker.state_dict()
    first.tracker.detach()
    files = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    second = Loop(logdir=tmp_path / "run", resume=True)
    spoil(state)
    with pytest.raises(ExpectedError) as caught:
        second.tracker.load_state_dict(state)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
    second.tracker.release()
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == files


def test_other_models_are_refused(tmp_path):
    state = Loop().run(3).tracker.state_dict()
    net, loss = TwoLayerNet(8, 5), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry) as tracker:
        with pytest.raises(ExpectedError, match="state: The saved"):
            tracker.load_state_dict(state)
        assert tracker.step == 0 and tracker.history.count == 0


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.integers(0, 30))
def test_a_classifier_goes_on(values, cut):
    """Labels, boundaries and alerts come out the same, wherever the state is passed on."""

    def row(value):
        return {
            "heaviness/zeta_star": value,
            "loss/train": value,
            "linearization/slope_drift": value / 10,
            "linearization/value_error": 1 / value,
            "heaviness/signal_share": 0.01,
        }

    one = PhaseClassifier(Thresholds(patience=3), escape_steps=4.0)
    whole = [one.update(step, row(value)) for step, value in enumerate(values)]
    other = PhaseClassifier(Thresholds(patience=3), escape_steps=4.0)
    parts = []
    for step, value in enumerate(values):
        if step == cut:
            state = json.loads(json.dumps(other.state_dict()))
            other = PhaseClassifier(Thresholds(patience=3), escape_steps=4.0)
            other.load_state_dict(state)
        parts.append(other.update(step, row(value)))
    np.testing.assert_equal(parts, whole)


# whole runs

SETTINGS = RunSettings(d=8, width=8, batch=16, steps=20)
PREDICTED = predict(XOR(8).geometry, SETTINGS)


class StopAt:
    def __init__(self, step):
        self._step = step

    def write(self, record):
        if record.step == self._step:
            raise KeyboardInterrupt

    def close(self, summary, history):
        pass


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Killed, as it were, in step 13; checkpoints lie before steps 8 and 12."""
    out = tmp_path_factory.mktemp("stopped")
    options = {"predicted": PREDICTED, "checkpoint_steps": 4, "threads": 1}
    train(SETTINGS, out=out, name="whole", **options)
    train(SETTINGS, out=out, name="run", sinks=[StopAt(13)], **options)
    return out


@pytest.fixture
def run(stopped, tmp_path):
    shutil.copytree(stopped / "run", tmp_path / "run")
    return tmp_path / "run"


def test_checkpoints_are_where_they_were_asked_for(run):
    steps = [load_checkpoint(run / f)["step"] for f in ("checkpoint.pt", "checkpoint.previous.pt")]
    assert steps == [12, 8]


def assert_whole(run, stopped):
    assert (run / "history.jsonl").read_bytes() == (stopped / "whole/history.jsonl").read_bytes()
    ours, theirs = (load_checkpoint(p / "checkpoint.pt") for p in (run, stopped / "whole"))
    for name, weights in theirs["model"].items():
        assert torch.equal(ours["model"][name], weights)


def test_a_run_goes_on_from_its_last_checkpoint(run, stopped):
    summary = resume(run, predicted=PREDICTED)
    assert (summary["stopped"], summary["steps"]) == ("steps", 20)
    assert_whole(run, stopped)
    assert read_run(run).summary["seconds"] > 0


def test_a_finished_run_is_finished_again(run, stopped):
    resume(run, predicted=PREDICTED)
    summary = resume(run, predicted=PREDICTED)
    assert summary["stopped"] == "steps"
    assert_whole(run, stopped)


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "text", "gone"])
def test_a_damaged_checkpoint_is_said_and_the_previous_one_used(damage, run, stopped):
    path = run / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0x10
    new = {"cut": content[: len(content) // 2], "empty": b"", "flip": content, "text": b"{}"}
    if damage == "gone":
        path.unlink()
        resume(run, predicted=PREDICTED)
    else:
        path.write_bytes(new[damage])
        with pytest.warns(
            TrackingWarning,
            match=r"from checkpoint.previous.pt, step 8, for this reason: checkpoint.pt: .*damaged",
        ):
            resume(run, predicted=PREDICTED)
    assert_whole(run, stopped)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_every_flipped_bit_is_seen(place, run):
    path = run / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) * place // 100] ^= 1 << place % 8
    path.write_bytes(content)
    with pytest.raises(ExpectedError, match=r"resume: .*checkpoint\.pt' is damaged"):
        load_checkpoint(path)


def test_without_any_good_checkpoint_nothing_is_touched(run):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run / name).write_bytes(b"x")
    files = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(ExpectedError, match="Delete the checkpoints to start the run from its"):
        resume(run, predicted=PREDICTED)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == files


def test_without_checkpoints_a_run_begins_again(run, stopped):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run / name).unlink()
    resume(run, predicted=PREDICTED)
    assert_whole(run, stopped)


def test_a_history_that_was_changed_is_refused(run):
    path = run / "history.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(
        ExpectedError, match=r"does not begin with the .* bytes that it had at the checkpoint"
    ):
        resume(run, predicted=PREDICTED)


def test_settings_that_were_changed_are_refused(run):
    config = json.loads((run / "config.json").read_text())
    config["settings"]["seed"] = 5
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExpectedError, match="saved with other settings than those in config"):
        resume(run, predicted=PREDICTED)


@pytest.mark.parametrize("step", [-5, 3, 10**12, 10**30])
def test_a_checkpoint_of_a_step_that_its_tracker_does_not_count_is_left_out(step, run, stopped):
    state = load_checkpoint(run / "checkpoint.pt")
    save_checkpoint(run, {**state, "step": step})
    with pytest.warns(
        TrackingWarning, match=rf"The checkpoint is of step {step}, its tracker counts"
    ):
        resume(run, predicted=PREDICTED)
    assert_whole(run, stopped)


def test_other_versions_are_said(run):
    config = json.loads((run / "config.json").read_text())
    config["versions"]["torch"] = "1.0"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.warns(TrackingWarning, match=r"last bits may differ .* \(torch 1.0 then"):
        resume(run, predicted=PREDICTED)


def test_an_unpickling_checkpoint_is_refused(run, tmp_path):
    """A checkpoint from elsewhere, with a good checksum, runs no code."""
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self):
            return (type(witness).touch, (witness,))

    save_checkpoint(run, {"step": 1, "trap": Trap()})
    with pytest.raises(
        ExpectedError, match=r"run: .*checkpoint\.pt' is damaged, or needs unpickling"
    ):
        load_checkpoint(run / "checkpoint.pt")
    assert not witness.exists()


def test_checkpoints_by_the_clock_take_no_more_than_their_share():
    now = 0.0
    schedule = CheckpointSchedule(None, 10.0, clock=lambda: now)
    assert not schedule.due(5)
    now = 10.0
    assert schedule.due(6)
    schedule.saved(cost=0.01)
    now = 19.9
    assert not schedule.due(7)
    now = 20.0
    assert schedule.due(8)
    schedule.saved(cost=2.0)  # a slow disk: one in 200 seconds is 1 percent
    now = 219.9
    assert not schedule.due(9)
    now = 220.1
    assert schedule.due(10)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"steps": 0}, "checkpoint_steps: 0 is not an integer >= 1."),
        ({"steps": 1.5}, "checkpoint_steps: 1.5 is not an integer >= 1."),
        ({"seconds": -1.0}, "checkpoint_seconds: -1 is not a finite number >= 0."),
        ({"seconds": float("nan")}, "checkpoint_seconds: nan is not a finite number >= 0."),
    ],
)
def test_schedules_that_are_none(options, complaint):
    with pytest.raises(ExpectedError, match=complaint):
        CheckpointSchedule(**options)
