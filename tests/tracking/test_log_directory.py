"""The log directory stays where it was given, wherever the process goes."""

import json
import os

import pytest
import torch

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach
from phasetrack.storage.directory import absolute
from phasetrack.storage.file_names import LOCK
from phasetrack.storage.lock import RunLock
from phasetrack.tasks import XOR

TASK = XOR(8)


@pytest.fixture
def training():
    net, loss = TwoLayerNet(8, 16, seed=0), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)

    def step(number):
        x, y = TASK.sample(16, seed=0, step=number)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    def follow(logdir, **options):
        return attach(net, optimizer, loss=loss, geometry=TASK.geometry, logdir=logdir, **options)

    return step, follow


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_change_of_directory_moves_no_file(training, tmp_path, monkeypatch):
    step, follow = training
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    tracker = follow("run", snapshots=1, strict=True)
    step(0)
    monkeypatch.chdir(tmp_path / "after")
    for number in range(1, 4):
        step(number)
    tracker.sync()
    tracker.detach()
    assert files(tmp_path / "after") == []
    lines = (tmp_path / "before" / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    assert LOCK not in files(tmp_path / "before")


def test_directory_of_another_tracker_stays_locked(training, tmp_path, monkeypatch):
    step, follow = training
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    tracker = follow("run")
    monkeypatch.chdir(tmp_path / "after")
    (tmp_path / "after" / "run").mkdir()
    held = RunLock(tmp_path / "after" / "run", "logdir")
    step(0)
    tracker.detach()
    with pytest.raises(ExpectedError, match="already writes to"):
        RunLock(tmp_path / "after" / "run", "logdir")
    held.release()


def test_lock_of_the_next_holder_is_kept(tmp_path):
    first = RunLock(tmp_path, "logdir")
    (tmp_path / LOCK).unlink()  # the directory was cleared while it was held
    second = RunLock(tmp_path, "logdir")
    first.release()
    with pytest.raises(ExpectedError, match="already writes to"):
        RunLock(tmp_path, "logdir")
    second.release()
    assert not (tmp_path / LOCK).exists()


def test_a_current_directory_that_was_deleted_is_named(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert absolute(tmp_path / "run") == tmp_path / "run"
    with pytest.raises(ExpectedError, match="'rel' lies in the current directory, which was"):
        absolute("rel")


def test_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert absolute("~/run") == tmp_path / "run"
    assert absolute("run/../other") == tmp_path / "run" / ".." / "other"
    assert absolute("~no such user/run") == tmp_path / "~no such user" / "run"
    assert os.fspath(absolute(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("first", [0, 7])
def test_first_step_of_a_training_that_resumes(first, training):
    step, follow = training
    tracker = follow(None, every=4)
    tracker.start_at(first)
    for number in range(6):
        step(number)
    tracker.detach()
    assert tracker.step == first + 6
    assert tracker.history.steps.tolist() == {0: [0, 4], 7: [8, 12]}[first]


def test_first_step_is_given_before_any(training):
    step, follow = training
    tracker = follow(None)
    step(0)
    with pytest.raises(ExpectedError, match=r"step: Step 5 cannot be the first: .* at step 1"):
        tracker.start_at(5)
    with pytest.raises(ExpectedError, match="step: -1 is not an integer >= 0"):
        tracker.start_at(-1)
    tracker.detach()
    assert tracker.history.steps.tolist() == [0]
