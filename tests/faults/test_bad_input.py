"""What people pass by mistake: one clear line, exit code 2 or an exception of phasetrack, nothing left."""

import math
import shlex
import sys

import pytest
import torch
from helpers.fuzzing import ODD_TEXTS, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import phasetrack
from phasetrack import (
    ClusterGeometry,
    ExpectedError,
    LogisticLoss,
    PhasetrackError,
    RunSettings,
    Thresholds,
    TwoLayerNet,
    TwoLayerView,
    attach,
)
from phasetrack.storage.checkpoint import CheckpointSchedule, load_checkpoint
from phasetrack.storage.directory import create_run_directory
from phasetrack.tasks import XOR
from phasetrack.tracking.replay import replay
from phasetrack.tracking.schedules import every, log_spaced
from phasetrack.training.run import resume, train
from phasetrack_cli.main import main

NUMBER = "is not a finite number"
# command line, after `phasetrack`; what the line must name: option, what is allowed, what was given
COMMANDS = [
    (f"show {'A' * 300}", f"{'A' * 80}: The path is too long (File name too long)."),
    ("run", "TASK: No value is given."),
    ("run nor", "TASK: 'nor' is not one of xor, and, or, "),
    ("run ''", "TASK: '' is not one of xor, and, or, "),
    ("run xor xor", "phasetrack run: Got unexpected extra argument"),
    *((f"run xor --d {v}", f"--d: {v} is not an integer from 2 to 1048576.") for v in (1, 0, -5, 2**21)),
    *((f"run xor --d {v}", f"--d: '{v}' is not an integer.") for v in ("many", "1.5", "1e3", "nan", "0x10")),
    ("run xor --d ''", "--d: '' is not an integer."),
    ("run xor --d", "phasetrack: Option '--d' requires an argument"),
    *((f"run xor --width {v}", f"--width: {v} is not an integer from 1 to 1048576.") for v in (0, -1, 2**30)),
    *((f"run xor --batch {v}", f"--batch: {v} is not an integer >= 1.") for v in (0, -3)),
    *((f"run xor --eta {v}", f"--eta: {v} {NUMBER} > 0.") for v in ("-1", "0", "nan", "inf", "-inf")),
    ("run xor --eta fast", "--eta: 'fast' is not a number."),
    *((f"run xor --theta {v}", f"--theta: {v} {NUMBER} > 0.") for v in ("-1", "0", "nan", "inf")),
    *((f"run xor --steps {v}", f"--steps: {v} is not an integer >= 1.") for v in (0, -1)),
    *((f"run xor --seed {v}", f"--seed: {v} is not an integer from 0 to 9223372036854775807.") for v in (-1, 2**64)),
    ("run xor --train none", "--train: 'none' is not one of both, first, second."),
    *((f"run xor --target {v}", f"--target: {v} {NUMBER} >= 1e-06 and <= 1.38629.") for v in ("0", "-1", "3", "nan")),
    *((f"run xor --every {v}", f"--every: {v} is not an integer >= 1.") for v in (0, -2)),
    ("run xor --micro-batch 0", "--micro-batch: 0 is not an integer >= 1."),
    ("run xor --micro-batch 9999", "--micro-batch: 9999 is larger than the batch, 2048."),
    ("run xor --snapshots 0", "--snapshots: 0 is not an integer >= 1."),
    ("run xor --shuffle-labels=yes", "phasetrack: Option '--shuffle-labels' does not take a value"),
    *((f"run xor --device {v}", "--device: '" + v.strip("'") + "' is not a device.") for v in ("abacus", "meta", "''", "mps")),
    ("run xor --device cuda:99", "--device: 'cuda:99' is not there"),
    *((f"run xor --threads {v}", f"--threads: {v} is not an integer from 1 to 4096.") for v in (0, -1, 10**6)),
    *((f"run xor --name {v}", f"--name: {v} is not a plain directory name.") for v in ("'a/b'", "'..'", "'.'", "'/x'", "''")),
    ("run xor --out taken", "--out: 'taken/"),
    *((f"run xor --checkpoint-steps {v}", f"--checkpoint-steps: {v} is not an integer >= 1.") for v in (0, -1)),
    *((f"run xor --checkpoint-seconds {v}", f"--checkpoint-seconds: {v} {NUMBER} >= 0.") for v in ("-1", "nan", "inf")),
    ("run xor --resume nowhere", "RUN: 'nowhere' is not a run directory: it has no config.json."),
    ("run xor --resume taken", "RUN: 'taken' is not a run directory: it has no config.json."),
    ("run xor --wide 3", "phasetrack run: No such option: --wide"),
    ("walk", "phasetrack: No such command 'walk'"),
    ("--fast", "phasetrack: No such option: --fast"),
    ("forecast", "TASK: No value is given."),
    ("forecast xor --d 0", "--d: 0 is not an integer from 2"),
    ("forecast xor --eta nan", f"--eta: nan {NUMBER} > 0."),
    ("forecast xor --target 3", f"--target: 3 {NUMBER}"),
    ("forecast xor --out runs", "phasetrack forecast: No such option: --out"),
    *((f"{c} nowhere", "RUN: 'nowhere' is not a run directory: it has no config.json.") for c in ("show", "plot", "replay", "compare")),
    ("report nowhere", "RUN: 'nowhere' is not a run directory: it has no config.json."),
    *((f"{c}", "RUN") for c in ("show", "plot", "replay")),
    ("show taken", "RUN: 'taken' is not a run directory: it has no config.json."),
    ("show ''", "RUN: '.' is not a run directory: it has no config.json."),
    ("plot nowhere --size huge", "RUN: 'nowhere' is not a run directory"),
    *((f"tensorboard --port {v}", f"--port: {v} is not an integer from 0 to 65535.") for v in (-1, 65536, 10**9)),
    ("tensorboard --port http", "--port: 'http' is not an integer."),
    ("tensorboard --out nowhere", "--out: 'nowhere' is not a folder."),
    ("inspect", "MODULE:FACTORY: No value is given."),
    ("inspect mine", "MODULE:FACTORY: 'mine' does not name a module and a factory."),
    ("inspect nowhere:make", "MODULE:FACTORY: The module 'nowhere' cannot be imported"),
    ("inspect torch.nn:Nothing", "MODULE:FACTORY: torch.nn has no 'Nothing'."),
    ("inspect torch.nn:ReLU --first a", "--second: Only --first is given."),
]  # fmt: skip


def call(line, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["phasetrack", *(shlex.split(line) if isinstance(line, str) else line)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return end.value.code, out, err


@pytest.mark.parametrize("line, complaint", COMMANDS, ids=[line for line, _ in COMMANDS])
def test_command_lines(line, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    code, out, err = call(line, monkeypatch, capsys)
    assert code == 2 and out == ""
    # paths are resolved where files are written
    assert err.replace(f"{tmp_path}/", "").startswith(complaint), err
    assert err.count("\n") == 1 and "Traceback" not in err and len(err) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def net():
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))


def follow(model=None, optimizer=None, **options):
    model = model or net()
    chosen = {"loss": LogisticLoss(), "geometry": XOR(8).geometry} | options
    attach(model, optimizer or torch.optim.SGD(model.parameters(), lr=0.1), **chosen)


EYE = torch.eye(4)
CALLS = {
    "settings d": (lambda: RunSettings(d=1.5), "d: 1.5 is not an integer from 2"),
    "settings bool": (lambda: RunSettings(width=True), "width: True is not an integer from 1"),
    "settings text": (lambda: RunSettings(eta="x"), "eta: 'x' is not a finite number > 0."),
    "settings none": (lambda: RunSettings(theta=None), "theta: None is not a finite number > 0"),
    "settings huge": (lambda: RunSettings(eta=10**400), "eta: inf is not a finite number > 0"),
    "settings switch": (
        lambda: RunSettings(shuffle_labels=1),
        "shuffle_labels: 1 is neither True nor False",
    ),
    "settings train": (lambda: RunSettings(train=None), "train: None is not one of both"),
    "settings task": (lambda: RunSettings(task="nor"), "task: 'nor' is not one of xor"),
    "settings batch": (lambda: RunSettings(batch=0), "batch: 0 is not an integer >= 1."),
    "settings steps": (lambda: RunSettings(steps=-1), "steps: -1 is not an integer >= 1."),
    "thresholds": (lambda: Thresholds(zeta_enter=-1), "zeta_enter: -1 is not a finite number > 0"),
    "thresholds order": (
        lambda: Thresholds(zeta_enter=2.0),
        "zeta_exit: 1 is not a finite number >= 2",
    ),
    "thresholds nan": (
        lambda: Thresholds(loss_target=math.nan),
        "loss_target: nan is not a finite",
    ),
    "thresholds patience": (
        lambda: Thresholds(patience=1.5),
        "patience: 1.5 is not an integer from 1",
    ),
    "every": (lambda: every(0), "every: 0 is not an integer >= 1."),
    "every text": (lambda: every("x"), "every: 'x' is not an integer >= 1."),
    "log spaced": (lambda: log_spaced(0), "per_decade: 0 is not an integer >= 1."),
    "log base": (lambda: log_spaced(3, base=1.0), "base: 1 is not a finite number > 1."),
    "xor": (lambda: XOR(1), "d: 1 is not an integer >= 2"),
    "geometry labels": (
        lambda: ClusterGeometry(EYE, torch.ones(3)),
        "labels: Labels of shape (3,) do not fit 4 centres.",
    ),
    "geometry nan": (
        lambda: ClusterGeometry(EYE * math.nan, torch.ones(4)),
        "centres: A centre has NaN",
    ),
    "geometry flat": (
        lambda: ClusterGeometry(torch.ones(4), torch.ones(4)),
        "centres: Shape (4,) is not a table",
    ),
    "attach dimension": (lambda: follow(geometry=XOR(9).geometry), "geometry: ClusterGeometry("),
    "attach every": (lambda: follow(every=0), "every: 0 is not an integer >= 1."),
    "attach snapshots": (lambda: follow(snapshots=3), "snapshots: No logdir is given"),
    "attach layers": (
        lambda: follow(layers=("a", "b")),
        "layers: The model has no layer or parameter 'a'.",
    ),
    "attach readout": (lambda: follow(readout=torch.ones(7)), "readout: Shape (7,) does not fit"),
    "attach one layer": (lambda: follow(nn.Linear(8, 1)), "model: The"),
    "attach deep": (
        lambda: follow(nn.Sequential(net(), nn.Linear(1, 1))),
        "model: The model has ",
    ),
    "attach convolution": (
        lambda: follow(nn.Conv2d(1, 1, 3)),
        "model: The model has no linear layers (it has Conv2d x1).",
    ),
    "attach other optimizer": (
        lambda: follow(optimizer=torch.optim.SGD(net().parameters(), lr=1.0)),
        "optimizer: The optimizer trains neither",
    ),
    "attach file": (lambda: follow(logdir="taken"), "logdir: 'taken' "),
    "attach under a file": (lambda: follow(logdir="taken/x"), "logdir: 'taken/x' "),
    "view": (
        lambda: TwoLayerView.of(nn.ReLU()),
        "model: The model has no linear layers (it has ReLU x1).",
    ),
    "train device": (
        lambda: train(RunSettings(d=8), device="tpu"),
        "device: 'tpu' is not a device.",
    ),
    "train name": (
        lambda: train(RunSettings(d=8), name="a/b"),
        "name: 'a/b' is not a plain directory",
    ),
    "train out": (lambda: train(RunSettings(d=8), out="taken"), "out: 'taken/"),
    "train threads": (lambda: train(RunSettings(d=8), threads=0), "threads: 0 is not an integer"),
    "train checkpoints": (
        lambda: train(RunSettings(d=8), checkpoint_steps=0),
        "checkpoint_steps: 0 is not an integer >= 1.",
    ),
    "resume": (lambda: resume("nowhere"), "run: 'nowhere' is not a run directory"),
    "read": (lambda: phasetrack.read_run("nowhere"), "run: 'nowhere' is not a run directory"),
    "read file": (lambda: phasetrack.read_run("taken"), "run: 'taken' is not a run directory"),
    "replay": (lambda: replay("nowhere", EYE, EYE[0]), "run: 'nowhere' holds no saved weights."),
    "directory": (lambda: create_run_directory(".", ""), "name: '' is not a plain directory name."),
    "checkpoint": (lambda: load_checkpoint("taken"), "resume: 'taken' is damaged"),
    "schedule": (lambda: CheckpointSchedule(steps=-1), "checkpoint_steps: -1 is not an integer"),
    "net": (lambda: TwoLayerNet(8, 0), "width: 0 is not an integer >= 1"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    call, complaint = CALLS[name]
    with pytest.raises(ExpectedError) as caught:
        call()
    line = str(caught.value)
    assert line.replace(f"{tmp_path}/", "").startswith(complaint), line
    assert "\n" not in line and len(line) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_tables_are_long():
    assert len(COMMANDS) + len(CALLS) >= 120


WORDS = st.sampled_from(
    ["xor", "--d", "--eta", "--theta", "--seed", "--train", "--target", "--json", "--zeta", "--out"]
)
VALUES = st.sampled_from(["0", "-1", "nan", "1e999", "9" * 400, "--", *ODD_TEXTS]) | st.text(
    max_size=6
)


@fuzzed
@given(
    command=st.sampled_from(["show", "list", "compare", "plot", "replay", "forecast"]),
    rest=st.lists(WORDS | VALUES, max_size=5),
)
def test_options_of_any_kind(command, rest, tmp_path, monkeypatch, capsys):
    """Whatever is typed: help, an answer, or one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    if command == "forecast":
        rest = ["xor", "--d", "1", *rest]  # never one that takes its time
    code, _, err = call([command, *rest], monkeypatch, capsys)
    assert code in (0, 2, None) and "Traceback" not in err
    assert code != 2 or err.count("\n") == 1, err


def test_every_error_has_one_base_class():
    assert issubclass(ExpectedError, PhasetrackError) and issubclass(ExpectedError, ValueError)
