"""Files that grow: held open, or opened for each flush."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import phasetrack
from phasetrack.storage.atomic_files import AppendFile


@pytest.fixture(params=[False, True], ids=["held", "seldom"])
def seldom(request):
    return request.param


def test_records_follow_each_other(tmp_path, seldom, monkeypatch):
    file = AppendFile(tmp_path / "file", seldom=seldom)
    file.append(b"a\n")
    file.flush()
    monkeypatch.chdir(tmp_path.parent)
    file.append(b"b\n")
    position = file.position
    file.append(b"c\n")
    file.close()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"a\nb\nc\n"
    again = AppendFile(tmp_path / "file", resume=True, seldom=seldom)
    again.check(position)
    again.rewind(position)
    again.append(b"d\n")
    again.sync()
    again.close()
    assert (tmp_path / "file").read_bytes() == b"a\nb\nd\n"


def test_a_relative_path_names_the_same_file_in_another_directory(tmp_path, seldom, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = AppendFile(Path("file"), seldom=seldom)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    file.append(b"a\n")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"a\n"


@pytest.mark.parametrize("replaced", [None, b"", b"a\n"], ids=["deleted", "empty", "equal"])
def test_another_file_of_the_name_is_left_alone(tmp_path, seldom, replaced):
    path = tmp_path / "file"
    file = AppendFile(path, seldom=seldom)
    file.append(b"a\n")
    file.flush()
    path.rename(tmp_path / "kept")
    if not seldom:  # a file that is held is missed once it has no name
        (tmp_path / "kept").unlink()
    if replaced is not None:
        path.write_bytes(replaced)
    file.append(b"b\n")
    with pytest.raises(FileNotFoundError, match="deleted while phasetrack wrote it"):
        file.flush()
    assert replaced is None or path.read_bytes() == replaced
    file.abandon()


def test_a_link_of_the_name_is_not_followed(tmp_path):
    path = tmp_path / "file"
    file = AppendFile(path, seldom=True)
    path.unlink()
    (tmp_path / "precious").write_bytes(b"")
    path.symlink_to(tmp_path / "precious")
    file.append(b"a\n")
    with pytest.raises(OSError, match=r"symbolic|deleted"):
        file.flush()
    assert (tmp_path / "precious").read_bytes() == b""


def test_a_file_that_is_opened_seldom_holds_no_descriptor(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    files = [AppendFile(tmp_path / str(number), seldom=True) for number in range(5)]
    for file in files:
        file.append(b"a\n")
        file.flush()
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed in /proc")
def test_a_tracker_holds_two_open_files(tmp_path):
    task, loss = phasetrack.tasks.XOR(d=8), phasetrack.LogisticLoss()
    net = phasetrack.TwoLayerNet(d=8, width=8)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=task.geometry, logdir=tmp_path / "run"
    ) as tracker:
        for step in range(4):
            x, y = task.sample(16, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        tracker.sync()
        held = []
        for entry in os.scandir("/proc/self/fd"):
            with suppress(OSError):  # the listing's own
                held.append(Path(entry.path).readlink())
    inside = sorted(path.name for path in held if path.is_relative_to(tmp_path))
    assert inside == [".lock", "history.jsonl"]
