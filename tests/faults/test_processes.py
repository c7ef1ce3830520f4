"""Signals, locks, forks, clocks, and numbers that are none."""

import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from faults.test_disks import assert_equal, attached, loop, warned
from helpers.breaking import Victims

from phasetrack import ExpectedError, LogisticLoss, RunSettings, TwoLayerNet, attach, read_run
from phasetrack.storage.file_names import LOCK
from phasetrack.storage.lock import RunLock
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.training.run import resume, train
from phasetrack.training.step import stepper

SETTINGS = RunSettings(d=8, width=8, batch=16, steps=5000)
PREDICTED = predict(XOR(8).geometry, SETTINGS)
COMMAND = str(Path(sys.executable).with_name("phasetrack"))


def rows(path, name):
    return [json.loads(line)[name] for line in path.read_text().splitlines()]


class Asking:
    """Sends this process a signal in a step, as somebody else would at any time."""

    def __init__(self, *signals, step=7):
        self._signals, self._step = signals, step

    def write(self, record):
        if record.step == self._step:
            for number in self._signals:
                signal.raise_signal(number)

    def close(self, summary, history):
        pass


@pytest.mark.parametrize(
    "number, stopped", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_request_to_stop_is_taken_after_the_step(number, stopped, tmp_path, monkeypatch):
    before = signal.getsignal(number)

    def asked(*run, **how):
        take_step = stepper(*run, **how)

        def take(step):
            if step == 7:
                signal.raise_signal(number)
            return take_step(step)

        return take

    monkeypatch.setattr("phasetrack.training.run.stepper", asked)
    options = {"predicted": PREDICTED, "threads": 1}
    summary = train(SETTINGS, out=tmp_path, name="run", **options)
    assert (summary["stopped"], summary["steps"]) == (stopped, 8)
    assert read_run(tmp_path / "run").history.steps.tolist() == list(range(8))
    assert signal.getsignal(number) is before
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["step"] == 8


def test_a_second_request_is_taken_at_once(tmp_path):
    asking = Asking(signal.SIGINT, signal.SIGINT)
    options = {"predicted": PREDICTED, "threads": 1, "checkpoint_steps": 3}
    summary = train(SETTINGS, out=tmp_path, name="run", sinks=[asking], **options)
    # records are written some steps late: where within them it came is not ours to say
    assert summary["stopped"] == "interrupted" and summary["steps"] >= 7
    saved = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["step"]
    assert saved in (6, 9, summary["steps"])


@pytest.mark.slow
def test_terminated_on_the_command_line(tmp_path):
    arguments = ["run", "xor", "--d", "8", "--width", "8", "--steps", "1000000", "--name", "long"]
    with subprocess.Popen(
        [COMMAND, *arguments, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        history = tmp_path / "long" / "history.jsonl"
        while process.poll() is None and not (history.exists() and history.stat().st_size > 10_000):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143
    assert errors == f"to resume: phasetrack run xor --resume {tmp_path / 'long'}\n"
    assert read_run(tmp_path / "long").summary["stopped"] == "terminated"
    assert not (tmp_path / "long" / LOCK).exists()


def test_two_writers_in_one_process(tmp_path):
    def second(step):
        if step == 5:
            with pytest.raises(ExpectedError, match=f"Process {os.getpid()} already writes to"):
                loop(attached(tmp_path / "mine", resume=True))

    weights, _ = loop(attached(tmp_path / "mine"), each=second)
    assert_equal(weights, loop()[0])
    steps = rows(tmp_path / "mine/history.jsonl", "step")
    assert steps == list(range(20))


def refused(path):
    try:
        resume(path, predicted=PREDICTED)
    except ExpectedError as error:
        assert f" already writes to {str(path)!r}." in str(error)
        os._exit(17)


def test_two_processes_on_one_run(tmp_path):
    """The second is refused, and once the first is killed a third is let in."""
    settings = RunSettings(d=8, width=8, batch=16, steps=12)
    codes = []

    class Meanwhile:
        def write(self, record):
            if record.step == 5:
                codes.append(Victims().run(refused, tmp_path / "run"))

        def close(self, summary, history):
            pass

    train(settings, out=tmp_path, name="run", predicted=PREDICTED, sinks=[Meanwhile()])
    assert codes == [17]
    assert read_run(tmp_path / "run").summary["steps"] == 12


def die_holding(path):
    lock = RunLock(path, "logdir")
    assert lock is not None
    os.kill(os.getpid(), signal.SIGKILL)


def test_lock_of_a_killed_process_does_not_block(tmp_path):
    assert Victims().run(die_holding, tmp_path) == -9
    assert (tmp_path / LOCK).exists()
    lock = RunLock(tmp_path, "logdir")
    with pytest.raises(ExpectedError, match=r"logdir: Process \d+ already writes to"):
        RunLock(tmp_path, "logdir")
    lock.release()
    assert not (tmp_path / LOCK).exists()
    RunLock(tmp_path, "logdir").release()


def in_a_forked_child(path):
    """Train on in the parent while a forked child does, too; the child must write nothing."""
    torch.set_num_threads(1)
    task, loss = XOR(8), LogisticLoss()
    net = TwoLayerNet(8, 8, seed=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    tracker = attach(net, optimizer, loss=loss, geometry=task.geometry, logdir=path)

    def steps(numbers):
        for step in numbers:
            x, y = task.sample(16, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()

    steps(range(10))
    child = multiprocessing.get_context("fork").Process(
        target=lambda: (steps(range(5)), tracker.detach())
    )
    child.start()
    steps(range(10, 15))
    child.join()
    assert child.exitcode == 0
    with pytest.raises(ExpectedError, match="already writes to"):
        RunLock(path, "logdir")  # the child has not taken the lock away
    steps(range(15, 20))
    tracker.detach()


def test_a_forked_child_writes_nothing(tmp_path):
    assert Victims().run(in_a_forked_child, tmp_path / "mine") == 0
    loop(attached(tmp_path / "whole"))
    ours, theirs = (tmp_path / name / "history.jsonl" for name in ("mine", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


def die_with_a_forked_child(path, children):
    """Hold the lock, and leave a child behind that was forked meanwhile."""
    lock = RunLock(path, "logdir")
    receiver, sender = os.pipe()
    if (child := os.fork()) == 0:
        lock.release()
        os.write(sender, b"x")
        time.sleep(60)
    os.read(receiver, 1)
    children.write_text(str(child))
    with pytest.raises(ExpectedError, match="already writes to"):
        RunLock(path, "logdir")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_forked_child_neither_holds_nor_releases_the_lock(tmp_path):
    children = tmp_path / "children"
    assert Victims().run(die_with_a_forked_child, tmp_path, children) == -9
    try:
        RunLock(tmp_path, "logdir").release()
    finally:
        os.kill(int(children.read_text()), signal.SIGKILL)


def test_clocks_that_go_back(tmp_path, monkeypatch):
    """Ascending seconds, event files in order, and the same training."""
    now = [1e9]

    def back(*_):
        now[0] -= 100.0
        return now[0]

    monkeypatch.setattr(time, "time", back)
    monkeypatch.setattr(time, "monotonic", back)
    weights, tracker = loop(attached(tmp_path / "mine"))
    assert_equal(weights, loop()[0])
    assert tracker.history.steps.tolist() == list(range(20))
    seconds = rows(tmp_path / "mine/clock.jsonl", "seconds")
    assert seconds == sorted(seconds) and seconds[0] == 0
    again, _ = loop(lambda *parts: taken_up(tmp_path / "mine", *parts))
    assert_equal(again, weights)
    names = sorted(path.name for path in (tmp_path / "mine").glob("events.out.tfevents.*"))
    assert len(names) == 1  # started over: the first one's records are taken back


def taken_up(path, net, optimizer, loss, geometry):
    tracker = attach(net, optimizer, loss=loss, geometry=geometry, logdir=path, resume=True)
    tracker.start_over()
    return tracker


@pytest.mark.parametrize("where", ["data", "weights", "labels"])
def test_numbers_that_are_none(where, tmp_path):
    """A user's training goes on with its NaN exactly as without phasetrack."""

    def run(logdir=None):
        task, loss = XOR(8), LogisticLoss()
        net = TwoLayerNet(8, 8, seed=1)
        optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
        options = {"loss": loss, "geometry": task.geometry, "logdir": logdir}
        tracker = attach(net, optimizer, **options) if logdir else None
        for step in range(12):
            x, y = task.sample(16, seed=0, step=step)
            if step == 6:
                if where == "data":
                    x[3, 2] = math.nan
                elif where == "labels":
                    y[3] = math.nan
                else:
                    with torch.no_grad():
                        net.first.weight[0, 0] = math.nan
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        if tracker:
            tracker.detach()
        return net.state_dict(), tracker

    with warned() as lines:
        weights, tracker = run(tmp_path / "mine")
    for name, value in run()[0].items():
        assert torch.equal(weights[name].nan_to_num(7.0), value.nan_to_num(7.0))
    assert len(lines) <= 1
    assert tracker.history.steps.tolist() == list(range(12))
    steps = rows(tmp_path / "mine/history.jsonl", "step")
    assert steps == list(range(12))


def test_tensorboard_listens_on_this_machine_alone(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [COMMAND, "tensorboard", "--out", str(tmp_path), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            found = set()
            for _ in range(600):
                family = [process.pid, *(c.pid for c in psutil.Process(process.pid).children(True))]
                found = {
                    c.laddr.ip
                    for pid in family
                    for c in psutil.Process(pid).net_connections(kind="inet")
                    if c.status == psutil.CONN_LISTEN and c.laddr.port == port
                }
                if found:
                    break
                time.sleep(0.05)
            assert found and found <= {"127.0.0.1", "::1"}
        finally:
            for child in psutil.Process(process.pid).children(True):
                child.terminate()
            process.terminate()
