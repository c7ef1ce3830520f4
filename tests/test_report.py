"""One file with everything in it: nothing is fetched, nobody's text becomes a tag."""

import json
import re
import shutil

import pytest

from phasetrack import ExpectedError, RunSettings, read_run, train
from phasetrack.report import NEURON_STEPS, report, write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    train(RunSettings(d=16, width=32, seed=1), out=out, name="run")
    return out / "run"


def data_of(page):
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(text)


def test_it_holds_the_run(made, tmp_path):
    write_report([made], tmp_path / "report.html")
    page, run = (tmp_path / "report.html").read_text(encoding="utf-8"), read_run(made)
    data = data_of(page)
    assert [entry["id"] for entry in data["runs"]] == ["run"]
    assert data["labels"]["run"]["boundaries"] == run.summary["boundaries"]
    steps, values = data["series"]["run"]["points"]["loss/train"]
    assert steps == run.history.steps.tolist() and values == run.history["loss/train"].tolist()
    assert len(data["neurons"]["run"]) <= NEURON_STEPS
    assert set(data["neurons"]["run"]) == {str(step) for step in data["about"]["run"]["neurons"]}


def test_nothing_is_fetched(made):
    page = report([made])
    head = page.split("<script>", 1)[0] + page.split('id="data">', 1)[1]
    assert "src=" not in head and "<link" not in head and "@import" not in head
    # modules became one scope: nothing is left of their imports and exports
    script = page.rsplit('<script type="module">', 1)[1]
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


def test_names_are_text(made, tmp_path):
    name = "<script>alert(1)<!--"
    shutil.copytree(made, tmp_path / name)
    page = report([tmp_path / name])
    assert (
        "<script>alert(1)" not in page
        and "<!--" not in page.split("</style>")[1].split("<script>")[0]
    )
    assert [entry["id"] for entry in data_of(page)["runs"]] == [name]


def test_runs_of_one_name_are_told_apart_by_their_folder(made, tmp_path):
    for group in ("a", "b"):
        shutil.copytree(made, tmp_path / group / "run")
    data = data_of(report([tmp_path / "a" / "run", tmp_path / "b" / "run"]))
    assert [entry["id"] for entry in data["runs"]] == ["run", "b/run"]


def test_mistakes_are_explained(made, tmp_path):
    with pytest.raises(ExpectedError, match="one run directory or more"):
        report([])
    with pytest.raises(ExpectedError, match="a run directory, got"):
        report([tmp_path / "none"])
    with pytest.raises(ExpectedError, match="file: expected a file that can be written"):
        write_report([made], tmp_path / "no" / "folder.html")
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "history.jsonl").write_text("{]\n")
    with pytest.raises(ExpectedError, match="line 1"):
        report([tmp_path / "run"])
    (tmp_path / "run" / "history.jsonl").write_text("")
    with pytest.raises(ExpectedError, match="an empty one"):
        report([tmp_path / "run"])
