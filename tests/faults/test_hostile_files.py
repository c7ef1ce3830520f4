"""A run directory from elsewhere is data: whatever is in it, it is read or refused in one line."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fuzzing import fuzzed, json_values, mutated, mutated_json
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from phasetrack import ExpectedError, PhasetrackError, RunSettings, read_run, train
from phasetrack.display.run_comparison import compare
from phasetrack.storage.checkpoint import load_checkpoint, save_checkpoint
from phasetrack.storage.clock_sink import read_clock
from phasetrack.storage.directory import recorded_settings
from phasetrack.storage.neuron_sink import read_neurons, saved_neurons
from phasetrack.storage.results import read_results
from phasetrack.storage.weight_store import read_weights
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.tracking.replay import replay
from phasetrack_cli.panels import print_summary
from phasetrack_cli.run_table import listed, run_table

SETTINGS = RunSettings(d=6, width=6, batch=16, steps=8, snapshots=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    predicted = predict(XOR(SETTINGS.d).geometry, SETTINGS)
    train(SETTINGS, out=out, name="run", predicted=predicted, checkpoint_steps=4)
    return out / "run"


@pytest.fixture(scope="module")
def copied(made, tmp_path_factory):
    """One copy for all examples; each writes its own file and puts the good one back."""
    path = tmp_path_factory.mktemp("copied") / "run"
    shutil.copytree(made, path)
    return path


def look_at(path):
    """Everything that reads a run without training."""
    run = read_run(path)
    summary = run.summary or run.summarise()
    run.summarise()
    run.relabel()
    for width in (40, 100):
        for terminal in (True, False):
            console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
            print_summary(console, summary, run.name)
            console.print(run_table([listed(read_results(path))]))
            assert terminal or "\x1b" not in console.file.getvalue()
    compare([run.config, run.config], [summary, summary])
    recorded_settings(run.config, path)
    read_clock(path / "clock.jsonl")


def refuses_or_reads(read, *arguments):
    try:
        read(*arguments)
    except PhasetrackError as error:
        line = str(error)
        assert line and "\n" not in line and "\x1b" not in line and len(line) < 3000


class Replaced:
    """A file with other content, for as long as it is looked at."""

    def __init__(self, path, content):
        self._path, self._content = path, content

    def __enter__(self):
        self._before = self._path.read_bytes()
        self._path.write_bytes(self._content)

    def __exit__(self, *_):
        self._path.write_bytes(self._before)


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
@fuzzed
@given(data=st.data())
def test_json_of_any_kind(file, copied, made, data):
    content = data.draw(mutated_json((made / file).read_text()))
    with Replaced(copied / file, content):
        refuses_or_reads(look_at, copied)


@pytest.mark.parametrize("file", ["config.json", "summary.json", "history.jsonl", "clock.jsonl"])
@fuzzed
@given(data=st.data())
def test_bytes_of_any_kind(file, copied, made, data):
    content = data.draw(mutated((made / file).read_bytes()) | st.binary(max_size=200))
    with Replaced(copied / file, content):
        refuses_or_reads(look_at, copied)


@fuzzed
@given(rows=st.lists(json_values(), max_size=8))
def test_history_lines_of_any_kind(copied, rows):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with Replaced(copied / "history.jsonl", content):
        refuses_or_reads(look_at, copied)


@fuzzed
@given(data=st.data())
def test_checkpoints_of_any_kind(made, tmp_path, data):
    content = data.draw(mutated((made / "checkpoint.pt").read_bytes()))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    refuses_or_reads(load_checkpoint, path)


@fuzzed
@given(data=st.data())
def test_neurons_of_any_kind(made, tmp_path, data):
    step = saved_neurons(made)[1]
    (tmp_path / "neurons").mkdir(exist_ok=True)
    file = tmp_path / "neurons" / f"step-{step:09}.npz"
    content = data.draw(mutated((made / "neurons" / file.name).read_bytes()))
    file.write_bytes(content)
    refuses_or_reads(read_neurons, tmp_path, step)


@fuzzed
@given(data=st.data())
def test_weights_of_any_kind(copied, made, data):
    file = data.draw(st.sampled_from(sorted(p.name for p in (made / "weights").iterdir())))
    content = data.draw(mutated((made / "weights" / file).read_bytes()))
    with Replaced(copied / "weights" / file, content):
        refuses_or_reads(read_weights, copied)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "file, content, complaint",
    [
        ("config.json", b"{" * 10, "is damaged: "),
        ("config.json", DEEP, "is damaged: "),
        ("summary.json", b'{"a": ' + DEEP + b"}", "is damaged: "),
        ("config.json", b"\xff\xfe", "is damaged: "),
        ("config.json", b"[]", "holds a JSON list, not an object"),
        ("config.json", b" " * (2**25 + 1), "33554433 bytes, more than 33554432"),
        ("config.json", b'{"settings": 3}', r"is not valid: .*`\$\.settings`"),
        ("config.json", b'{"escape_steps": "soon"}', r"is not valid: .*`\$\.escape_steps`"),
        (
            "config.json",
            b'{"versions": {"torch": "\\u001b]0;x"}}',
            "a text with control characters, .*x1b",
        ),
        ("summary.json", b"{}" * 2, "is damaged: "),
        ("summary.json", b'{"phase": "BORED"}', r"is not valid: .*'BORED'.*`\$\.phase`"),
        ("summary.json", b'{"directory": []}', r"Expected `str`, got `array` - at `\$\.directory`"),
        (
            "summary.json",
            b'{"seconds": "1"}',
            r"Expected `int \| float`, got `str` - at `\$\.seconds`",
        ),
        (
            "summary.json",
            b'{"loss_halving_step": {}}',
            r"Expected `float`, got `object` - at `\$\.loss_halving_step`",
        ),
        (
            "summary.json",
            b'{"matmul": {"path": 1}}',
            r"Expected `str`, got `int` - at `\$\.matmul\.path`",
        ),
        (
            "summary.json",
            b'{"growth": {"a": {}}}',
            r"missing required field `measured` - at `\$\.growth",
        ),
        ("history.jsonl", DEEP + b"\n", "is damaged: line 1: RecursionError"),
        ("history.jsonl", b'{"step": 1e999}\n', "is damaged: line 1: OverflowError"),
        (
            "history.jsonl",
            b'{"step": 9999999999999999999999}\n',
            "is damaged: line 1: OverflowError",
        ),
        ("history.jsonl", b'{"step": 2}\n{"step": 1}\n', "line 2: .*step 1 follows step 2"),
        ("history.jsonl", b'{"step": 2, "a": "b"}\n', "is damaged: line 1: ValueError"),
        ("history.jsonl", b"x" * (2**24 + 2**21), "is damaged: line 1: longer than 16777216 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:30],
)
def test_files_that_no_run_wrote(file, content, complaint, copied):
    with Replaced(copied / file, content), pytest.raises(ExpectedError, match=complaint) as caught:
        look_at(copied)
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize("start, end", [(-9, 2), (10**18, 0), (0, -1), (5, 10**18)])
def test_a_timeline_that_is_none(start, end, copied):
    stretches = [{"phase": "FITTED", "start": start, "end": end}] * 3
    content = json.dumps({"steps": 3, "timeline": stretches}).encode()
    with Replaced(copied / "summary.json", content):
        refuses_or_reads(look_at, copied)


def test_a_history_whose_metrics_change_from_line_to_line(copied):
    """A small file must not fill the memory with gaps: 3,000 x 3,000 cells in 60 KB."""
    lines = "".join(f'{{"step": {n}, "{n}": 0}}\n' for n in range(3000)).encode()
    with (
        Replaced(copied / "history.jsonl", lines),
        pytest.raises(ExpectedError, match="more gaps than readings"),
    ):
        read_run(copied)


@pytest.mark.parametrize("file", ["config.json", "summary.json", "history.jsonl"])
def test_links_are_not_followed(file, made, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(made, path)
    (path / file).unlink()
    (path / file).symlink_to(made / file)
    with pytest.raises(ExpectedError, match="is not a regular file"):
        read_run(path)


def test_a_pipe_does_not_hang(made, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(made, path)
    (path / "history.jsonl").unlink()
    os.mkfifo(path / "history.jsonl")
    with pytest.raises(ExpectedError, match="is not a regular file"):
        read_run(path)


def test_folders_that_lead_elsewhere(made, tmp_path):
    for folder in ("neurons", "weights"):
        (tmp_path / folder).symlink_to(made / folder)
    assert saved_neurons(tmp_path) == []
    with pytest.raises(ExpectedError, match="weights' is not a directory"):
        read_weights(tmp_path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, witness):
        self._witness = witness

    def __reduce__(self):
        return Path.touch, (self._witness,)


def test_nothing_is_unpickled(made, tmp_path):
    witness, path = tmp_path / "witness", tmp_path / "run"
    shutil.copytree(made, path)
    for file in (path / "weights").glob("*.pt"):
        torch.save({"W": Trap(witness)}, file)
    with pytest.raises(ExpectedError, match="needs unpickling"):
        replay(path, *XOR(6).sample(8, seed=0, step=0))
    save_checkpoint(path, {"trap": Trap(witness)})
    with pytest.raises(ExpectedError, match="needs unpickling"):
        load_checkpoint(path / "checkpoint.pt")
    np.savez(path / "neurons/step-000000000.npz", perp=np.array([Trap(witness)], dtype=object))
    with pytest.raises(ExpectedError, match=r"step-000000000\.npz' is damaged"):
        read_neurons(path, 0)
    assert not witness.exists()
    torch.load(path / "checkpoint.pt", weights_only=False)
    assert witness.exists()  # the trap does work


def test_packed_files_are_refused_before_they_unpack(made, tmp_path):
    file = tmp_path / "step-000000000.pt"
    with (
        zipfile.ZipFile(made / "weights" / file.name) as old,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.namelist():
            new.writestr(part, old.read(part))
    (tmp_path / "weights").mkdir()
    shutil.copy(made / "weights/format.json", tmp_path / "weights")
    file.rename(tmp_path / "weights" / file.name)
    with pytest.raises(ExpectedError, match="is damaged"):
        read_weights(tmp_path)
