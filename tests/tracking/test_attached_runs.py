"""attach(logdir=) leaves a run that is read, labelled, listed and begun again as any other."""

import json
import sys

import pytest
import torch
from helpers.command_line import call_here
from torch import nn

import phasetrack
from phasetrack.display.tensorboard.open_run import OpenRun
from phasetrack.display.tensorboard.run_store import RunStore
from phasetrack.tasks import XOR

TASK = XOR(8)
STRICT = phasetrack.Thresholds(loss_target=0.6)


class Training:
    """A small network of the user's, and its steps."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.loss = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.02)
        self.steps = 0

    def attach(self, logdir, **options):
        given = {"loss": self.loss, "geometry": TASK.geometry, "logdir": logdir, **options}
        return phasetrack.attach(self.model, self.optimizer, **given)

    def step(self, count=1):
        for _ in range(count):
            x, y = TASK.sample(32, seed=0, step=self.steps)
            self.steps += 1
            self.optimizer.zero_grad()
            self.loss(self.model(x).squeeze(-1), (y > 0).float()).backward()
            self.optimizer.step()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with thresholds and hyperparameters of its own, and what the tracker found."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    training = Training()
    with training.attach(
        folder, thresholds=STRICT, hparams={"rate": 0.02, "kind": nn.ReLU}
    ) as tracker:
        training.step(90)
    return folder, tracker


def test_configuration_is_there_before_the_first_step(tmp_path):
    tracker = Training().attach(tmp_path / "run", thresholds=STRICT)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    tracker.detach()
    assert config["layers"] == {
        **{"first": "0", "second": "2", "inputs": 8, "width": 16, "outputs": 1},
        "activation": "relu",
    }
    assert config["geometry"]["clusters"] == list(TASK.geometry.names)
    assert config["thresholds"]["loss_target"] == 0.6
    assert config["optimizer"] == "Adam" and config["loss"] == "BCEWithLogitsLoss"
    assert config["versions"]["phasetrack"] == phasetrack.__version__


def test_run_is_read_back(made):
    folder, tracker = made
    run = phasetrack.read_run(str(folder))
    assert run.state == "finished" and run.thresholds == STRICT
    assert run.config["hparams"] == {"rate": 0.02, "kind": str(nn.ReLU)}
    assert run.summary["phase"] == tracker.phase.name
    assert [b["onset"] for b in run.summary["boundaries"]] == [b.onset for b in tracker.boundaries]
    assert run.summary["notes"] == tracker.notes and run.summary["undefined"] == tracker.undefined


def test_every_display_labels_with_the_thresholds_given_to_attach(made, tmp_path):
    folder, tracker = made
    (fitted,) = (b.onset for b in tracker.boundaries if b.name == "fitted")
    for name in ("config.json", "history.jsonl"):  # labelled anew, without the summary
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for path in (folder, tmp_path):
        labels = OpenRun("run", path).labels()
        assert [b["onset"] for b in labels["boundaries"] if b["name"] == "fitted"] == [fitted]
        assert labels["thresholds"]["loss_target"] == 0.6


@pytest.mark.parametrize(
    "command", ["list --out .", "show mine", "show", "compare mine mine", "plot mi"]
)
def test_commands_take_the_run(made, command):
    done = call_here(
        *command.split(), *([] if "list" in command else ["--out", "."]), cwd=made[0].parent
    )
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout + done.stderr


def states(folder):
    (entry,) = RunStore(folder.parent).runs()["runs"]
    return entry["state"], phasetrack.read_run(folder).state


def test_state_follows_the_process_that_writes(tmp_path):
    training, folder = Training(), tmp_path / "run"
    tracker = training.attach(folder)
    training.step(3)
    tracker.sync()
    assert states(folder) == ("running", "running")
    tracker._sinks._lock.release()  # as the end of the process does
    assert states(folder) == ("stopped", "stopped")
    tracker.detach()
    assert states(folder) == ("finished", "finished")


def test_training_that_fails_says_so(tmp_path):
    training = Training()
    with pytest.raises(RuntimeError), training.attach(tmp_path / "run"):
        training.step(2)
        raise RuntimeError
    summary = phasetrack.read_run(tmp_path / "run").summary
    assert summary["stopped"] == "failed" and summary["ended_by"] == "RuntimeError"


def test_refusal_names_every_way_out(tmp_path):
    Training().attach(tmp_path / "run").detach()
    with pytest.raises(phasetrack.ExpectedError, match=r"overwrite=True .* number=True .*'run-2'"):
        Training().attach(tmp_path / "run")


def test_overwrite_replaces_the_run_and_nothing_else(tmp_path):
    first = Training()
    tracker = first.attach(tmp_path / "run", snapshots=1)
    first.step(5)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    second = Training()
    with (
        pytest.warns(phasetrack.TrackingWarning, match="attached before has been detached"),
        second.attach(tmp_path / "run", overwrite=True),
    ):
        second.step(2)
    assert tracker.detached
    assert phasetrack.read_run(tmp_path / "run").history.steps.tolist() == [0, 1]
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / "weights").exists()


def test_cell_is_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    training = Training()
    first = training.attach(tmp_path / "run")
    training.step(2)
    with pytest.warns(phasetrack.TrackingWarning) as said:
        second = training.attach(tmp_path / "run")
    assert any("this one is written to" in str(one.message) for one in said)
    training.step(3)
    second.detach()
    assert first.detached
    counts = [phasetrack.read_run(tmp_path / name).history.count for name in ("run", "run-2")]
    assert counts == [2, 3]


def test_configuration_of_another_program_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.warns(phasetrack.TrackingWarning, match="belongs to another program"):
        Training().attach(tmp_path).detach()
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "bert"}
    assert phasetrack.read_run(tmp_path).finished


def test_earlier_run_that_was_not_resumed_keeps_its_summary(tmp_path):
    training = Training()
    with training.attach(tmp_path / "run"):
        training.step(4)
    before = (tmp_path / "run" / "summary.json").read_bytes()
    training.attach(tmp_path / "run", resume=True).release()
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_tracker_and_run_show_themselves(made):
    folder, tracker = made
    run = phasetrack.read_run(folder)
    for text in (repr(tracker), repr(run), tracker._repr_html_(), run._repr_html_()):
        assert "FITTED from step" in text
        for alert in tracker.alerts:
            assert alert.name in text
    assert repr(run).startswith("Run 'mine': ") and "'0' and '2'" in repr(tracker)
    for figure in (tracker.plot(), run.plot(title="")):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_tracker_that_follows_says_so_far(tmp_path):
    training = Training()
    with training.attach(None) as tracker:
        assert "Nothing was recorded" in repr(tracker) or "lasts" in repr(tracker)
        training.step(3)
        assert "The run lasts; so far:" in repr(tracker) and "3 steps" in repr(tracker)
    assert "lasts" not in repr(tracker)


@pytest.mark.parametrize(
    ("change", "argument"),
    [({"loss": "bce"}, "loss"), ({"geometry": [[1.0, -1.0]]}, "geometry")],
)
def test_wrong_kinds_are_named(change, argument):
    with pytest.raises(phasetrack.ExpectedError) as caught:
        Training().attach(None, **change)
    assert caught.value.argument == argument and caught.value.fix


def test_charts_in_tensorboard_say_what_they_show(made):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(made[0])).Reload()
    loss = events.SummaryMetadata("loss/train").summary_description
    assert loss.startswith("mean loss of the step's samples (loss; docs/theory.md")
