"""The installed command: what it prints, its exit codes, and what it leaves behind."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command_line import COMMAND, call, call_here

import phasetrack

RUN = ["run", "xor", "--d", "32", "--width", "64"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return call(*RUN, "--out", out, "--name", "mine"), out


def test_a_run_tells_its_phases_off_a_terminal(made):
    done, out = made
    assert done.returncode == 0 and done.stderr == ""
    assert "\x1b" not in done.stdout
    for line in (
        r"step +\d+: SIGNAL_FINDING to SIGNAL_HEAVY",
        r"phase +FITTED",
        r"boundary +signal_heavy: onset [\d.]+, detected at step \d+",
        r"forecast +signal_heavy_onset [\d.]+ \[[\d.]+\.\.[\d.]+, 10 to 90 %\]",
        r"growth +signal_finding: measured 0\.\d+, predicted 0\.\d+",
    ):
        assert re.search(line, done.stdout), line
    assert phasetrack.read_run(out / "mine").summary["phase"] == "FITTED"


def test_show_prints_the_summary(made):
    _, out = made
    plain, as_json = call_here("show", out / "mine"), call_here("show", out / "mine", "--json")
    assert "phase     FITTED" in plain.stdout
    shown, kept = json.loads(as_json.stdout), phasetrack.read_run(out / "mine").summary
    assert shown["boundaries"] == kept["boundaries"] and set(shown) == set(kept)


def test_show_labels_again(made):
    _, out = made
    zeta = phasetrack.read_run(out / "mine").history["heaviness/zeta_star"]
    options = [
        "--zeta",
        0.2,
        "--threshold",
        "patience=3",
        "--threshold",
        "linear_exit=0.01",
        "--json",
    ]
    shown = json.loads(call_here("show", out / "mine", *options).stdout)
    found = {b["name"]: b for b in shown["boundaries"]}
    assert found["signal_heavy"]["detected"] == next(i for i, z in enumerate(zeta) if z <= 0.2)
    before = {b["name"]: b for b in phasetrack.read_run(out / "mine").summary["boundaries"]}
    assert found["linear_exit"]["onset"] < before["linear_exit"]["onset"]
    assert shown["thresholds"]["patience"] == 3
    assert shown["timeline"][0]["end"] + 1 == found["signal_heavy"]["detected"]


def test_forecast_prints_the_same_keys(made):
    _, out = made
    done = call_here("forecast", "xor", "--d", 32, "--width", 64, "--json")
    predicted, kept = json.loads(done.stdout), phasetrack.read_run(out / "mine").summary
    assert set(predicted) <= set(kept)
    assert predicted["forecast"] == kept["forecast"]  # the one that the run showed
    assert math.isfinite(predicted["forecast"]["signal_heavy_onset"]["value"])


@pytest.mark.slow
def test_list_and_plot(made, tmp_path, monkeypatch):
    _, out = made
    monkeypatch.setenv("COLUMNS", "200")
    assert re.search(r"mine +FITTED +\d+", call_here("list", "--out", out).stdout)
    assert json.loads(call_here("list", "--out", out, "--json").stdout)[str(out / "mine")]
    assert "make one with" in call_here("list", "--out", tmp_path).stdout
    for ending in ("png", "pdf"):
        file = tmp_path / f"figure.{ending}"
        assert call_here("plot", out / "mine", "--file", file).stdout.strip() == str(file)
        assert file.stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["run", "xor", "--d", "1"], "--d: 1 is not an integer from 2"),
        (["run", "xor", "--d", "many"], "--d: "),
        (["run", "xor", "--width", "0"], "--width: 0 is not an integer from 1"),
        (["run", "xor", "--batch", "0"], "--batch: 0 is not an integer >= 1"),
        (["run", "xor", "--eta", "-1"], "--eta: -1 is not a finite number > 0."),
        (["run", "xor", "--theta", "nan"], "--theta: nan is not a finite number > 0."),
        (["run", "xor", "--steps", "0"], "--steps: 0 is not an integer >= 1"),
        (["run", "xor", "--train", "none"], "--train: 'none' is not one of both, first, second"),
        (["run", "xor", "--every", "0"], "--every: 0 is not an integer >= 1"),
        (["run", "xor", "--device", "cuda:99"], "--device: 'cuda:99' is not there"),
        (["run", "xor", "--device", "abacus"], "--device: 'abacus' is not a device"),
        (["run", "xor", "--threads", "0"], "--threads: 0 is not an integer from 1"),
        (["run", "xor", "--name", "a/b"], "--name: 'a/b' is not a plain directory name."),
        (
            ["run", "xor", "--micro-batch", "9999"],
            "--micro-batch: 9999 is larger than the batch, 2048",
        ),
        (["run", "nor"], "TASK: 'nor' is not one of xor, and, or, majority"),
        (["run"], "TASK: No value is given"),
        (["run", "xor", "--wide", "3"], "phasetrack run: No such option: --wide"),
        (["walk"], "phasetrack: No such command 'walk'"),
        (["forecast", "xor", "--target", "3"], "--target: 3 is not a finite number"),
        (["show", "nowhere"], "RUN: 'nowhere' is not a run directory"),
        (["plot", "nowhere"], "RUN: 'nowhere' is not a run directory"),
        (["tensorboard", "--port", "99999"], "--port: 99999 is not an integer from 0 to 65535"),
        (["tensorboard", "--out", "nowhere"], "--out: 'nowhere' is not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, complaint, tmp_path):
    done = call_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(complaint) and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--zeta", "0"], "--zeta: 0 is not a finite number > 0."),
        (["--zeta", "2"], "--zeta-exit: 1 is not a finite number >= 2."),
        (["--target", "-1"], "--target: -1 is not a finite number > 0."),
        (
            ["--threshold", "nonsense"],
            "--threshold: 'nonsense' names no threshold. Write NAME=VALUE. NAME is one of zeta_enter",
        ),
        (["--threshold", "patience=x"], "--threshold: 'patience=x' holds no number"),
        (
            ["--threshold", "patience=0"],
            "--threshold: patience: 0 is not an integer from 1 to 10000.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_thresholds_are_one_line_too(made, options, complaint):
    done = call_here("show", made[1] / "mine", *options)
    assert done.returncode == 2 and done.stderr.startswith(complaint)


def test_an_existing_run_is_not_touched(made):
    _, out = made
    before = {path: path.stat().st_mtime_ns for path in (out / "mine").iterdir()}
    done = call_here(*RUN, "--out", out, "--name", "mine")
    assert done.returncode == 2
    assert done.stderr.startswith(f"--name: {str(out / 'mine')!r} already exists and is not empty.")
    assert before == {path: path.stat().st_mtime_ns for path in (out / "mine").iterdir()}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    done = call_here(*RUN, "--out", tmp_path / "file")
    assert done.returncode == 2 and done.stderr.startswith(f"--out: '{tmp_path}/file/")


def test_a_diverging_run_says_when_and_why(tmp_path):
    done = call_here(*RUN, "--eta", "50", "--out", tmp_path, "--name", "far")
    assert done.returncode == 1
    assert re.match(r"run: diverged at step \d+: loss [\d.e+]+, 1.3\d+ at the first", done.stderr)
    run = phasetrack.read_run(tmp_path / "far")
    assert "DIVERGED" in [a["name"] for a in run.summary["alerts"]]
    assert len(run.history.steps) > 1


@pytest.mark.slow
def test_ctrl_c_leaves_a_readable_run(tmp_path):
    arguments = [*RUN, "--steps", "100000", "--out", tmp_path, "--name", "long"]
    with subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        history = tmp_path / "long" / "history.jsonl"
        while process.poll() is None and not (history.exists() and history.stat().st_size > 10_000):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors
    run = phasetrack.read_run(tmp_path / "long")
    assert run.summary["stopped"] == "interrupted"
    assert len(run.history.steps) in (run.summary["steps"], run.summary["steps"] + 1)
    assert (tmp_path / "long" / "checkpoint.pt").exists()


OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1_0"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["list"], ["list", "--out", str(OLD)]],
    ids=" ".join,
)
def test_help_and_list_import_neither_torch_nor_numpy(arguments, tmp_path):
    code = (
        f"import sys; sys.argv = ['phasetrack', *{arguments!r}]\n"
        "from phasetrack_cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_list_reads_no_history_and_says_nothing_of_a_run_without_a_summary(made, tmp_path):
    _, out = made
    for name in ("ended", "stopped"):
        shutil.copytree(out / "mine", tmp_path / name)
        (tmp_path / name / "history.jsonl").write_text("damaged")
    (tmp_path / "stopped" / "summary.json").unlink()
    listed = call_here("list", "--out", tmp_path)
    assert re.search(r"ended +FITTED +\d+ .* finished", listed.stdout) and not listed.stderr
    assert re.search(r"stopped +- +- +- +- +- +stopped$", listed.stdout, re.MULTILINE)
    told = json.loads(call_here("list", "--out", tmp_path, "--json").stdout)
    assert told[str(tmp_path / "stopped")] == {"stopped": "stopped"}
    assert told[str(tmp_path / "ended")]["phase"] == "FITTED"


def test_a_run_is_shown_where_the_current_directory_was_deleted(made, tmp_path, monkeypatch):
    _, out = made
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    shown = call("show", out / "mine")
    assert shown.returncode == 0 and f"phasetrack plot {out / 'mine'}" in shown.stdout


def test_help_names_the_origin_of_every_default():
    shown = call("run", "--help", env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    for option in (
        "d",
        "width",
        "batch",
        "eta",
        "theta",
        "steps",
        "seed",
        "train",
        "every",
        "target",
    ):
        (line,) = re.findall(rf"^\W*--{option}[\s,].*", shown, re.MULTILINE)
        assert re.search(
            r"processor|paper|predicted|history|repeats|as many as|test error|loss at output 0",
            line,
        ), line


MODELS = """
from torch import nn

def good():
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))

def deep():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))

ready, wrong = good(), 3
"""


@pytest.mark.parametrize("name", ["good", "ready"])
def test_inspect_shows_the_two_layers(name, tmp_path):
    (tmp_path / "mine.py").write_text(MODELS)
    shown = call_here("inspect", f"mine:{name}", cwd=tmp_path).stdout
    for line in ("0: 6 -> 4 neurons, bias bias", "Tanh", "2: 4 -> logits of 3 classes, no bias"):
        assert line in shown


def test_inspect_takes_names_of_layers(tmp_path):
    (tmp_path / "mine.py").write_text(MODELS)
    done = call_here("inspect", "mine:deep", "--first", "2", "--second", "4", cwd=tmp_path)
    assert "2: 4 -> 4 neurons" in done.stdout and done.returncode == 0


def test_inspect_takes_a_factory_that_imports_its_neighbour(tmp_path):
    (tmp_path / "neighbour.py").write_text("WIDTH = 4\n")
    (tmp_path / "importing.py").write_text(
        "from torch import nn\n\n"
        "def made():\n"
        "    from neighbour import WIDTH\n"
        "    return nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))\n"
    )
    done = call_here("inspect", "importing:made", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "6 -> 4 neurons" in done.stdout


@pytest.mark.parametrize(
    "target, complaint",
    [
        ("mine", "MODULE:FACTORY: 'mine' does not name a module and a factory"),
        ("yours:good", "MODULE:FACTORY: The module 'yours' cannot be imported"),
        (
            "mine:best",
            "MODULE:FACTORY: mine has no 'best'. Its names are nn, good, deep, ready, wrong",
        ),
        ("mine:wrong", "MODULE:FACTORY: wrong makes a int, not a torch.nn.Module"),
        (
            "torch.nn:Linear",
            "MODULE:FACTORY: Linear() failed: TypeError",
        ),
        ("mine:deep --first 2", "--second: Only --first is given"),
        (
            "mine:deep --first 2 --second 9",
            "--first/--second: The model has no layer or parameter '9'. Pass two of 0, 2, 4",
        ),
        ("mine:deep", "MODULE:FACTORY: The model has 3 weight matrices, not two"),
    ],
)
def test_inspect_explains_what_it_cannot_find(target, complaint, tmp_path):
    (tmp_path / "mine.py").write_text(MODELS)
    done = call_here("inspect", *target.split(), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint)


def test_report_and_paper_figure(made, tmp_path):
    _, out = made
    done = call_here("report", out / "mine", "--file", tmp_path / "r.html")
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'r.html'}\n"
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    done = call_here("report", out / "mine", cwd=tmp_path)
    assert done.stdout == "report-mine.html\n" and (tmp_path / "report-mine.html").exists()
    assert not (out / "mine" / "report.html").exists()
    done = call_here("plot", out / "mine", "--size", "paper", "--file", tmp_path / "p.pdf")
    assert done.returncode == 0
    # TrueType fonts embedded whole, no Type 3
    content = (tmp_path / "p.pdf").read_bytes()
    assert b"/Type3" not in content and b"/FontFile2" in content
    done = call_here("plot", out / "mine", "--size", "huge")
    assert (done.returncode, done.stderr) == (
        2,
        "--size: 'huge' is not one of screen, paper.\n",
    )


def test_plot_draws_the_chosen_panels(made, tmp_path):
    _, out = made
    options = (
        "--panels",
        "zeta, loss",
        "--width",
        "3.25",
        "--no-forecast",
        "--serif",
        "--title",
        "two of six",
    )
    file = tmp_path / "p.svg"
    assert call_here("plot", out / "mine", *options, "--file", file).returncode == 0
    drawn = file.read_text()
    assert "two of six" in drawn and "(b) Loss and error" in drawn and "(c)" not in drawn
    assert "forecast" not in drawn and "STIXGeneral" in drawn
    wrong = call_here("plot", out / "mine", "--panels", "heaviness")
    assert wrong.returncode == 2 and "'heaviness' is not one of zeta, shares" in wrong.stderr


def test_compare(made, tmp_path):
    _, out = made
    phasetrack.train(phasetrack.RunSettings(d=32, width=64, seed=1), out=out, name="other")
    runs = [out / "mine", out / "other"]
    done = call_here("compare", *runs, "--file", tmp_path / "both.svg", "--align")
    assert done.returncode == 0 and (tmp_path / "both.svg").read_text().startswith("<?xml")
    assert re.search(r"seed +0 +1", done.stdout) and "width" not in done.stdout
    assert re.search(r"phase +FITTED +FITTED", done.stdout)
    rows = json.loads(call_here("compare", *runs, "--json").stdout)
    onsets = [phasetrack.read_run(run).summary["boundaries"][0]["onset"] for run in runs]
    assert list(rows["onset of signal-heaviness"].values()) == onsets
    assert call_here("compare", out / "none").returncode == 2
    # a run without an onset cannot be aligned, which is said
    summary = json.loads((out / "mine" / "summary.json").read_text())
    shutil.copytree(out / "mine", tmp_path / "flat")
    (tmp_path / "flat" / "summary.json").write_text(json.dumps(summary | {"boundaries": []}))
    done = call_here(
        "compare", out / "mine", tmp_path / "flat", "--file", tmp_path / "c.svg", "--align"
    )
    assert done.returncode == 0
    said = f"left out of the figure: {tmp_path / 'flat'}, which has no onset"
    assert " ".join(done.stderr.split()) == said


@pytest.mark.parametrize(
    "command, part", [("compare", "boundaries"), ("compare", "growth"), ("plot", "boundaries")]
)
def test_a_summary_that_is_none_is_one_line(made, tmp_path, command, part):
    shutil.copytree(made[1] / "mine", tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: None}))
    done = call_here(command, tmp_path / "run")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"RUN: {str(path)!r} is not valid: Expected ")
    assert f"at `$.{part}`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_that_is_no_utf_8_is_shown(made, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(made[1] / "mine", folder)
    for command in ("report", "plot", "show", "compare"):
        done = call(command, folder, cwd=tmp_path)
        assert done.returncode == 0 and done.stderr == ""
    wide = os.environ | {"COLUMNS": "200"}
    assert r"caf\udce9" in call("list", "--out", tmp_path, env=wide).stdout


def test_replay_looks_back_at_saved_weights(made, tmp_path):
    settings = phasetrack.RunSettings(d=32, width=64, snapshots=4)
    phasetrack.train(settings, out=tmp_path, name="saved")
    seen = call_here("replay", tmp_path / "saved")
    assert re.search(r"boundary +signal_heavy: onset [\d.]+", seen.stdout)
    assert re.search(r"span +2 dimensions, trustworthy: gap", seen.stdout)
    assert json.loads(call_here("replay", tmp_path / "saved", "--json").stdout)["boundaries"]
    refused = call_here("replay", made[1] / "mine")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"RUN: {str(made[1] / 'mine')!r} holds no saved weights.")


@pytest.mark.parametrize(
    "typed, advice",
    [
        (["run", "xor", "--lr", "0.1"], "the step size is --eta"),
        (["forecast", "xor", "--hidden", "8"], "the number of neurons is --width"),
        (["sweep", "xor", "--epochs", "3"], "count --steps"),
        (["run", "XOR"], "Did you mean 'xor'?"),
        (["run", "xor", "--widht", "3"], "No such option: --widht. Did you mean '--width'? See"),
        (["lst"], "No such command 'lst'. Did you mean 'list'? See"),
        (["show", str(OLD / "finished"), "--threshold", "patince=3"], "Did you mean 'patience'?"),
        (["run", "two_xors"], "Did you mean 'two-xors'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_names_of_other_tools_lead_to_ours(typed, advice, tmp_path):
    done = call_here(*typed, cwd=tmp_path)
    assert done.returncode == 2 and advice in done.stderr and done.stderr.count("\n") == 1


def test_the_version_and_short_help(tmp_path):
    assert call_here("--version", cwd=tmp_path).stdout == f"phasetrack {phasetrack.__version__}\n"
    assert call_here("run", "-h", cwd=tmp_path).stdout.count("Experiment") == 1


def test_piped_tables_keep_a_run_on_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    settings = phasetrack.RunSettings(d=8, width=8, batch=8, steps=2)
    name = "a-name-that-is-longer-than-a-narrow-terminal-" * 2
    phasetrack.train(settings, out=tmp_path, name=name)
    (line,) = [li for li in call_here("list", "--out", tmp_path).stdout.splitlines() if name in li]
    assert "UNDETERMINED" in line or "SIGNAL" in line


def test_a_forecast_prints_each_boundary_once(tmp_path):
    lines = call_here("forecast", "xor", "--d", "32", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["phase", *["forecast"] * 4]
