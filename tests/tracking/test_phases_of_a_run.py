"""attach(phases=): several vocabularies beside the paper's, in memory and in files."""

import json

import pytest
import torch
from helpers.vocabulary import Height

import phasetrack
from phasetrack.phases.vocabularies.lazy_rich import LazyRich
from phasetrack.tasks import XOR


def parts(**options):
    task, loss = XOR(d=16), phasetrack.LogisticLoss()
    net = phasetrack.TwoLayerNet(16, 32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.4 * 32)
    tracker = phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry, **options)
    return task, loss, net, optimizer, tracker


def trained(steps, **options):
    task, loss, net, optimizer, tracker = parts(**options)
    with tracker:
        take(range(steps), task, loss, net, optimizer)
    return tracker


def take(steps, task, loss, net, optimizer):
    for step in steps:
        x, y = task.sample(128, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()


def height(state):
    return {"h": float(state.step)}


def test_files_tell_every_vocabulary(tmp_path):
    own = LazyRich(rich_drift=0.2)
    tracker = trained(30, phases=["auto", own], logdir=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())["vocabularies"]
    assert list(summary) == list(tracker.phases)
    for name, labels in tracker.phases.items():
        assert summary[name]["phase"] == labels.label
        assert summary[name]["applies"] == labels.applies
    assert summary["lazy-rich"]["phase"] == "RICH"
    run = phasetrack.read_run(tmp_path)
    assert run.config["vocabularies"]["lazy-rich"]["levels"]["rich_drift"] == 0.2
    assert run.phases["lazy-rich"].boundaries == tracker.phases["lazy-rich"].boundaries
    assert run.summarise()["vocabularies"] == run.summary["vocabularies"]
    ids = run.history["phase/lazy-rich"]
    assert (ids[0], ids[-1]) == (1.0, 2.0) and len(ids) == 30
    assert (run.history["phase/finds-then-tunes"] == run.history["phase/id"]).all()


def test_own_vocabulary_by_an_own_probe_and_callbacks_that_name_it(tmp_path):
    said = []
    tracker = trained(
        13,
        phases=[Height()],
        probes=[height],
        logdir=tmp_path,
        on_transition=lambda _, change: said.append((change.vocabulary, change.after.name)),
        on_alert=lambda _, alert: said.append((alert.vocabulary, alert.name)),
    )
    assert list(tracker.phases) == ["finds-then-tunes", "height"]
    assert said == [("height", "HIGH"), ("height", "TALL")]
    assert not tracker.phases["finds-then-tunes"].applies
    again = phasetrack.read_run(tmp_path)
    assert "label_by" in again.summarise()["vocabularies"]["height"]["reason"]
    assert again.label_by(Height(high=5.0))["height"].boundaries[0].detected == 5


def test_resumed_run_labels_as_an_uninterrupted_one():
    whole = trained(24)
    task, loss, net, optimizer, tracker = parts()
    take(range(9), task, loss, net, optimizer)
    state = tracker.state_dict()
    tracker.detach()
    with phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry) as later:
        later.load_state_dict(state)
        take(range(9, 24), task, loss, net, optimizer)
    assert later.phases.summary() == whole.phases.summary()
    state.pop("vocabularies")  # a state of version 0.1.0
    with phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry) as older:
        older.load_state_dict(state)
    assert older.phases["lazy-rich"].label == "UNDETERMINED"


def test_failing_vocabulary_is_reported_and_leaves_training_alone():
    class Broken(Height):
        def label(self, seen):
            raise ZeroDivisionError("in label")

    with pytest.warns(phasetrack.TrackingWarning, match="'height' failed and is switched off"):
        tracker = trained(4, phases=Broken(), probes=[height])
    assert tracker.history.count == 4 and "phase/height" not in tracker.history


def test_probe_may_not_name_a_reading_as_a_label():
    with pytest.warns(phasetrack.TrackingWarning, match="which the tracker itself gives"):
        tracker = trained(2, probes=[lambda _: {"phase/own": 1.0}])
    assert "phase/own" not in tracker.history


def test_unknown_vocabulary_is_refused_before_anything_is_attached():
    with pytest.raises(phasetrack.ExpectedError, match="'grocking' is not a vocabulary"):
        parts(phases=["grocking"])
