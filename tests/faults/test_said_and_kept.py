"""What happened to a run is written down, and neither a terminal nor a thread ends it."""

import errno
import gc
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from helpers.breaking import Fault, struck
from rich.console import Console

from phasetrack import LogisticLoss, RunSettings, TwoLayerNet, attach, train
from phasetrack.tasks import XOR
from phasetrack.tracking import guard
from phasetrack.training.run import resume
from phasetrack.training.stop_signals import StopSignals
from phasetrack_cli import main as command
from phasetrack_cli import server
from phasetrack_cli.output import LastingStream, lasting_streams
from phasetrack_cli.panels import print_summary

SETTINGS = RunSettings(task="and", d=6, width=4, batch=8, steps=4)
TASK = XOR(6)


def test_each_resumption_is_written_down_and_differences_are_said(tmp_path):
    train(SETTINGS, out=tmp_path, name="run", threads=1)
    config = tmp_path / "run" / "config.json"
    begun = json.loads(config.read_text())
    begun["versions"]["torch"] = "1.0"
    config.write_text(json.dumps(begun))
    with pytest.warns(UserWarning, match=r"threads 1 then, 2 now.*torch 1\.0 then"):
        resume(tmp_path / "run", threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the same as the time before
        resume(tmp_path / "run", threads=2)
    found = json.loads(config.read_text())
    assert {name: found[name] for name in begun} == begun
    assert [(each["step"], each["machine"]["threads"]) for each in found["resumed"]] == [(4, 2)] * 2
    assert found["resumed"][0]["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "file, code", [("history.jsonl", 3), (".summary.json.new", 3), ("neurons", 0)]
)
def test_a_run_without_its_history_or_summary_has_its_own_exit_code(
    tmp_path, monkeypatch, capfd, file, code
):
    line = f"run and --d 6 --width 4 --batch 8 --steps 4 --threads 1 --out {tmp_path} --name run"
    monkeypatch.setattr("sys.argv", ["phasetrack", *line.split()])
    fault = Fault(kind=errno.ENOSPC, calls=("write",), path=file)
    with struck(fault), pytest.raises(SystemExit) as end, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command.main()
    assert end.value.code == code
    assert ("could not be written whole" in capfd.readouterr().err) == (code == 3)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_ends_a_run_like_a_termination():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run by nohup
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signals.received == "terminated"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:  # under nohup
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received == ""
    finally:
        signal.signal(signal.SIGHUP, before)


LOOP = """
    import sys, torch, phasetrack
    from phasetrack.tasks import XOR
    torch.set_num_threads(1)
    task, loss = XOR(6), phasetrack.LogisticLoss()
    net = phasetrack.TwoLayerNet(6, 8, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    tracker = phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry, logdir=sys.argv[1])
    for step in range(20):
        x, y = task.sample(16, seed=0, step=step)
        optimizer.zero_grad(); loss(net(x), y).backward(); optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "1 / 0"], ids=["its end", "an error"])
def test_a_script_that_ends_without_detach_leaves_whole_files_and_no_lock(tmp_path, end):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    code = textwrap.dedent(LOOP) + end
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], check=False, stderr=subprocess.DEVNULL
    )
    run = tmp_path / "run"
    assert len((run / "history.jsonl").read_text().splitlines()) == 20
    (events,) = run.glob("events*")
    loaded = EventFileLoader(str(events)).Load()
    assert sum(value.tag == "loss/train" for e in loaded for value in e.summary.value) == 20
    assert not (run / ".lock").exists()


def test_a_tracker_that_is_dropped_leaves_whole_files_and_no_lock(tmp_path):
    gc.disable()  # a collection in between may have the files closed before the tracker
    try:
        tracker, step = follow(logdir=tmp_path / "run")
        for number in range(5):
            step(number)
        del tracker, step
        gc.collect()
    finally:
        gc.enable()
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 5
    assert not (tmp_path / "run" / ".lock").exists()


def follow(**options):
    torch.manual_seed(0)
    net, loss = TwoLayerNet(6, 8, seed=0), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    tracker = attach(net, optimizer, loss=loss, geometry=TASK.geometry, **options)

    def step(number):
        x, y = TASK.sample(16, seed=0, step=number)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    return tracker, step


@pytest.mark.parametrize("closed", [False, True], ids=["errors", "closed standard error"])
def test_no_warning_ends_the_training(tmp_path, monkeypatch, closed):
    monkeypatch.undo()  # of the suite's own rule
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    tracker, step = follow(logdir=tmp_path / "run", block=1)
    (tmp_path / "run" / "history.jsonl").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if closed:
            said.close()
        for number in range(3):
            step(number)
        tracker.detach()
    assert tracker.history.count == 3
    assert closed or "HistorySink failed" in said.getvalue()
    assert guard.TrackingWarning  # the warning's own kind is still public


def test_threads_may_read_and_detach_while_one_trains(tmp_path):
    tracker, step = follow(logdir=tmp_path / "run")
    step(0)
    problems, ended = [], threading.Event()

    def look():
        try:
            while not ended.is_set():
                assert tracker.summary()["steps"] >= 0 and tracker.phase
                tracker.state_dict()
        except Exception as error:
            problems.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    watchers = [threading.Thread(target=look) for _ in range(2)]
    try:
        for watcher in watchers:
            watcher.start()
        for number in range(1, 150):
            step(number)
    finally:
        ended.set()
        for watcher in watchers:
            watcher.join()
        sys.setswitchinterval(interval)
    assert problems == [] and tracker.complete
    other = threading.Thread(target=tracker.detach)
    other.start()
    other.join()
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(150))


# --- terminals


class Failing(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, _):
        raise OSError(self.number, os.strerror(self.number))

    def flush(self):
        self.write("")


@pytest.mark.parametrize(
    "number, line, code",
    [
        (errno.EPIPE, "list --out {0}", 0),
        (errno.ENOSPC, "list --out {0}", 1),
        (errno.ENOSPC, "run and --d 6 --width 4 --batch 8 --steps 4 --out {0} --name run", 0),
    ],
)
def test_output_that_cannot_be_written_ends_no_command(tmp_path, monkeypatch, number, line, code):
    monkeypatch.setattr("sys.argv", ["phasetrack", *line.format(tmp_path).split()])
    monkeypatch.setattr(sys, "stdout", Failing(number))
    with pytest.raises(SystemExit) as end:
        command.main()
    assert (end.value.code or 0) == code
    assert line[0] == "l" or (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_summary_is_shown_on_a_terminal_of_any_encoding(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    timeline = [
        {"phase": "SIGNAL_FINDING", "start": 0, "end": 4},
        {"phase": "SIGNAL_HEAVY", "start": 5, "end": 9},
    ]
    with lasting_streams() as (stream, *_):
        console = Console(force_terminal=True, width=60)
        print_summary(console, {"phase": "FITTED", "timeline": timeline}, "ünï-日本")
        assert stream.lost is None
    shown = raw.getvalue().decode(encoding)
    assert "SIGNAL_HEAVY" in shown
    assert ("----" in shown and "====" in shown) == (encoding != "utf-8")


def test_a_stream_keeps_what_is_its_own():
    stream = LastingStream(io.StringIO())
    stream.write("a")
    stream.flush()
    assert stream.getvalue() == "a" and not stream.isatty() and stream.lost is None


def test_tensorboard_takes_the_place_of_the_command(tmp_path, monkeypatch):
    became = []
    monkeypatch.setattr(server, "os", SimpleNamespace(execv=lambda *given: became.append(given)))
    server.tensorboard(tmp_path, port=0)
    ((program, line),) = became
    assert program == sys.executable == line[0]
    *rest, port = line[-6:]
    assert rest == ["--logdir", str(tmp_path), "--host", "localhost", "--port"]
    assert int(port) > 0  # a free one, named in the address that is printed
