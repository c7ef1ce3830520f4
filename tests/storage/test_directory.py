"""Run directories: refusals leave nothing behind, and errors name damaged files."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from phasetrack import ExpectedError, Thresholds, read_run
from phasetrack.phases.classifier import Phase
from phasetrack.phases.history import History, Record
from phasetrack.storage import json_schema as contents
from phasetrack.storage.directory import create_run_directory, write_json
from phasetrack.storage.history_sink import HistorySink
from phasetrack.storage.results import find_runs

# No arithmetic was done on these: they must come back to the bit.
ODD = [math.nan, math.inf, -math.inf, 5e-324, 0.1 + 0.2, -0.0, 1.7976931348623157e308]


def write_run(path, rows, **config):
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "config.json", config)
    sink = HistorySink(path / "history.jsonl")
    for step, readings in rows:
        sink.write(Record(step, readings, Phase.UNDETERMINED))
    sink.close({}, History())
    return path


def test_history_is_lossless(tmp_path):
    rows = [(step, {"a": value, "b/c": -value}) for step, value in enumerate(ODD)]
    run = read_run(write_run(tmp_path, rows))
    assert run.history.steps.tolist() == list(range(len(ODD)))
    np.testing.assert_array_equal(
        run.history["a"].view(np.int64)[1:], np.array(ODD).view(np.int64)[1:]
    )
    assert math.isnan(run.history["a"][0]) and not run.finished


def test_unfinished_last_line_is_left_out(tmp_path):
    write_run(tmp_path, [(0, {"a": 1.0}), (1, {"a": 2.0})])
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 2, "a"')
    assert read_run(tmp_path).history.steps.tolist() == [0, 1]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[1]", '{"a": 1.0}', '{"step": 1, "a": "x"}'],
    ids=["text", "list", "no step", "no number"],
)
def test_error_names_the_damaged_line(tmp_path, line):
    write_run(tmp_path, [(0, {"a": 1.0})])
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ExpectedError, match=r"run: .*history\.jsonl' is damaged: line 2: "):
        read_run(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_error_names_the_damaged_file(tmp_path, file):
    write_run(tmp_path, [])
    (tmp_path / file).write_text("{")
    with pytest.raises(ExpectedError, match=f"run: .*{file}' is damaged: "):
        read_run(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_oversized_file_is_refused(tmp_path, file):
    write_run(tmp_path, [])
    with (tmp_path / file).open("wb") as large:
        large.truncate(contents.LARGEST_OBJECT + 1)
    with pytest.raises(ExpectedError, match=f"{file}' is damaged: .* bytes, more than {2**25}"):
        read_run(tmp_path)


SUMMARIES = {
    "boundaries": [None, "x", [1], [{"name": "fitted", "onset": None, "detected": 3}]],
    "alerts": [None, {}, [{"name": 1, "step": 2, "evidence": {}}]],
    "growth": [None, [], {"signal_finding": None}],
    "final": [None, 3],
    "forecast": [None, {"fitted": 3}, {"fitted": {"value": 1.0, "low": None, "high": 2.0}}],
    "thresholds": [None, {"patience": 0}, {"zeta": 1.0}],
    "steps": ["many", 10**400],
    "phase": ["<b>", None],
    "timeline": [3, [{"phase": "FITTED", "start": "0", "end": 1}]],
}


@pytest.mark.parametrize("part, value", [(k, v) for k, many in SUMMARIES.items() for v in many])
def test_invalid_summary_is_refused(tmp_path, part, value):
    write_run(tmp_path, [])
    (tmp_path / "summary.json").write_text(json.dumps({"phase": "FITTED", part: value}))
    with pytest.raises(ExpectedError, match=rf"run: .*summary\.json' is not valid: .*`\$\.{part}"):
        read_run(tmp_path)


def test_summary_may_lack_entries_and_hold_unknown_ones(tmp_path):
    write_run(tmp_path, [])
    (tmp_path / "summary.json").write_text('{"stopped": "target", "mine": [1]}')
    assert read_run(tmp_path).summary == {"stopped": "target", "mine": [1]}


def test_directory_without_config_is_refused(tmp_path):
    with pytest.raises(
        ExpectedError, match=r"run: .* is not a run directory: it has no config\.json"
    ):
        read_run(tmp_path)


def test_unfinished_run_is_summarised(tmp_path):
    def row(step):
        gamma = 1e-3 * math.exp(0.1 * step)
        return {
            "heaviness/zeta_star": math.exp(5 - 0.1 * step),
            "linearization/slope_drift": math.tanh(gamma / 2),
            "linearization/value_error": gamma / 4,
            "loss/train": 2 * math.log1p(math.exp(-gamma)),
        }

    run = read_run(write_run(tmp_path, [(step, row(step)) for step in range(70)]))
    summary = run.summarise()
    assert summary["phase"] == "SIGNAL_HEAVY" and summary["steps"] == 70
    assert summary["boundaries"][0]["onset"] == pytest.approx(50)
    boundaries = run.summarise(Thresholds(zeta_enter=0.3))["boundaries"]
    (later,) = (b for b in boundaries if b["name"] == "signal_heavy")
    assert later["onset"] == pytest.approx(50)
    assert later["detected"] == math.ceil(50 + 10 * math.log(1 / 0.3))
    strict = run.summarise(Thresholds(zeta_enter=0.01, finding_drift=1.0))
    assert strict["phase"] == "SIGNAL_FINDING"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b"], ids=repr)
def test_name_that_is_not_a_directory_name_is_refused(tmp_path, name):
    with pytest.raises(ExpectedError, match=r"name: .* is not a plain directory name"):
        create_run_directory(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


def test_existing_run_is_not_overwritten(tmp_path):
    write_run(tmp_path / "run", [])
    with pytest.raises(ExpectedError, match=r"name: .*run' already exists and is not empty"):
        create_run_directory(tmp_path, "run")
    assert (tmp_path / "run" / "config.json").exists()
    (tmp_path / "empty").mkdir()
    assert create_run_directory(tmp_path, "empty").is_dir()


def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExpectedError, match=r"out: .* cannot be written"):
        create_run_directory(tmp_path / "file", "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_runs_are_found_oldest_first(tmp_path):
    for name in ("b", "a", "c"):
        write_run(tmp_path / name, [])
    (tmp_path / "other").mkdir()
    for age, name in enumerate(("c", "a", "b")):
        os.utime(tmp_path / name / "config.json", (age, age))
    assert [path.name for path in find_runs(tmp_path)] == ["c", "a", "b"]
    assert find_runs(tmp_path / "none") == []


def test_json_is_replaced_atomically(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    write_json(tmp_path / "x.json", {"a": math.nan})
    assert math.isnan(json.loads((tmp_path / "x.json").read_text())["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def _modules_after(code):
    code += "\nimport sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def test_runs_are_read_without_torch(tmp_path):
    path = write_run(tmp_path, [(0, {"loss/train": 1.0})])
    code = f"import phasetrack; phasetrack.read_run({str(path)!r}).summarise()"
    assert _modules_after(code) == "False"
    # and the check can fail
    assert _modules_after("import phasetrack; phasetrack.TwoLayerNet") == "True"
