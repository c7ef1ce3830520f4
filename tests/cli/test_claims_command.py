"""`phasetrack claims` as it is typed."""

import json

import pytest
from command import call


@pytest.mark.long
def test_a_statement_on_trial(tmp_path):
    typed = ["claims", "--quick", "--only", "3", "--json", "--figures", tmp_path / "figures"]
    done = call(*typed, "--report", tmp_path / "claims.html")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout).values()
    assert result["verdict"] in ("supported", "undecided at these sizes")
    assert result["findings"][0]["low"] < result["findings"][0]["high"]
    page = (tmp_path / "claims.html").read_text(encoding="utf-8")
    assert "arXiv 2309.15111 on trial" in page and page.count("<svg") == 1
    assert (tmp_path / "figures" / "claim-03.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "typed, complaint",
    [
        (["--only", "99"], "--only: expected numbers of claims, 1, 2"),
        (["--seed", "-1"], "--seed: expected an integer >= 0"),
        (["--report", "none/such.html"], "--report: expected a file in a folder that exists"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(typed, complaint, tmp_path):
    done = call("claims", "--quick", *typed, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(complaint), done.stderr
    assert list(tmp_path.iterdir()) == []
