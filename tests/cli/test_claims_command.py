"""`phasetrack claims` as it is typed."""

import io
import json

import pytest
from helpers.command_line import call_here

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimResult, Finding
from phasetrack.studies.claims.registry import Claim


@pytest.mark.parametrize(
    "typed, complaint",
    [
        (["--only", "99"], "--only: 99 is not the number of a claim. Choose from 1 to 21."),
        (["--seed", "-1"], "--seed: -1 is not an integer from 0"),
        (["--blocks", "0"], "--blocks: 0 is not an integer from 1 to 100"),
        (["--jobs", "0"], "--jobs: 0 is not an integer from 1 to 1024"),
        (["--report", "none/such.html"], "--report: The folder of 'none/such.html' does not exist"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(typed, complaint, tmp_path):
    done = call_here("claims", "--quick", *typed, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_statements_can_be_listed(tmp_path):
    done = call_here("claims", "--list", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and [line.split()[0] for line in lines] == [
        str(number) for number in range(1, 22)
    ]
    assert all(len(line) > 20 for line in lines)
    assert call_here("claims", "--list", "--only", "8", cwd=tmp_path).stdout == lines[7] + "\n"


def test_two_hours_of_work_is_asked_about(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    done = call_here("claims", cwd=tmp_path)
    assert done.returncode == 130 and "two hours" in done.stderr and done.stdout.strip() == ""


def test_kept_results_are_not_made_again(tmp_path, monkeypatch):
    result = ClaimResult([Finding("steps", confidence.mean([1.0, 2.0]), low=0.0)], [], "d = 8")
    made = []
    monkeypatch.setattr(Claim, "evaluate", lambda _, lab: made.append(lab.seed) or result)
    typed = ("claims", "--quick", "--only", "8", "--keep", "kept", "--blocks")
    first = call_here(*typed, "2", "--json", cwd=tmp_path)
    again = call_here(*typed, "3", "--json", cwd=tmp_path)
    assert first.returncode == again.returncode == 0, again.stderr
    assert made == [0, 10_000, 20_000]
    assert json.loads(again.stdout)["8"]["findings"][0]["count"] == 6
