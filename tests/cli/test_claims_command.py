"""`phasetrack claims` as it is typed."""

import pytest
from helpers.command_line import call_here


@pytest.mark.parametrize(
    "typed, complaint",
    [
        (["--only", "99"], "--only: 99 is not the number of a claim. Choose from 1 to 16."),
        (["--seed", "-1"], "--seed: -1 is not an integer from 0"),
        (["--jobs", "0"], "--jobs: 0 is not an integer from 1 to 1024"),
        (["--report", "none/such.html"], "--report: The folder of 'none/such.html' does not exist"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(typed, complaint, tmp_path):
    done = call_here("claims", "--quick", *typed, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint), done.stderr
    assert list(tmp_path.iterdir()) == []
