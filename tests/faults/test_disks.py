"""Disks that are full, read-only, or gone: training is the same to the bit, and says it once."""

import errno
import json
import shutil
import subprocess
import warnings
from contextlib import ExitStack, contextmanager

import pytest
import torch
from helpers.breaking import Fault, struck
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from phasetrack import ExpectedError, LogisticLoss, RunSettings, TwoLayerNet, attach, read_run
from phasetrack.storage.neuron_sink import read_neurons, saved_neurons
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.tracking.tracker import TrackingWarning
from phasetrack.training.run import resume, train

SETTINGS = RunSettings(d=8, width=8, batch=16, steps=20, snapshots=3)
PREDICTED = predict(XOR(SETTINGS.d).geometry, SETTINGS)
FILES = ["history.jsonl", "clock.jsonl", "events.out.tfevents", "neurons", "weights"]
FAILURES = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}


def run(out, name="run", **options):
    chosen = {"predicted": PREDICTED, "checkpoint_steps": 5, "threads": 1} | options
    return train(SETTINGS, out=out, name=name, **chosen)


@contextmanager
def warned():
    """Every phasetrack warning, as text."""
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    lines += [str(w.message) for w in caught if issubclass(w.category, TrackingWarning)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return out / "run"


def model(path):
    return torch.load(path / "checkpoint.pt", weights_only=True)["model"]


def assert_readable(path, whole):
    """What is there is what a whole run has there."""
    for name in ("history.jsonl", "clock.jsonl"):
        content = (path / name).read_bytes()
        assert content == b"" or content.endswith(b"\n")
        assert all(isinstance(json.loads(line), dict) for line in content.splitlines())
    assert (whole / "history.jsonl").read_bytes().startswith((path / "history.jsonl").read_bytes())
    for file in path.glob("events.out.tfevents.*"):
        list(EventFileLoader(str(file)).Load())  # raises on half a record
    for step in saved_neurons(path):
        assert len(read_neurons(path, step)["perp"]) == SETTINGS.width
    for file in (path / "weights").glob("*.pt"):
        torch.load(file, weights_only=True)
    read_run(path)


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("file", FILES)
def test_a_sink_whose_disk_fails(file, at, failure, whole, tmp_path):
    calls = ("write",) if failure != "read-only" else ("open", "write")
    # the first call opens the file or writes its beginning, without which nothing is begun
    late = at + (1 if file in FILES[:3] and failure == "read-only" else 0)
    # an event file is opened again for each flush, the first of which writes its head
    late += (2 if failure == "read-only" else 1) if file == FILES[2] else 0
    with warned() as lines, struck(Fault(late, FAILURES[failure], calls, path=f"run/{file}")):
        summary = run(tmp_path)
    assert summary["stopped"] == "steps" and summary["steps"] == SETTINGS.steps
    path = tmp_path / "run"
    for name, weights in model(whole).items():
        assert torch.equal(model(path)[name], weights)
    assert_readable(path, whole)
    failed = [line for line in lines if "failed and is switched off" in line]
    assert len(failed) == len(lines) <= 1
    assert failed or (file, at) in (("clock.jsonl", 4), ("events.out.tfevents", 4))


@pytest.mark.parametrize("file", ["checkpoint", "summary"])
def test_what_a_run_leaves_cannot_be_written(file, whole, tmp_path):
    with warned() as lines, struck(Fault(0, errno.ENOSPC, ("write",), path=file)):
        summary = run(tmp_path)
    assert summary["stopped"] == "steps" and len(lines) == 1
    assert "could not be written, training goes on" in lines[0]
    assert (tmp_path / "run/history.jsonl").read_bytes() == (whole / "history.jsonl").read_bytes()
    assert not list((tmp_path / "run").glob(".*"))


def test_a_disk_that_was_full_for_a_while(whole, tmp_path):
    """The run is taken up from the last checkpoint that its files go with."""
    with warned() as lines, struck(Fault(12, errno.ENOSPC, ("write",), path="history.jsonl")):
        run(tmp_path)
    assert len(lines) == 1
    with warned() as lines:
        resume(tmp_path / "run", predicted=PREDICTED)
    assert "resuming from checkpoint.previous.pt, step 10" in lines[0]
    for name in ("history.jsonl", "weights/step-000000018.pt"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_real_file_system_that_fills_up(whole, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root; the simulated full disks above need nothing")
    try:
        with warned() as lines:
            summary = run(small)
        assert summary["steps"] == SETTINGS.steps and summary["stopped"] == "steps"
        assert "No space left" in lines[0]
        assert len(lines) == len(set(lines)) < 10
        assert_readable(small / "run", whole)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def loop(tracker_of=None, each=None):
    """A user's own loop; the weights at its end."""
    task, loss = XOR(8), LogisticLoss()
    net = TwoLayerNet(8, 8, seed=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    tracker = tracker_of(net, optimizer, loss, task.geometry) if tracker_of else None
    for step in range(20):
        x, y = task.sample(16, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if each is not None:
            each(step)
    if tracker is not None:
        tracker.detach()
    return net.state_dict(), tracker


def attached(path, **options):
    def of(net, optimizer, loss, geometry):
        return attach(net, optimizer, loss=loss, geometry=geometry, logdir=path, **options)

    return of


def assert_equal(one, other):
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_log_directory_that_is_deleted_under_a_run(tmp_path):
    path = tmp_path / "mine"
    with warned() as lines:
        weights, tracker = loop(attached(path), each=lambda step: step == 9 and shutil.rmtree(path))
    assert_equal(weights, loop()[0])
    assert tracker.history.steps.tolist() == list(range(20))
    assert any("HistorySink failed" in line and "deleted" in line for line in lines)
    assert len(lines) == len(set(lines)) <= 4
    assert not path.exists()


def test_a_log_directory_that_becomes_read_only(tmp_path):
    """Root may write anyway; the system calls fail as they do for everybody else."""
    with warned() as lines, struck(Fault(8, errno.EROFS, ("open", "write"), path="mine/")):
        weights, tracker = loop(attached(tmp_path / "mine"))
    assert_equal(weights, loop()[0])
    assert tracker.history.steps.tolist() == list(range(20))
    assert len(lines) == len(set(lines)) <= 6 and "HistorySink failed" in "".join(lines)


def test_a_file_that_somebody_else_writes_to(tmp_path):
    def vandal(step):
        if step == 9:
            (tmp_path / "mine/history.jsonl").write_text("mine\n")

    with warned() as lines:
        weights, _ = loop(attached(tmp_path / "mine"), each=vandal)
    assert_equal(weights, loop()[0])
    assert len(lines) == 1 and "changed by another writer" in lines[0]


def test_strict_raises_instead(tmp_path):
    fault = Fault(8, errno.ENOSPC, ("write",), path="history.jsonl")
    with ExitStack() as until:

        def of(*objects):
            return until.enter_context(attached(tmp_path / "mine", strict=True)(*objects))

        with struck(fault), pytest.raises(OSError, match="No space left"):
            loop(of)


@pytest.mark.parametrize("link", ["history.jsonl", "clock.jsonl", "neurons"])
def test_links_in_a_run_directory_lead_nowhere(link, tmp_path):
    """A run directory from elsewhere must not have files overwritten outside of it."""
    (tmp_path / "mine").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir() if link == "neurons" else outside.write_text("precious")
    (tmp_path / "mine" / link).symlink_to(outside)
    try:
        with warned():
            loop(attached(tmp_path / "mine", resume=True))
    except ExpectedError as error:
        assert link != "neurons" and "is not a regular file" in str(error)
    if link == "neurons":
        assert list(outside.iterdir()) == []
    else:
        assert outside.read_text() == "precious"
