"""Names with square brackets and colons are printed as they are: the terminal takes them for no markup."""

import re
from pathlib import Path

import pytest
from helpers.command_line import call_here

import phasetrack_cli

SMALL = ["--d", "8", "--width", "8", "--steps", "4"]
FOLDERS = ["[old] runs", "[/x]", "[link=a]b", ":bug: [red]"]


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("out", FOLDERS)
def test_runs_are_printed_under_their_names(out, tmp_path):
    name = "[bold]one :smile:"
    assert (
        call_here("run", "xor", *SMALL, "--out", out, "--name", name, cwd=tmp_path).returncode == 0
    )
    run = f"{out}/{name}"
    for words in (["list", "--out", out], ["show", run], ["compare", run, run]):
        done = call_here(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        # what the names of compared runs have in common is left out
        assert (name if words[0] == "compare" else run) in done.stdout, words


@pytest.mark.usefixtures("wide")
def test_a_sweep_is_printed_under_its_name(tmp_path):
    pytest.importorskip("pyarrow")  # not where the lowest versions are tried
    out = "[/s] [green] :cat:"
    grid = ["--grid", "theta=0.03", "--seeds", "1", "--jobs", "1"]
    done = call_here("sweep", "xor", *SMALL, *grid, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{out}/points.csv" in done.stdout


def test_one_place_makes_the_terminal():
    making = [
        path.name
        for path in Path(phasetrack_cli.__file__).parent.glob("*.py")
        if re.search(r"\bConsole\(", path.read_text())
    ]
    assert making == ["output.py"]
