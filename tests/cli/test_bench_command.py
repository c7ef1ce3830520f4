"""`phasetrack bench` as it is typed."""

import json

import pytest
from helpers.command_line import call_here

MINE = """
from phasetrack.phases.vocabularies.edge_of_stability import EdgeOfStability


class Mine(EdgeOfStability):
    name = "mine"
"""


@pytest.mark.parametrize(
    "typed, complaint",
    [
        (["--only", "none"], "--only: 'none' is not a run of the bench. Choose from "),
        (["--vocabulary", "groking"], "--vocabulary: 'groking' is not a vocabulary. Did you mean"),
        (["--vocabulary", "no_module:It"], "--vocabulary: 'no_module:It' cannot be imported"),
        (["--seeds", "0"], "--seeds: 0 is not an integer >= 1"),
        (["--out", "none/such.json"], "--out: The folder of 'none/such.json' does not exist"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(typed, complaint, tmp_path):
    done = call_here("bench", *typed, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_runs_are_listed(tmp_path):
    lines = call_here("bench", "--list", cwd=tmp_path).stdout.splitlines()
    assert len(lines) > 15 and any(line.startswith("pure noise: ") for line in lines)
    assert any(line.endswith("(control)") for line in lines)


def test_vocabulary_of_ones_own_is_scored(tmp_path):
    pytest.importorskip("scipy", reason="an optional library of confidence intervals")
    (tmp_path / "my_bench_module.py").write_text(MINE)
    typed = ["bench", "--vocabulary", "my_bench_module:Mine", "--only", "f = u v, diverged"]
    done = call_here(*typed, "--seeds", "2", "--out", "scores.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout and "all truths" in done.stdout
    content = json.loads((tmp_path / "scores.json").read_text())
    scores = content["scores"]["mine"]
    assert [(s["seed"], s["events"], s["misses"]) for s in scores] == [(0, 1, 0), (1, 1, 0)]
    again = call_here(*typed, "--seeds", "2", "--json", cwd=tmp_path)
    alike = json.loads(again.stdout)["scores"]["mine"]
    assert [s | {"microseconds": 0} for s in alike] == [s | {"microseconds": 0} for s in scores]
