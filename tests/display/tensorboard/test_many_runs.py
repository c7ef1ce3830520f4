"""The list of many runs is told again every two seconds: a poll looks at their files and opens none."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from phasetrack.display.tensorboard import run_store
from phasetrack.display.tensorboard.run_store import RunStore

OLD = Path(__file__).parents[2] / "fixtures" / "version_0_1_0"
RUNS = 12
# The folder itself, when the run began, and the stamps of history, summary and configuration.
LOOKS = 5


@pytest.fixture
def store(tmp_path):
    for number in range(RUNS):
        shutil.copytree(OLD / "finished", tmp_path / f"run-{number}")
    store = RunStore(tmp_path)
    store.runs()
    return store


def test_a_poll_opens_no_file_of_a_run_that_stays_as_it_is(store, monkeypatch):
    calls = Counter()
    for name in ("open", "lstat", "stat"):
        real = getattr(os, name)

        def counted(*given, name=name, real=real, **named):
            calls[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(os, name, counted)
    assert len(store.runs()["runs"]) == RUNS
    assert calls["open"] == 0
    # and the way to the log directory
    assert LOOKS * RUNS <= calls["lstat"] + calls["stat"] <= LOOKS * RUNS + 20


def test_a_poll_describes_again_what_changed(store, tmp_path, monkeypatch):
    described = []
    real = run_store.describe_run
    monkeypatch.setattr(
        run_store, "describe_run", lambda name, folder: described.append(name) or real(name, folder)
    )
    (tmp_path / "run-3" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "run-5")
    shutil.copytree(OLD / "finished", tmp_path / "run-5")  # made anew
    states = {run["id"]: run["state"] for run in store.runs()["runs"]}
    assert sorted(described) == ["run-3", "run-5"]
    assert states["run-3"] == "stopped" and states["run-5"] == "finished"
