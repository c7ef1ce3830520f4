"""The tab's routes over HTTP requests: what is answered, to whom, and what hostile runs can do."""

import json
import shutil
import threading
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from phasetrack import RunSettings, Thresholds, read_run, train
from phasetrack.tensorboard_plugin import run_store
from phasetrack.tensorboard_plugin.plugin import NAME, STATIC, PhasesPlugin


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    train(RunSettings(d=16, width=32, seed=1), out=out, name="run")
    return out / "run"


@pytest.fixture
def logdir(made, tmp_path):
    shutil.copytree(made, tmp_path / "logs" / "group" / "run")
    return tmp_path / "logs"


class Server:
    """The plugin's applications, asked as a browser does."""

    def __init__(self, logdir):
        self.plugin = PhasesPlugin(base_plugin.TBContext(logdir=str(logdir)))
        self._apps = self.plugin.get_plugin_apps()

    def get(self, route, **asked):
        return Client(self._apps[f"/{route}"]).get("/", query_string=asked)

    def ask(self, route, status=200, **asked):
        answer = self.get(route, **asked)
        assert answer.status_code == status, answer.text
        assert answer.content_type == "application/json"

        def no_constant(name):
            raise AssertionError(f"{name} is not JSON")

        return json.loads(answer.text, parse_constant=no_constant)


@pytest.fixture
def server(logdir):
    return Server(logdir)


RUN = "group/run"


def test_tensorboard_finds_it_by_its_entry_point():
    (found,) = entry_points(group="tensorboard_plugins", name="phases")
    assert found.load() is PhasesPlugin


def test_the_tab(server):
    assert server.plugin.plugin_name == NAME and server.plugin.is_active()
    meta = server.plugin.frontend_metadata()
    assert meta.es_module_path == "/index.js" and meta.tab_name == "Phases"
    for name in STATIC:
        assert server.get(name).status_code == 200
    script = server.get("plotly.min.js")
    assert script.status_code == 200 and len(script.data) > 1e6


def test_no_script_asks_for_anything_outside():
    folder = Path(run_store.__file__).parent / "static"
    assert sorted(path.name for path in folder.iterdir()) == sorted(STATIC)
    for name in STATIC:
        text = (folder / name).read_text(encoding="utf-8")
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text


def test_the_list(server, logdir, made):
    (entry,) = server.ask("runs")["runs"]
    summary = read_run(made).summary
    assert entry["id"] == RUN and entry["state"] == "finished" and entry["problem"] == ""
    assert entry["phase"] == summary["phase"] and entry["steps"] == summary["steps"]
    assert entry["boundaries"] == summary["boundaries"]
    (logdir / RUN / "summary.json").unlink()
    (changed,) = server.ask("runs")["runs"]
    assert changed["state"] == "running" and changed["revision"] != entry["revision"]


def test_a_log_directory_that_is_the_run_itself(made):
    server = Server(made)
    (entry,) = server.ask("runs")["runs"]
    assert entry["id"] == "run" and server.ask("labels", run="run")["phase"] == entry["phase"]


@pytest.mark.parametrize("missing", [True, False])
def test_no_runs(tmp_path, missing):
    server = Server(tmp_path / "none" if missing else tmp_path)
    assert server.ask("runs") == {"runs": [], "problem": ""} and not server.plugin.is_active()
    assert "expected a run under" in server.ask("about", 400, run="x")["error"]


def test_without_a_log_directory_the_mend_is_said():
    server = Server("")
    assert "--logdir" in server.ask("runs")["problem"]
    assert "--logdir" in server.ask("labels", 400, run="x")["error"]


def test_labels_are_the_recorded_ones(server, made):
    recorded, labels = read_run(made).summary, server.ask("labels", run=RUN)
    assert labels["timeline"] == recorded["timeline"]
    assert labels["boundaries"] == recorded["boundaries"]
    assert labels["alerts"] == recorded["alerts"]


def test_changed_thresholds_label_as_show_does(server, made):
    run = read_run(made)
    labels = server.ask("labels", run=RUN, zeta_enter="0.2", zeta_exit="0.7", patience="5")
    expected = run.summarise(Thresholds(zeta_enter=0.2, zeta_exit=0.7, patience=5))
    assert labels["boundaries"] == expected["boundaries"] != run.summary["boundaries"]
    assert labels["timeline"] == expected["timeline"]
    # and back again
    assert server.ask("labels", run=RUN)["boundaries"] == run.summary["boundaries"]


@pytest.mark.parametrize(
    "asked", [{"zeta_enter": "x"}, {"zeta_exit": "-1"}, {"zeta_enter": "3"}, {"patience": "1.5"}]
)
def test_thresholds_that_are_none_are_explained(server, asked):
    (name,) = asked
    error = server.ask("labels", 400, run=RUN, **asked)["error"]
    assert "expected" in error and ("zeta" in error or name in error)


def test_all_points_come_where_they_fit(server, made):
    history, answer = read_run(made).history, server.ask("series", run=RUN, columns=4000)
    for metric, (steps, values) in answer["points"].items():
        assert steps == history.steps.tolist()
        drawn = np.array([np.nan if v is None else v for v in values])
        np.testing.assert_array_equal(
            drawn, np.where(np.isfinite(history[metric]), history[metric], np.nan)
        )
    assert answer["last"] == history.last_step and answer["count"] == len(history.steps)


def test_few_columns_keep_extremes_and_every_boundary(server, made):
    run = read_run(made)
    answer = server.ask("series", run=RUN, columns=3)
    for metric, (steps, values) in answer["points"].items():
        finite = run.history[metric][np.isfinite(run.history[metric])]
        if len(finite):
            known = [v for v in values if v is not None]
            assert min(known) == finite.min() and max(known) == finite.max()
        for boundary in run.summary["boundaries"]:
            assert {int(boundary["onset"]), boundary["detected"]} <= set(steps)


def test_a_window_has_its_points_and_one_more_on_each_side(server):
    answer = server.ask("series", run=RUN, first=10, last=20, columns=500)
    for steps, _ in answer["points"].values():
        assert steps == list(range(9, 22))


def test_a_run_in_progress_grows(server, logdir):
    (logdir / RUN / "summary.json").unlink()
    path = logdir / RUN / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:30]))
    before = server.ask("series", run=RUN)
    found = server.ask("labels", run=RUN)["boundaries"]
    with path.open("a") as file:
        file.write("".join(lines[30:]))
    after = server.ask("series", run=RUN, first=before["last"])
    assert before["last"] == 29 and after["last"] == len(lines) - 1
    steps, _ = after["points"]["loss/train"]
    assert min(steps) >= 28 and max(steps) == after["last"]
    assert len(server.ask("labels", run=RUN)["boundaries"]) > len(found)


def test_neurons(server, logdir):
    steps = server.ask("about", run=RUN)["neurons"]
    neurons = server.ask("neurons", run=RUN, step=steps[-1])
    assert {len(neurons[name]) for name in ("signal", "perp", "second_layer")} == {32}
    assert "saved steps" in server.ask("neurons", 400, run=RUN, step=10**6)["error"]
    assert "step: expected" in server.ask("neurons", 400, run=RUN, step="../../x")["error"]


def test_csv_is_lossless(server, made):
    answer, run = server.get("csv", run=RUN), read_run(made)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="group-run.csv"'
    head, *lines = answer.text.splitlines()
    names = head.split(",")
    assert names[0] == "step" and len(lines) == len(run.history.steps)
    column = [line.split(",")[names.index("heaviness/zeta_star")] for line in lines]
    np.testing.assert_array_equal([float(v) for v in column], run.history["heaviness/zeta_star"])


# --- hostile names and files -----------------------------------------------------------------

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "it's %s {0} $(id) `id`",
    "ζ* läuft 実行",
    "n" * 255,
    "..." + "x",
    " spaces ",
    "new\nline",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n)[:20])
def test_odd_names_are_names(made, tmp_path, name):
    shutil.copytree(made, tmp_path / name)
    server = Server(tmp_path)
    (entry,) = server.ask("runs")["runs"]
    assert entry["id"] == name and entry["state"] == "finished"
    assert server.ask("about", run=name)["id"] == name
    assert "\n" not in server.get("csv", run=name).headers["Content-Disposition"]


@pytest.mark.parametrize(
    "name", ["../secret", "group/../../secret", "/etc", "..", "", ".", "group", "a\0b", "x" * 10**5]
)
def test_nothing_outside_is_ever_opened(server, logdir, made, name):
    shutil.copytree(made, logdir.parent / "secret")
    for route in ("about", "series", "labels", "csv"):
        assert "expected a run" in server.ask(route, 400, run=name)["error"]


@pytest.mark.parametrize("file", ["history.jsonl", "summary.json", "config.json"])
def test_links_to_elsewhere_are_not_followed(server, logdir, tmp_path, file):
    secret = tmp_path / "secret"
    secret.write_text('{"step": 0, "password": 1}\n')
    (logdir / RUN / file).unlink()
    (logdir / RUN / file).symlink_to(secret)
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == "unreadable" and file in entry["problem"]
    for route in ("about", "series", "labels"):
        assert "password" not in server.get(route, run=RUN).text


def test_linked_directories_are_not_runs(made, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link").symlink_to(made)
    assert Server(tmp_path / "logs").ask("runs")["runs"] == []


CONTENTS = {
    "empty": b"",
    "bytes": b"\xff\x00\xfe" * 100,
    "deep": b"[" * 200_000,
    "list": b"[]\n",
    "null": b"null\n",
    "nothing known": b'{"a": 1}\n',
    "wrong kinds": json.dumps(
        {
            "step": 0,
            "phase": ["<b>"],
            "steps": {},
            "boundaries": "x",
            "thresholds": [],
            "timeline": 3,
            "alerts": None,
            "escape_steps": "soon",
        }
    ).encode()
    + b"\n",
    "huge numbers": b'{"step": 0, "thresholds": {"patience": 1e999}, "steps": 1e400}\n',
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("file", ["history.jsonl", "summary.json", "config.json", "clock.jsonl"])
def test_damaged_files_are_said_and_the_server_lives(server, logdir, file, content):
    shutil.copytree(logdir / RUN, logdir / "healthy")
    (logdir / RUN / file).write_bytes(content)
    entries = {entry["id"]: entry for entry in server.ask("runs")["runs"]}
    assert entries["healthy"]["state"] == "finished" and not entries["healthy"]["problem"]
    for route in ("about", "series", "labels", "csv"):
        assert server.get(route, run=RUN).status_code in (200, 400)
    entries = {entry["id"]: entry for entry in server.ask("runs")["runs"]}
    state = entries[RUN]["state"]
    if file == "history.jsonl":
        assert state in ("unreadable", "empty") and entries[RUN]["problem"]
    else:
        assert state in ("finished", "running", "unreadable")
    assert server.ask("series", run="healthy")["count"] > 0


def test_a_line_cut_off_is_left_out(server, logdir):
    path = logdir / RUN / "history.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    answer = server.ask("series", run=RUN)
    assert answer["count"] == content.count(b"\n") - 1 and answer["problem"] == ""


def test_a_failure_of_ours_is_an_answer(server, monkeypatch, caplog):
    def fail(self):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run_store.RunStore, "runs", fail)
    assert "ZeroDivisionError: ours" in server.ask("runs", 500)["error"]


def test_many_browsers_at_once(server):
    answers = []

    def ask():
        answers.append(server.ask("series", run=RUN)["count"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and len(set(answers)) == 1


def test_memory_is_bounded(made, tmp_path, monkeypatch):
    for number in range(4):
        shutil.copytree(made, tmp_path / f"run{number}")
    monkeypatch.setattr(run_store, "MOST_READINGS", 1)
    store = run_store.RunStore(tmp_path)
    for number in range(4):
        store.open(f"run{number}").history()
    assert len(store._open) <= 2
