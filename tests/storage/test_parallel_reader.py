"""A long history that two processes read is the one that a single process reads."""

import json
import math
import sys

import numpy as np
import pytest

from phasetrack import ExpectedError, read_run
from phasetrack.storage import parallel_reader as long_history
from phasetrack.storage.history_reader import HistoryFile
from phasetrack.storage.parallel_reader import in_halves

ODD = (math.nan, math.inf, -math.inf, 1e300, -0.0)


def row(step):
    # what is not finite comes and goes, and a metric's place in the line changes
    readings = {"loss/train": step / 7, "margin/clean/-mu1": ODD[step % 5], "grüße": float(step)}
    names = sorted(readings, reverse=step % 3 == 0)
    return json.dumps({"step": 2 * step, **{name: readings[name] for name in names}})


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(long_history, "LONG", 1000)
    monkeypatch.setattr(long_history, "available_cores", lambda: 2)
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "history.jsonl"
    path.write_text("".join(row(step) + "\n" for step in range(3000)))
    return path


def alone(path):
    file = HistoryFile(path)
    file.refresh()
    return file


def assert_same(history, other):
    np.testing.assert_array_equal(history.steps, other.steps)
    assert list(history) == list(other)
    for name in other:
        np.testing.assert_array_equal(history[name], other[name])
        np.testing.assert_array_equal(np.signbit(history[name]), np.signbit(other[name]))


def test_two_processes_read_what_one_reads(path):
    history = in_halves(path)
    assert history is not None and history.count == 3000
    assert_same(history, alone(path).history)
    assert_same(read_run(path.parent).history, history)


def test_each_reads_half(path, monkeypatch):
    ends = []

    class Watched(HistoryFile):
        def __init__(self, path, **given):
            super().__init__(path, **given)
            ends.append(given["end"])

    monkeypatch.setattr(long_history, "HistoryFile", Watched)
    assert in_halves(path) is not None
    (middle,) = ends
    assert abs(middle - path.stat().st_size / 2) < 200
    assert path.read_bytes()[middle - 1 : middle + 1] == b"\n{"


@pytest.mark.parametrize("first", ["loss/train", "grüße"])
def test_metrics_may_first_appear_in_any_order(path, first):
    lines = path.read_text().splitlines()
    lines[0] = json.dumps({"step": 0, first: 1.0})
    path.write_text("\n".join(lines) + "\n")
    history = in_halves(path)
    assert history is not None and next(iter(history)) == first
    assert_same(history, alone(path).history)


def test_a_file_that_cannot_be_opened_is_left_to_one_process(path):
    assert in_halves(path.with_name("none")) is None


def test_a_last_line_that_is_cut_off_is_left_out(path):
    with path.open("a") as file:
        file.write(row(3000)[:20])
    history = in_halves(path)
    assert history is not None and history.count == 3000


@pytest.mark.parametrize("line", [10, 2990], ids=["first half", "second half"])
def test_damage_is_named_as_one_process_names_it(path, line):
    lines = path.read_text().splitlines()
    lines[line] = lines[line][:-5]
    path.write_text("\n".join(lines) + "\n")
    assert in_halves(path) is None
    with pytest.raises(ExpectedError, match=f"line {line + 1}: ") as raised:
        read_run(path.parent)
    assert alone(path).damage in str(raised.value)


def test_halves_that_do_not_fit_are_read_by_one_process(path):
    text = path.read_text()
    path.write_text(text + text)  # steps begin again at the second half
    assert in_halves(path) is None and "follows" in alone(path).damage

    other = json.dumps({"step": 10_000, "another": 1.0}) + "\n"
    path.write_text(text + other)
    assert in_halves(path) is None
    history = read_run(path.parent).history
    assert history.count == 3001 and math.isnan(history["another"][0])


def test_one_line_is_no_two_halves(path, monkeypatch):
    monkeypatch.setattr(long_history, "LONGEST_LINE", 100)
    path.write_text(json.dumps({"step": 0, **{f"metric {n}": 1.0 for n in range(500)}}) + "\n")
    assert in_halves(path) is None
    assert read_run(path.parent).history.count == 1


@pytest.mark.parametrize("python", [None, "", "/no/such/python", "/bin/false"])
def test_without_another_process_one_reads_all(path, monkeypatch, python):
    monkeypatch.setattr(sys, "executable", python)
    assert in_halves(path) is None
    assert read_run(path.parent).history.count == 3000


@pytest.mark.parametrize("said", ["", "5", '[["loss/train"], 10]', "no JSON"])
def test_a_process_that_says_something_else_is_not_believed(path, monkeypatch, tmp_path, said):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{said}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert in_halves(path) is None


def test_short_files_and_single_cores_need_no_other_process(path, monkeypatch):
    monkeypatch.setattr(
        long_history, "Popen", lambda *_, **__: pytest.fail("a process was started")
    )
    monkeypatch.setattr(long_history, "available_cores", lambda: 1)
    assert in_halves(path) is None
    monkeypatch.setattr(long_history, "available_cores", lambda: 2)
    monkeypatch.setattr(long_history, "LONG", path.stat().st_size + 1)
    assert in_halves(path) is None


def test_files_in_the_current_directory_are_no_modules_of_the_other_process(
    path, monkeypatch, tmp_path
):
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert in_halves(path) is not None
