"""The HTML report: one file that fetches nothing, and in which no text becomes a tag."""

import base64
import gzip
import html
import itertools
import json
import os
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

from phasetrack import ExpectedError, RunSettings, read_run, train
from phasetrack.display.html_report import NEURON_STEPS, SCRIPTS, exports, report, write_report
from phasetrack.display.tensorboard import plugin
from phasetrack.phases.glossary import TERMS
from phasetrack.phases.verdict import story
from phasetrack.phases.words import alert_advice


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


def test_report_holds_the_run(made, tmp_path):
    write_report([made], tmp_path / "report.html")
    page, run = (tmp_path / "report.html").read_text(encoding="utf-8"), read_run(made)
    data = data_of(page)
    assert [entry["id"] for entry in data["runs"]] == ["run"]
    assert data["labels"]["run"]["boundaries"] == run.summary["boundaries"]
    steps, values = data["series"]["run"]["points"]["loss/train"]
    assert steps == run.history.steps.tolist() and values == run.history["loss/train"].tolist()
    assert len(data["neurons"]["run"]) <= NEURON_STEPS
    assert set(data["neurons"]["run"]) == {str(step) for step in data["about"]["run"]["neurons"]}


def test_report_fetches_nothing(made):
    page = report([made])
    head = re.sub(r'<script type="application/gzip".*?</script>', "", page, flags=re.DOTALL)
    assert "src=" not in head and "<link" not in head and "@import" not in head
    # modules became functions of one script, without imports and exports
    script = page.rsplit('<script type="module">', 1)[1]
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


def test_head_has_words_boundaries_settings_and_versions(made):
    page, run = report([made]), read_run(made)
    shown = html.unescape(
        re.sub(r"<[^>]*>", " ", page.split('<header id="head">')[1].split("</header>")[0])
    )
    assert run.config["command"] in shown and f"torch {run.config['versions']['torch']}" in shown
    assert story(run.summary).text in shown
    for boundary in run.summary["boundaries"]:
        assert f"{boundary['onset']:.1f}" in shown and str(boundary["detected"]) in shown
    band = run.summary["forecast"]["loss_halving_step"]
    assert f"({band['low']:.1f} to {band['high']:.1f})" in shown
    assert re.search(r"\bd +16\b", shown) and re.search(r"\bwidth +32\b", shown)
    assert TERMS["zeta*"] in shown


def test_settings_that_differ_come_first(made, tmp_path):
    shutil.copytree(made, tmp_path / "other")
    config = json.loads((made / "config.json").read_text())
    config["settings"]["theta"] = 0.75
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", report([made, tmp_path / "other"]))
    table = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in rows]
    place = table.index(["setting", "run", "other"])
    assert table[place + 1] == ["theta", "0.1", "0.75"]


def test_alerts_of_a_run_are_told_with_their_advice(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    summary = json.loads((made / "summary.json").read_text())
    summary["alerts"] = [{"name": "LAZY", "step": 3, "evidence": {"loss/train": 0.01}}]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    head = report([tmp_path / "run"]).split("</header>")[0]
    assert alert_advice("LAZY") in head and "LAZY at step 3: " in head


def test_plotly_is_whole_and_compressed(made):
    (packed,) = re.findall(
        r'<script type="application/gzip" id="plotly">([^<]*)</script>', report([made])
    )
    script = resources.files("plotly") / "package_data" / "plotly.min.js"
    assert gzip.decompress(base64.b64decode(packed)) == script.read_bytes()
    assert len(packed) < 2.1e6


def test_modules_share_no_exported_name():
    """The report's script declares the exports of every module in one scope."""
    static = Path(plugin.__file__).parent / "static"
    assert {"index.js", *SCRIPTS} == {path.name for path in static.glob("*.js")}
    exported = {name: exports((static / name).read_text(encoding="utf-8")) for name in SCRIPTS}
    every = list(itertools.chain(*exported.values()))
    assert len(every) == len(set(every))
    seen = set()
    for name in SCRIPTS:
        text = (static / name).read_text(encoding="utf-8")
        imported = {
            n for names in re.findall(r"^import {([^}]*)}", text, re.M) for n in names.split(",")
        }
        assert {n.strip() for n in imported} <= seen  # from modules before it
        seen |= set(exported[name])
        assert len(exported[name]) == len(re.findall(r"^export ", text, re.M))


def test_run_names_are_text(made, tmp_path):
    name = "<script>alert(1)<!--"
    shutil.copytree(made, tmp_path / name)
    page = report([tmp_path / name])
    assert "<script>alert(1)" not in page
    assert "<!--" not in page.split("</style>")[1].split('<script type="application/json"')[0]
    assert [entry["id"] for entry in data_of(page)["runs"]] == [name]


def test_runs_of_one_name_are_named_with_their_parent_directory(made, tmp_path):
    for group in ("a", "b"):
        shutil.copytree(made, tmp_path / group / "run")
    data = data_of(report([tmp_path / "a" / "run", tmp_path / "b" / "run"]))
    assert [entry["id"] for entry in data["runs"]] == ["run", "b/run"]


def test_run_without_an_end_is_not_called_finished(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (entry,) = data_of(report([tmp_path / "run"]))["runs"]
    assert entry["state"] == "stopped" and entry["phase"] == read_run(made).summary["phase"]
    (entry,) = data_of(report([made]))["runs"]
    assert entry["state"] == "finished" and entry["steps"] == read_run(made).summary["steps"]


def test_same_run_makes_the_same_page(made):
    assert report([made]) == report([made])


def test_damaged_run_is_shown_up_to_the_damage(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    path = tmp_path / "run" / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:50], "garbage\n", *lines[50:]]))
    data = data_of(report([tmp_path / "run"]))
    (entry,) = data["runs"]
    assert entry["state"] == "damaged" and "history.jsonl, line 51: " in entry["problem"]
    assert data["series"]["run"]["count"] == 50


def test_names_that_are_not_utf_8_are_shown(made, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(made, folder)
    write_report([Path(folder)], tmp_path / "report.html")
    data = data_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in data["runs"]] == [r"caf\udce9"]


def test_wrong_arguments_are_explained(made, tmp_path):
    with pytest.raises(ExpectedError, match=r"^runs: No run directory was given\."):
        report([])
    with pytest.raises(ExpectedError, match=r"none' is not a directory\. `phasetrack list`"):
        report([tmp_path / "none"])
    with pytest.raises(ExpectedError, match=r"^file: '.*folder.html' cannot be written \(No such"):
        write_report([made], tmp_path / "no" / "folder.html")
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "history.jsonl").write_text("{]\n")
    with pytest.raises(ExpectedError, match="line 1"):
        report([tmp_path / "run"])
    (tmp_path / "run" / "history.jsonl").write_text("")
    with pytest.raises(ExpectedError, match=r"has no record that can be read\. Leave it out"):
        report([tmp_path / "run"])
