"""Systems that lack what Linux has, simulated: Windows and macOS."""

import os
import subprocess
import sys
import textwrap
import types
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.fake_gpu import PretendedGPU
from helpers.other_systems import POSIX_FLAGS, use_text_mode
from torch import nn

from phasetrack import attach, read_run
from phasetrack.display.html_report import write_report
from phasetrack.display.tensorboard import safe_folder
from phasetrack.display.tensorboard.run_store import RunStore
from phasetrack.storage import atomic_files
from phasetrack.storage.checkpoint import load_checkpoint, save_checkpoint
from phasetrack.storage.directory import write_json
from phasetrack.storage.history_sink import HistorySink
from phasetrack.tasks import XOR


@pytest.fixture
def text_mode(monkeypatch):
    """A file opened without O_BINARY turns every line feed into two characters, as on Windows."""
    return use_text_mode(os, partial(monkeypatch.setattr, raising=False))


@pytest.mark.usefixtures("text_mode")
def test_files_are_written_byte_by_byte(tmp_path):
    state = {"weights": torch.arange(2000.0)}
    save_checkpoint(tmp_path, state)
    assert torch.equal(load_checkpoint(tmp_path / "checkpoint.pt")["weights"], state["weights"])
    write_json(tmp_path / "config.json", {"a": 1})
    assert b"\r" not in (tmp_path / "config.json").read_bytes()
    sink = HistorySink(tmp_path / "history.jsonl")
    sink._file.append(b'{"step": 0}\n')
    sink.close({}, None)
    assert (tmp_path / "history.jsonl").read_bytes() == b'{"step": 0}\n'


def test_the_simulated_text_mode_damages_other_files(text_mode, tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"a\n")
    os.close(descriptor)
    text_mode.clear()
    assert (tmp_path / "file").read_bytes() == b"a\r\n"


def test_a_folder_that_cannot_be_opened_needs_no_sync(tmp_path, monkeypatch):
    opened = os.open

    def open_file(path, *rest, **named):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_file)
    save_checkpoint(tmp_path, {"a": 1})
    assert load_checkpoint(tmp_path / "checkpoint.pt")["a"] == 1


def test_macos_is_asked_to_empty_the_disks_own_memory(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(atomic_files, "_FULL_SYNC", 51)
    monkeypatch.setattr(
        atomic_files, "fcntl", types.SimpleNamespace(fcntl=lambda _, what: asked.append(what))
    )
    atomic_files.replace_file(tmp_path / "file", b"x", sync=True)
    assert asked == [51, 51]  # the file, and its name


def make_run(path, records=3):
    path.mkdir()
    write_json(path / "config.json", {})
    lines = (f'{{"step": {step}, "loss/train": 1.0}}\n' for step in range(records))
    (path / "history.jsonl").write_text("".join(lines))


def test_tensorboard_starts_without_posix_flags(tmp_path):
    make_run(tmp_path / "run")
    code = f"""
        import os, sys
        import tensorboard.default as default
        for name in {POSIX_FLAGS}: delattr(os, name)
        sys.modules["fcntl"] = None
        from phasetrack.display.tensorboard.plugin import PhasesPlugin
        assert "phases" in [plugin.plugin_name for plugin in default.get_plugins()
                            if hasattr(plugin, "plugin_name")]
        class Context: logdir = sys.argv[1]
        plugin = PhasesPlugin(Context())
        (run,) = plugin._runs({{}})["runs"]
        print(run["id"], run["state"], plugin._run({{"run": "run"}}).series()["count"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.split() == ["run", "stopped", "3"]


def test_a_tab_that_cannot_read_runs_leaves_tensorboard_alone(tmp_path):
    code = """
        import sys
        sys.modules["phasetrack.display.tensorboard.run_store"] = None
        from phasetrack.display.tensorboard.plugin import PhasesPlugin
        class Context: logdir = sys.argv[1]
        plugin = PhasesPlugin(Context())
        print(plugin.is_active(), plugin._runs({})["problem"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.startswith("False phasetrack cannot read runs on this system")


@pytest.mark.parametrize("by_descriptor", [True, False], ids=["descriptor", "name"])
def test_links_are_refused_however_files_are_opened(tmp_path, monkeypatch, by_descriptor):
    monkeypatch.setattr(safe_folder, "_BY_DESCRIPTOR", by_descriptor)
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    (tmp_path / "elsewhere" / "secret").write_text("{}")
    (tmp_path / "elsewhere" / "inner" / "secret").write_text("{}")
    run = tmp_path / "run"
    make_run(run)
    (run / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (run / "folder").symlink_to(tmp_path / "elsewhere" / "inner")
    folder = safe_folder.RunFolder(run)
    assert folder.read("config.json") == {}
    for name in ("link", "folder/secret"):
        with pytest.raises(OSError, match="not followed"):
            folder.open(str(run / name), os.O_RDONLY)
    assert folder.names("folder") == [] == folder.names("missing")
    (run / "neurons").mkdir()
    (run / "neurons" / "step-000000003.npz").touch()
    assert folder.names("neurons") == ["step-000000003.npz"]
    run.rename(tmp_path / "moved")
    run.symlink_to(tmp_path / "elsewhere")
    assert not folder.there()
    with pytest.raises(OSError, match=r"replaced|symbolic|Too many|Not a directory"):
        folder.open(str(run / "secret"), os.O_RDONLY)
    assert folder.names("inner") == []


# the pretended device hides its memory, by which a pass is followed
@pytest.mark.filterwarnings("ignore:.*did not multiply its inputs")
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_a_device_without_float64_is_followed(tmp_path, kind, micro_batches):
    task, loss = XOR(8), nn.BCEWithLogitsLoss()

    def trained(device):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)).to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5, foreach=False)
        logdir = tmp_path / torch.device(device).type
        options = {"loss": loss, "geometry": task.geometry, "logdir": logdir, "strict": True}
        with attach(net, optimizer, **options) as tracker:
            for step in range(6):
                optimizer.zero_grad()
                x, y = task.sample(64, seed=0, step=step)
                for part in range(micro_batches):
                    rows = slice(part, None, micro_batches)
                    outputs = net(x[rows].to(device)).squeeze(-1)
                    (loss(outputs, (y[rows] > 0).float().to(device)) / micro_batches).backward()
                optimizer.step()
        return tracker.history

    with PretendedGPU(kind):
        there = trained(kind)
    here = trained("cpu")
    assert there.count == 6 and set(there) == set(here)
    for name in ("loss/train", "heaviness/zeta_star", "margin/min"):
        assert there[name] == pytest.approx(here[name], rel=1e-4, abs=1e-5, nan_ok=True)
    assert read_run(tmp_path / kind).history.count == 6
    write_report([tmp_path / kind], tmp_path / "report.html")
    (listed,) = RunStore(tmp_path / kind).runs()["runs"]
    assert (listed["state"], listed["problem"]) == ("finished", "")
