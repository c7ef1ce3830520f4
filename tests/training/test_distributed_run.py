"""One run in several processes: the same run as in one, with one writer, and stopped by all at once."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import distributed_workers as workers
from helpers.distributed_workers import SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from phasetrack import ExpectedError, read_run, train
from phasetrack.storage.checkpoint import load_checkpoint
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.tracking.guard import TrackingWarning
from phasetrack.training.distributed import Processes
from phasetrack.training.launcher_env import Place, place
from phasetrack.training.run import resume

# the tangent kernel, and the labels that are read off it
OF_THE_KERNEL = ("kernel/", "phase/lazy-rich")
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))


@pytest.fixture(scope="module")
def predicted():
    return predict(XOR(SETTINGS.d).geometry, SETTINGS)


def in_two(work, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(workers.start, (2, port, work, *arguments), nprocs=2)


def assert_close(one, other):
    one, other = read_run(one).history, read_run(other).history
    assert one.steps.tolist() == other.steps.tolist() and list(one) == list(other)
    # the sample of the tangent kernel is the first inputs that the writing process saw
    for name in (name for name in other if not name.startswith(OF_THE_KERNEL)):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-7, err_msg=name)


def assert_same(run, other):
    """Bit for bit, but for the tangent kernel: its sample is of inputs that the writing process saw."""
    histories = [read_run(path).history for path in (run, other)]
    for one, two in zip(*(history.rows() for history in histories), strict=True):
        rows = [
            {name: value for name, value in row.items() if not name.startswith(OF_THE_KERNEL)}
            for _, row in (one, two)
        ]
        assert one[0] == two[0]
        np.testing.assert_equal(*rows)
    states = [load_checkpoint(path / "checkpoint.pt")["model"] for path in (run, other)]
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name])


def test_two_processes_train_as_one(tmp_path, predicted):
    in_two(workers.train_stop_and_go_on, tmp_path, predicted)
    options = {"out": tmp_path, "predicted": predicted, "threads": 1}
    # parts of 17 samples in pieces of 5, 5, 5 and 2 against 34 in pieces of 5
    train(SETTINGS, name="alone", **options)
    assert_close(tmp_path / "whole", tmp_path / "alone")
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    # two halves are added up in the same order as two pieces, and halving is exact
    halves = replace(SETTINGS, batch=32, micro_batch=16)
    train(halves, name="halves", **options)
    assert_same(tmp_path / "even", tmp_path / "halves")
    config = read_run(tmp_path / "even").config
    assert config["machine"]["processes"] == 2 and config["settings"]["micro_batch"] == 16
    assert len(list((tmp_path / "even").glob("events.*"))) == 1
    assert not (tmp_path / "refused").exists()
    # what two began one finishes, and the other way round it is tested above
    run = read_run(tmp_path / "stopped")
    assert run.summary["stopped"] == "steps" and run.history.steps.tolist() == [*range(0, 20, 2)]


@given(st.integers(1, 9), st.integers(0, 100))
def test_parts_are_the_batch(count, more):
    batch = count + more
    parts = [Processes(Place(rank, count)).part(batch) for rank in range(count)]
    assert [s for first, end in parts for s in range(first, end)] == list(range(batch))
    sizes = {end - first for first, end in parts}
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "spoilt",
    [{"RANK": "x"}, {"RANK": "2"}, {"WORLD_SIZE": "0"}, {"RANK": "-1"}, {"LOCAL_RANK": "?"}],
    ids=str,
)
def test_places_that_are_none(spoilt, monkeypatch):
    assert place() == Place()
    good = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in good.items():
        monkeypatch.setenv(name, value)
    assert place() == Place(1, 2, 1)
    for name, value in spoilt.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExpectedError, match=r"torchrun: RANK=.*are not the place of a process"):
        place()


@pytest.mark.long
def test_a_failure_in_one_process_ends_both(tmp_path, predicted):
    in_two(workers.fail_in_one, tmp_path, predicted)
    run = read_run(tmp_path / "run")
    assert run.summary["stopped"] == "failed"
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 4
    in_two(workers.go_on, tmp_path, predicted)
    train(SETTINGS, out=tmp_path, name="alone", predicted=predicted, threads=1)
    assert_close(tmp_path / "run", tmp_path / "alone")


@pytest.mark.long
def test_one_goes_on_when_the_other_was_killed(tmp_path, predicted):
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        in_two(workers.lose_one, tmp_path, predicted)
    assert read_run(tmp_path / "run").summary["stopped"] == "failed"
    with pytest.warns(TrackingWarning, match="processes 2 then, 1 now"):
        resume(tmp_path / "run", predicted=predicted)
    train(SETTINGS, out=tmp_path, name="alone", predicted=predicted, threads=1)
    assert_close(tmp_path / "run", tmp_path / "alone")


def torchrun(*options, **process):
    command = [TORCHRUN, "--nproc-per-node", "2", "-m", "--", "phasetrack", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **process)


def lines_of_ours(errors):
    """Without what torchrun itself has to say of a command that failed."""
    return re.findall(r"^(?:--[a-z]|run: |to resume: |torchrun: ).*", errors, re.MULTILINE)


@pytest.mark.long
def test_under_torchrun_stopped_and_gone_on_with(tmp_path):
    """As people do it: one view, Ctrl-C at torchrun, the same command with --resume."""
    sized = ["--d", 32, "--width", 16, "--steps", 3000, "--micro-batch", 64]
    sized += ["--out", tmp_path, "--checkpoint-steps", 100]
    with torchrun("run", "xor", *sized, "--name", "run") as process:
        while process.poll() is None and not (tmp_path / "run" / "checkpoint.pt").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert output.count("phase     ") == 1
    assert read_run(tmp_path / "run").summary["stopped"] == "interrupted"
    assert lines_of_ours(errors) == [f"to resume: phasetrack run xor --resume {tmp_path}/run"]
    with torchrun("run", "xor", "--resume", tmp_path / "run") as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.count("phase     ") == 1 and lines_of_ours(errors) == []
    with torchrun("run", "xor", *sized, "--name", "whole") as process:
        process.communicate()
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.long
@pytest.mark.parametrize(
    "options, complaint",
    [
        (["run", "xor", "--d", "1"], "--d: 1 is not an integer from 2 to 1048576."),
        (
            ["run", "xor", "--d", "8", "--batch", "1"],
            "--batch: A batch of 1 holds no sample for each of 2",
        ),
        (["sweep", "xor", "--grid", "d=8"], "torchrun: 'sweep' was started in"),
    ],
    ids=["a bad option", "too few samples", "another command"],
)
def test_mistakes_are_one_line(options, complaint, tmp_path):
    with torchrun(*options, "--out", tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 1  # torchrun's own
    (line,) = lines_of_ours(errors)
    assert line.startswith(complaint)


def test_the_process_that_speaks_of_a_mistake_comes_first(monkeypatch, capsys):
    from phasetrack_cli import output as main

    waited = []
    monkeypatch.setattr(main.time, "sleep", waited.append)
    for rank in (0, 1):
        monkeypatch.setattr(main, "place", lambda rank=rank: Place(rank, count=2))
        assert main.complain("--d", "expected another") == 2
    assert capsys.readouterr().err == "--d: expected another\n"  # torchrun then ends the other
    assert waited == [main.LAGGING]
