"""A run directory has one writer from before its first byte, and is another one once it was made anew."""

import errno
import json
import shutil
import warnings

import pytest
import torch
from helpers.breaking import Fault, struck

from phasetrack import ExpectedError, LogisticLoss, RunSettings, TwoLayerNet, attach, train
from phasetrack.storage import summary_sink
from phasetrack.storage.file_names import LOCK
from phasetrack.storage.lock import RunLock
from phasetrack.tasks import XOR
from phasetrack.training import run as training
from phasetrack.training import run_directory

SETTINGS = RunSettings(task="and", d=6, width=4, batch=8, steps=4)  # without a forecast
TASK = XOR(6)


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_run_is_locked_before_its_first_file(tmp_path, monkeypatch):
    write, held = run_directory.write_json, []

    def written(path, content):
        with pytest.raises(ExpectedError, match="already writes to"):
            RunLock(path.parent, "name")
        held.append(path.name)
        write(path, content)

    for module in (training, run_directory, summary_sink):
        monkeypatch.setattr(module, "write_json", written)
    train(SETTINGS, out=tmp_path, name="run")
    assert held == ["config.json", "summary.json"]
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_second_of_two_runs_of_one_name_writes_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    held = RunLock(tmp_path / "run", "name")  # the first one, before its config.json
    before = everything(tmp_path)
    with pytest.raises(ExpectedError, match=r"name: Process .* already writes to"):
        train(SETTINGS, out=tmp_path, name="run")
    assert everything(tmp_path) == before
    held.release()


def test_a_run_that_began_and_ended_meanwhile_is_kept(tmp_path, monkeypatch):
    make = run_directory.create_run_directory

    def slow(out, name):
        directory = make(out, name)
        (directory / "config.json").write_text("of the other run")
        return directory

    monkeypatch.setattr(run_directory, "create_run_directory", slow)
    with pytest.raises(ExpectedError, match="already exists and is not empty"):
        train(SETTINGS, out=tmp_path, name="run")
    assert everything(tmp_path / "run") == {
        next((tmp_path / "run").iterdir()).relative_to(tmp_path / "run"): b"of the other run"
    }


@pytest.mark.parametrize("at", range(8))
def test_a_disk_that_is_full_from_the_start_leaves_no_run(tmp_path, at):
    fault = Fault(at=at, kind=errno.ENOSPC, calls=("open", "write"), path=str(tmp_path))
    try:
        with struck(fault), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train(SETTINGS, out=tmp_path, name="run")
    except ExpectedError as error:
        assert "cannot be written" in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        assert at > 5
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    train(SETTINGS, out=tmp_path, name="run")


def follow(logdir, **options):
    torch.manual_seed(0)
    net, loss = TwoLayerNet(6, 8, seed=0), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, logdir=logdir, **options)

    def step(number):
        x, y = TASK.sample(16, seed=0, step=number)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    return tracker, step


def test_attaching_on_a_full_disk_leaves_no_file(tmp_path):
    logdir = tmp_path / "run"
    fault = Fault(at=1, kind=errno.ENOSPC, calls=("write",), path=str(logdir))
    with struck(fault), pytest.raises(ExpectedError, match="cannot be written to"):
        follow(logdir)
    assert everything(logdir) == {}
    tracker, step = follow(logdir)
    step(0)
    tracker.detach()
    assert len((logdir / "history.jsonl").read_text().splitlines()) == 1


def test_a_late_process_writes_nothing_into_a_directory_made_anew(tmp_path):
    logdir = tmp_path / "run"
    late, step = follow(logdir, snapshots=1, block=1)
    step(0)
    shutil.rmtree(logdir)
    new, new_step = follow(logdir, snapshots=1, block=1)
    new_step(0)
    before = everything(logdir)
    with pytest.warns(UserWarning, match="made anew") as said:
        step(1)
        step(2)
        late.detach()
    assert len(said) == 1
    assert everything(logdir) == before
    with pytest.raises(ExpectedError, match="already writes to"):
        RunLock(logdir, "logdir")  # the new run's lock is still there
    assert late.history.steps.tolist() == [0, 1, 2]
    assert not late.complete
    new.detach()
    assert json.loads((logdir / "history.jsonl").read_text())["step"] == 0


def test_a_run_whose_directory_was_made_anew_writes_no_summary_and_no_checkpoint(
    tmp_path, monkeypatch
):
    directory, taken = tmp_path / "run", training.stepper

    def stepper(*given, **named):
        step = taken(*given, **named)

        def take(number):
            if number == 2:
                shutil.rmtree(directory)
                directory.mkdir()
                (directory / "config.json").write_text("of the new run")
            return step(number)

        return take

    monkeypatch.setattr(training, "stepper", stepper)
    with pytest.warns(UserWarning):
        train(SETTINGS, out=tmp_path, name="run", checkpoint_steps=1)
    assert [path.name for path in directory.iterdir()] == ["config.json"]
    assert (directory / "config.json").read_text() == "of the new run"
