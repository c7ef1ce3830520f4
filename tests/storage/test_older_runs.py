"""Runs that version 0.1.0 wrote before its files moved into rooms are read by every command."""

import shutil
from pathlib import Path

import pytest
from helpers.command_line import call_here

import phasetrack
from phasetrack.phases.timeline import timeline

OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1_0"


@pytest.fixture
def runs(tmp_path):
    """A copy of the old runs, which commands may write to."""
    return Path(shutil.copytree(OLD, tmp_path / "runs"))


@pytest.mark.parametrize(
    ("name", "steps", "finished"), [("finished", 16, True), ("killed", 10, False)]
)
def test_run_directory_is_read(name, steps, finished):
    run = phasetrack.read_run(OLD / name)
    assert run.history.steps.tolist() == list(range(steps))
    assert run.finished is finished
    assert [stretch["end"] for stretch in timeline(run.history)][-1] == steps - 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--out", "."),
        ("show", "finished"),
        ("show", "killed"),
        ("plot", "finished"),
        ("compare", "finished", "killed"),
        ("report", "finished"),
    ],
    ids=" ".join,
)
def test_commands_take_old_runs(runs, arguments):
    ended = call_here(*arguments, cwd=runs)
    assert (ended.returncode, ended.stderr) == (0, "")
