"""The tab's routes over HTTP requests: their answers, and the harm that hostile runs cannot do."""

import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from phasetrack import RunSettings, Thresholds, read_run, train
from phasetrack.display.style import RUN_COLOURS
from phasetrack.display.tensorboard import run_store
from phasetrack.display.tensorboard.incremental_labels import MOST_MARKS
from phasetrack.display.tensorboard.plugin import NAME, STATIC, PhasesPlugin
from phasetrack.phases.verdict import story
from phasetrack.phases.words import ended
from phasetrack.storage import json_schema as contents


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
    """The plugin's applications, with requests as from a browser."""

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
ROUTES = ("about", "series", "labels", "csv")  # routes of a single run


def test_tensorboard_finds_it_by_its_entry_point():
    (found,) = entry_points(group="tensorboard_plugins", name="phases")
    assert found.load() is PhasesPlugin


def test_tab_serves_its_scripts(server):
    assert server.plugin.plugin_name == NAME and server.plugin.is_active()
    meta = server.plugin.frontend_metadata()
    assert meta.es_module_path == "/index.js" and meta.tab_name == "Phases"
    for name in STATIC:
        assert server.get(name).status_code == 200
    script = server.get("plotly.min.js")
    assert script.status_code == 200 and len(script.data) > 1e6


def test_scripts_request_nothing_from_outside():
    folder = Path(run_store.__file__).parent / "static"
    assert sorted(path.name for path in folder.iterdir()) == sorted(STATIC)
    for name in STATIC:
        text = (folder / name).read_text(encoding="utf-8")
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text


def test_list_has_phase_state_and_steps(server, logdir, made):
    (entry,) = server.ask("runs")["runs"]
    summary = read_run(made).summary
    assert entry["id"] == RUN and entry["state"] == "finished" and entry["problem"] == ""
    assert entry["phase"] == summary["phase"] and entry["steps"] == summary["steps"]
    (logdir / RUN / "summary.json").unlink()
    (changed,) = server.ask("runs")["runs"]
    assert changed["state"] == "stopped" and changed["revision"] != entry["revision"]


def test_log_directory_may_be_the_run_itself(made):
    server = Server(made)
    (entry,) = server.ask("runs")["runs"]
    assert entry["id"] == "run" and server.ask("labels", run="run")["phase"] == entry["phase"]


@pytest.mark.parametrize("missing", [True, False])
def test_log_directory_without_runs_is_empty(tmp_path, missing):
    server = Server(tmp_path / "none" if missing else tmp_path)
    assert (
        server.ask("runs") == {"runs": [], "problem": "", "colours": list(RUN_COLOURS)}
        and not server.plugin.is_active()
    )
    assert "is not a run under" in server.ask("about", 400, run="x")["error"]


def test_missing_log_directory_is_explained():
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
def test_invalid_thresholds_are_explained(server, asked):
    (name,) = asked
    error = server.ask("labels", 400, run=RUN, **asked)["error"]
    assert " is not a" in error and ("zeta" in error or name in error)


def test_all_points_are_sent_where_they_fit(server, made):
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


def test_window_has_its_points_and_one_more_on_each_side(server):
    answer = server.ask("series", run=RUN, first=10, last=20, columns=500)
    for steps, _ in answer["points"].values():
        assert steps == list(range(9, 22))


def test_run_in_progress_grows(server, logdir):
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


def test_saved_neurons_are_sent(server, logdir):
    steps = server.ask("about", run=RUN)["neurons"]
    neurons = server.ask("neurons", run=RUN, step=steps[-1])
    assert {len(neurons[name]) for name in ("signal", "perp", "second_layer")} == {32}
    assert "a saved step" in server.ask("neurons", 400, run=RUN, step=10**6)["error"]
    assert (
        "step: '../../x' is not a finite number"
        in server.ask("neurons", 400, run=RUN, step="../../x")["error"]
    )


def test_csv_is_lossless(server, made):
    answer, run = server.get("csv", run=RUN), read_run(made)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="group-run.csv"'
    head, *lines = answer.text.splitlines()
    names = head.split(",")
    assert names[0] == "step" and len(lines) == len(run.history.steps)
    column = [line.split(",")[names.index("heaviness/zeta_star")] for line in lines]
    np.testing.assert_array_equal([float(v) for v in column], run.history["heaviness/zeta_star"])


def flicker(folder, count=10_000):
    """Make a run whose zeta* and slope drift are noise around their thresholds."""
    rng = np.random.default_rng(0)
    zeta = np.exp(0.7 * rng.standard_normal(count)).tolist()
    drift = (0.25 + 0.02 * rng.standard_normal(count)).tolist()
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "history.jsonl").open("w") as file:
        for step in range(count):
            row = {"step": step, "loss/train": 1.0, "heaviness/zeta_star": zeta[step]}
            row |= {"linearization/slope_drift": drift[step], "linearization/value_error": 0.01}
            file.write(json.dumps(row) + "\n")


def test_flickering_labels_are_merged_and_counted(tmp_path):
    flicker(tmp_path / "a")
    server, whole = Server(tmp_path), read_run(tmp_path / "a").summarise()
    assert len(whole["timeline"]) > 5000 and len(whole["boundaries"]) > 1000
    found = server.ask("labels", run="a")
    assert len(found["boundaries"]) <= 2 * MOST_MARKS
    assert found["omitted"] == {
        "stretches": len(whole["timeline"]) - len(found["timeline"]),
        "boundaries": len(whole["boundaries"]) - len(found["boundaries"]),
        "alerts": 0,
    }
    assert all(boundary in whole["boundaries"] for boundary in found["boundaries"])
    assert found["boundaries"][0] == whole["boundaries"][0]
    # at most two extremes and one pair for the boundaries per column, and the two ends
    for columns in (250, 1000):
        for steps, _ in server.ask("series", run="a", columns=columns)["points"].values():
            assert len(steps) <= 4 * columns + 4


def test_records_beside_boundaries_of_changed_thresholds_stay(tmp_path):
    (tmp_path / "a").mkdir()
    with (tmp_path / "a" / "history.jsonl").open("w") as file:
        for step in range(5000):
            row = {"step": step, "heaviness/zeta_star": float(np.exp(4 - step / 500))}
            file.write(json.dumps(row | {"loss/train": 1.0, "margin/min": float(step % 7)}) + "\n")
    server = Server(tmp_path)
    for zeta in ("0.2", "0.3", "0.41"):
        (boundary,) = server.ask("labels", run="a", zeta_enter=zeta)["boundaries"]
        steps, _ = server.ask("series", run="a", columns=50, zeta_enter=zeta)["points"][
            "margin/min"
        ]
        at = boundary["detected"]
        assert {at, at + 1, int(boundary["onset"]), int(boundary["onset"]) + 1} <= set(steps)
    assert "zeta_exit" in server.ask("series", 400, run="a", zeta_enter="3")["error"]


def test_zeros_do_not_break_a_line_on_a_logarithmic_axis(tmp_path):
    (tmp_path / "a").mkdir()
    values = np.random.default_rng(0).integers(0, 3, 10_000) / 64
    rows = ({"step": step, "error/train": value} for step, value in enumerate(values.tolist()))
    (tmp_path / "a" / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    drawn = Server(tmp_path).ask("series", run="a", columns=250)["points"]["error/train"][1]
    assert sum(value > 0 for value in drawn) > 0.99 * len(drawn)


def test_negative_steps_are_sent_on_a_logarithmic_axis(tmp_path):
    (tmp_path / "a").mkdir()
    rows = ({"step": step, "loss/train": 1.0 + step % 5} for step in range(-3000, 3000))
    (tmp_path / "a" / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    steps, _ = Server(tmp_path).ask("series", run="a", columns=300, log="1")["points"]["loss/train"]
    assert steps[0] == -3000 and steps[-1] == 2999 and set(range(1, 10)) <= set(steps)


def test_replaced_history_has_its_own_labels(server, logdir):
    (logdir / RUN / "summary.json").unlink()
    path = logdir / RUN / "history.jsonl"
    before, series = server.ask("labels", run=RUN), server.ask("series", run=RUN)
    assert before["generation"] == series["generation"]
    lines = path.read_text().splitlines(keepends=True)
    (logdir / RUN / "new").write_text("".join(lines[:10]))
    (logdir / RUN / "new").replace(path)
    after = server.ask("labels", run=RUN)
    assert after["generation"] != before["generation"]
    fresh = Server(logdir).ask("labels", run=RUN)
    assert after | {"generation": 0} == fresh | {"generation": 0}
    assert after["timeline"][-1]["end"] == 9 and server.ask("series", run=RUN)["count"] == 10


def test_history_that_was_missing_for_a_while_is_read_on(server, logdir):
    path = logdir / RUN / "history.jsonl"
    count = server.ask("series", run=RUN)["count"]
    path.rename(logdir / RUN / "away")
    assert "No such file" in server.ask("series", run=RUN)["problem"]
    (logdir / RUN / "away").rename(path)
    answer, (entry,) = server.ask("series", run=RUN), server.ask("runs")["runs"]
    assert answer["problem"] == "" and answer["count"] == count and entry["state"] == "finished"


def test_damaged_run_is_shown_up_to_the_damage(server, logdir):
    path = logdir / RUN / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:30], "garbage\n", *lines[30:]]))
    assert server.ask("series", run=RUN)["count"] == 30
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == "damaged" and "history.jsonl, line 31: " in entry["problem"]
    *_, record, last = server.get("csv", run=RUN).text.splitlines()
    assert record.startswith("29,") and last.startswith("# history.jsonl, line 31: ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_methods_are_answered(server, method):
    application = server._apps["/runs"]
    assert Client(application).open("/", method=method).status_code == 405
    assert Client(application).head("/").status_code == 200


LOCAL = [
    "localhost",
    "localhost:6006",
    "127.0.0.1:80",
    "127.0.0.2",
    "[::1]:6006",
    "a.localhost",
    "LOCALHOST",
]
FOREIGN = [
    "evil.example",
    "evil.example:6006",
    "localhost.evil.example",
    "10.0.0.1",
    "[2001:db8::1]:80",
    "",
]


@pytest.mark.parametrize("host", LOCAL + FOREIGN)
@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_local_server_answers_under_local_names_only(server, host, bound):
    environ = {"HTTP_HOST": host, "SERVER_NAME": bound}
    answer = Client(server._apps["/runs"]).get("/", environ_overrides=environ)
    refused = host in FOREIGN and bound in ("127.0.0.1", "::1")
    assert answer.status_code == (403 if refused else 200), answer.text
    assert not refused or "--bind_all" in answer.get_json()["error"]


def test_a_metric_that_looks_like_a_formula_is_text_in_csv(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    rows = {"step": 0, "=HYPERLINK(1)": 1.0, "@x": 2.0, "-y": 3.0, "loss/train": 4.0}
    (tmp_path / "history.jsonl").write_text(json.dumps(rows) + "\n")
    text = Server(tmp_path).get("csv", run=tmp_path.name).text
    assert text.splitlines()[0] == "step,'=HYPERLINK(1),'@x,'-y,loss/train"


def test_csv_has_its_content_type_and_name(server, logdir):
    assert server.get("csv", run=RUN).headers["X-Content-Type-Options"] == "nosniff"
    shutil.rmtree(logdir / RUN)
    assert "a run under" in server.ask("csv", 400, run=RUN)["error"]


def test_newest_runs_are_listed_and_older_ones_counted(tmp_path, monkeypatch):
    for number in range(7):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        os.utime(folder / "config.json", (100 - number, 100 - number))
    monkeypatch.setattr(run_store, "MOST_RUNS", 4)
    answer = Server(tmp_path).ask("runs")
    assert [entry["id"] for entry in answer["runs"]] == ["run0", "run1", "run2", "run3"]
    assert answer["problem"].startswith(
        "Only the 4 newest runs are listed, 3 older ones are left out"
    )


def test_run_within_a_run_of_its_name_has_its_own_id(made, tmp_path):
    shutil.copytree(made, tmp_path / "x")
    shutil.copytree(made, tmp_path / "x" / "x")
    lines = (made / "history.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "x" / "x" / "history.jsonl").write_text("".join(lines[:5]))
    server = Server(tmp_path / "x")
    names = {entry["id"] for entry in server.ask("runs")["runs"]}
    assert len(names) == 2
    assert {server.ask("series", run=name)["count"] for name in names} == {5, len(lines)}


# Number of readings of the run that is read while the list is requested.
SLOW_RECORDS, SLOW_METRICS = 30_000, 8


def test_list_and_csv_answer_while_a_run_is_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    values = np.random.default_rng(0).standard_normal((SLOW_RECORDS, SLOW_METRICS)).tolist()

    def lines(first, last):
        for step in range(first, last):
            row = {f"m{number}": value for number, value in enumerate(values[step])}
            yield json.dumps({"step": step} | row) + "\n"

    path, half = tmp_path / "a" / "history.jsonl", SLOW_RECORDS // 2
    path.write_text("".join(lines(0, half)))
    server, answers, over = Server(tmp_path), [], threading.Event()

    def ask():
        while not over.is_set():
            answers.append(server.get("runs").status_code)
            answers.append(server.get("csv", run="a").status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with path.open("a") as file:
            for first in range(half, SLOW_RECORDS, 500):
                file.writelines(lines(first, first + 500))
                file.flush()
                answers.append(server.get("series", run="a").status_code)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {200}
    history = server.plugin._store.open("a").history()
    found = np.stack([history[f"m{number}"] for number in range(SLOW_METRICS)], axis=1)
    np.testing.assert_array_equal(found, values)


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
def test_odd_names_can_be_opened(made, tmp_path, name):
    shutil.copytree(made, tmp_path / name)
    server = Server(tmp_path)
    (entry,) = server.ask("runs")["runs"]
    assert entry["id"] == name and entry["state"] == "finished"
    assert server.ask("about", run=name)["id"] == name
    assert "\n" not in server.get("csv", run=name).headers["Content-Disposition"]


@pytest.mark.parametrize(
    "name", ["../secret", "group/../../secret", "/etc", "..", "", ".", "group", "a\0b", "x" * 10**5]
)
def test_nothing_outside_the_log_directory_is_opened(server, logdir, made, name):
    shutil.copytree(made, logdir.parent / "secret")
    for route in ("about", "series", "labels", "csv"):
        assert "is not a run under the log directory" in server.ask(route, 400, run=name)["error"]


@pytest.mark.parametrize("file", ["history.jsonl", "summary.json", "config.json"])
def test_links_are_not_followed(server, logdir, tmp_path, file):
    secret = tmp_path / "secret"
    secret.write_text('{"step": 0, "password": 1}\n')
    (logdir / RUN / file).unlink()
    (logdir / RUN / file).symlink_to(secret)
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == "unreadable" and file in entry["problem"]
    for route in ("about", "series", "labels"):
        assert "password" not in server.get(route, run=RUN).text


SECRET = '{"step": 0, "password": 1, "loss/train": 42.5}\n'


@pytest.mark.parametrize("file", ["history.jsonl", "summary.json", "config.json", "clock.jsonl"])
def test_links_swapped_in_later_are_not_followed(server, logdir, tmp_path, file):
    for route in ROUTES:
        server.get(route, run=RUN)
    (tmp_path / "secret").write_text(SECRET)
    (logdir / RUN / file).unlink()
    (logdir / RUN / file).symlink_to(tmp_path / "secret")
    for route in ROUTES:
        text = server.get(route, run=RUN).text
        assert "password" not in text and "42.5" not in text


@pytest.mark.parametrize("swapped", [RUN, "group"])
def test_run_whose_directory_became_a_link_is_closed(server, logdir, tmp_path, swapped):
    secret = tmp_path / "secret"
    place = secret / Path(RUN).relative_to(swapped)
    place.mkdir(parents=True)
    (place / "history.jsonl").write_text(SECRET)
    (place / "config.json").write_text("{}")
    for route in ROUTES:
        assert server.get(route, run=RUN).status_code == 200
    shutil.rmtree(logdir / swapped)
    (logdir / swapped).symlink_to(secret)
    for route in ROUTES:
        assert "a run under" in server.ask(route, 400, run=RUN)["error"]
    assert server.ask("runs")["runs"] == []


def test_neurons_behind_a_link_are_not_read(server, logdir, tmp_path):
    (step, *_) = server.ask("about", run=RUN)["neurons"]
    (logdir / RUN / "neurons").rename(tmp_path / "elsewhere")
    (logdir / RUN / "neurons").symlink_to(tmp_path / "elsewhere")
    assert server.ask("about", run=RUN)["neurons"] == []
    assert server.get("neurons", run=RUN, step=step).status_code == 400


def test_pipe_is_not_waited_for(server, logdir):
    (logdir / RUN / "history.jsonl").unlink()
    os.mkfifo(logdir / RUN / "history.jsonl")
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == "unreadable" and "not a regular file" in entry["problem"]
    assert server.ask("series", run=RUN)["count"] == 0


def nested(depth):
    return json.loads('{"a":' * depth + "1" + "}" * depth)


@pytest.mark.parametrize("depth", [300, 900])
def test_deep_summary_does_not_hide_other_runs(server, logdir, depth):
    shutil.copytree(logdir / RUN, logdir / "healthy")
    path = logdir / RUN / "summary.json"
    alert = {"name": "X", "step": 1, "evidence": nested(depth)}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"alerts": [alert]}))
    states = {entry["id"]: entry["state"] for entry in server.ask("runs")["runs"]}
    assert states == {RUN: "finished", "healthy": "finished"}
    assert server.ask("labels", run=RUN)["alerts"] == [{"name": "X", "step": 1, "evidence": {}}]


def test_failure_at_one_run_does_not_hide_others(server, logdir, monkeypatch, caplog):
    shutil.copytree(logdir / RUN, logdir / "healthy")
    describe = run_store.describe_run

    def fail(name, folder):
        if name == RUN:
            raise RecursionError("too deep")
        return describe(name, folder)

    monkeypatch.setattr(run_store, "describe_run", fail)
    entries = {entry["id"]: entry for entry in server.ask("runs")["runs"]}
    assert entries["healthy"]["state"] == "finished"
    assert entries[RUN]["state"] == "unreadable"
    assert entries[RUN]["problem"] == "RecursionError: too deep"


@pytest.mark.parametrize(
    "change",
    [
        {"escape_steps": 10**400},
        {"escape_steps": float("nan")},
        {"thresholds": {"patience": 2**63}},
        {"thresholds": {"patience": 10**400}},
        {"thresholds": {"zeta_enter": 10**400}},
    ],
    ids=lambda change: str(change)[:30],
)
def test_odd_numbers_in_a_configuration_do_not_break_routes(server, logdir, change):
    path = logdir / RUN / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (logdir / RUN / "summary.json").unlink()
    for route in ROUTES:
        assert server.get(route, run=RUN).status_code == 200
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == ("unreadable" if "thresholds" in change else "stopped")


def test_times_that_are_not_finite_are_left_out(server, logdir):
    path = logdir / RUN / "clock.jsonl"
    path.write_text('{"step": 0, "seconds": NaN}\n{"step": 1, "seconds": 1e999}\n')
    assert server.ask("about", run=RUN)["clock"] == []


def test_oversized_files_are_refused(server, logdir):
    with (logdir / RUN / "summary.json").open("wb") as file:
        file.truncate(contents.LARGEST_OBJECT + 1)
    (entry,) = server.ask("runs")["runs"]
    assert entry["state"] == "unreadable" and "bytes, more than" in entry["problem"]


def test_names_that_are_not_utf_8_are_listed_and_opened(made, tmp_path):
    shutil.copytree(made, os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    server = Server(tmp_path)
    (entry,) = server.ask("runs")["runs"]
    assert entry["id"] == r"caf\udce9" and entry["state"] == "finished"
    assert server.ask("series", run=entry["id"])["count"] > 0


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
def test_damaged_files_are_reported_and_the_server_survives(server, logdir, file, content):
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
        assert state in ("finished", "running", "stopped", "unreadable")
    assert server.ask("series", run="healthy")["count"] > 0


def test_truncated_line_is_left_out(server, logdir):
    path = logdir / RUN / "history.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    answer = server.ask("series", run=RUN)
    assert answer["count"] == content.count(b"\n") - 1 and answer["problem"] == ""


def test_internal_failure_is_an_answer(server, monkeypatch, caplog):
    def fail(self):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run_store.RunStore, "runs", fail)
    assert "ZeroDivisionError: ours" in server.ask("runs", 500)["error"]


def test_many_runs_are_opened_by_many_threads(made, tmp_path):
    names = [f"r{number}" for number in range(8)]
    for name in names:
        shutil.copytree(made, tmp_path / name)
    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(6):
            store = run_store.RunStore(tmp_path)  # opens a run while further ones are being read
            with ThreadPoolExecutor(len(names)) as threads:
                answers = threads.map(lambda name, s=store: s.open(name).series(), names)
                assert len({answer["count"] for answer in answers}) == 1
    finally:
        sys.setswitchinterval(switched)


def test_many_browsers_are_answered_at_once(server):
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


def test_labels_come_with_the_words_of_the_terminal(server, made):
    labels = server.ask("labels", run=RUN)
    assert labels["ended"] == ended(read_run(made).summary)
    assert labels["story"] == story(read_run(made).summary).text
    names = [alert["name"] for alert in labels["alerts"]]
    assert [text.split()[0] for text in labels["alert_words"]] == names
    assert "zeta*" in server.ask("about", run=RUN)["glossary"]
