"""Event files, read back by TensorBoard's own loader and through its data server over HTTP."""

import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress

import numpy as np
import pytest
from _browser import end_server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from phasetrack.display.tensorboard.sink import METRICS, TensorBoardSink
from phasetrack.phases.classifier import Alert, Boundary, Phase, Transition
from phasetrack.phases.history import History, Record

STEPS = 3000  # three times as many as TensorBoard's loader keeps per tag
BOUNDARIES = {
    "signal_heavy": Boundary("signal_heavy", 1233.25, 1237),
    "linear_exit": Boundary("linear_exit", 1500.5, 1501),
    "fitted": Boundary("fitted", 2998.75, 2999),
}
LAZY_EVIDENCE = {"loss/train": 0.01, "kernel/drift": 0.04, "kernel/linearisation_error": 0.2}
HPARAMS = {"d": 512, "eta": 0.2, "train": "both", "shuffle": False}


def records():
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        boundaries = tuple(b for b in BOUNDARIES.values() if b.detected == step)
        yield Record(
            step,
            {"loss/train": 1.0 / (1 + step), "margin/clean/mu1": float(step), "bad/one": math.nan},
            Phase.SIGNAL_HEAVY if step >= 1237 else Phase.SIGNAL_FINDING,
            transition=Transition(step, Phase.SIGNAL_FINDING, Phase.SIGNAL_HEAVY)
            if step == 1237
            else None,
            boundaries=boundaries,
            alerts=(Alert("LAZY", step, LAZY_EVIDENCE),) if step == 2000 else (),
            distributions={
                "neurons/log10_needed_zeta": np.append(rng.standard_normal(50), math.inf)
            },
        )


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    sink = TensorBoardSink(path / "run", clusters=["mu1", "mu2"], hparams=HPARAMS)
    history = History()
    for record in records():
        sink.write(record)
        history.append(record.step, {**record.readings, "phase/id": record.phase.value})
    summary = {"phase": "SIGNAL_HEAVY", "boundaries": [vars(b) for b in BOUNDARIES.values()]}
    sink.close(summary, history)
    sink.close(summary, history)
    return path


@pytest.fixture(scope="module")
def events(logdir):
    accumulator = EventAccumulator(str(logdir / "run"))
    accumulator.Reload()
    return accumulator


def content(events, tag):
    return tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto)


@pytest.mark.parametrize("name", BOUNDARIES)
def test_every_boundary_survives_sampling(events, name):
    boundary = BOUNDARIES[name]
    points = [(e.step, e.value) for e in events.Scalars(f"phase_boundary/{name}")]
    assert points == [(boundary.detected - 1, 0.0), (boundary.detected, 1.0)]
    onsets = [(e.step, e.value) for e in events.Scalars(f"phase_boundary/{name}_onset")]
    assert onsets == [(boundary.detected, boundary.onset)]


def test_alerts_are_counted_and_have_a_column_of_hyperparameters(tmp_path):
    sink = TensorBoardSink(tmp_path / "run", hparams={"eta": 0.2})
    alert = Alert("LAZY", 2, {})
    for step in range(4):
        raised = (alert,) if step == 2 else ()
        sink.write(Record(step, {"loss/train": 1.0}, Phase.FITTED, alerts=raised))
    sink.close({}, History())
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("phase_alerts")] == [(0, 0.0), (2, 1.0)]
    assert {"phase/id", "phase_alerts"} <= METRICS.keys()


def test_scalars_are_sampled_by_the_loader(events):
    points = events.Scalars("margin/clean/mu1")
    assert 900 < len(points) <= 10_000
    assert all(point.value == point.step for point in points)
    assert "bad/one" not in events.Tags()["scalars"]


def test_timeline_holds_all_news(events):
    text = content(events, "timeline").item().decode()
    assert text.splitlines() == [
        "* step 1237: SIGNAL_FINDING to SIGNAL_HEAVY",
        "* step 1237: boundary signal_heavy, onset 1233.2",
        "* step 1501: boundary linear_exit, onset 1500.5",
        "* alert LAZY at step 2000: the data were fitted without signal-heavy features; the loss met its "
        "target (0.01) while the kernel drift was 0.04 and the linearisation error 0.2: the network stayed "
        "close to its linearisation.",
        "* step 2999: boundary fitted, onset 2998.8",
    ]


def test_histograms_count_every_neuron_and_reach_the_last_step(events):
    tag = "neurons/log10_needed_zeta"
    bins = content(events, tag)
    assert bins.shape == (30, 3) and bins[:, 2].sum() == 51
    assert (bins[1:, 0] == bins[:-1, 1]).all()
    assert events.Tensors(tag)[-1].step == STEPS - 1


def test_layout_names_tags_that_exist(events):
    layout = layout_pb2.Layout.FromString(content(events, "custom_scalars__config__").item())
    (category,) = layout.category
    assert [c.title for c in category.chart if c.HasField("margin")] == [
        "Cluster margins, min to max"
    ]
    (band,) = category.chart[-1].margin.series
    assert (band.lower, band.value, band.upper) == ("margin/min", "margin/mean", "margin/max")
    lines = [tag for c in category.chart if c.HasField("multiline") for tag in c.multiline.tag]
    assert any(re.fullmatch(tag, "margin/clean/mu1") for tag in lines)
    assert not any(re.fullmatch(tag, "margin/clean/mu10") for tag in lines)


def test_hyperparameters_have_the_boundaries_as_metrics(events):
    def plugin(tag):
        metadata = events.SummaryMetadata(tag)
        return plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)

    session = plugin("_hparams_/session_start_info").session_start_info.hparams
    assert session["d"].number_value == 512 and session["train"].string_value == "both"
    experiment = plugin("_hparams_/experiment").experiment
    assert {m.name.tag for m in experiment.metric_infos} == set(METRICS)
    assert all(m.name.group == "" for m in experiment.metric_infos)


def test_run_has_one_event_file(logdir):
    assert len(list(logdir.rglob("events*"))) == 1


@pytest.mark.parametrize("fast", ["true", "false"], ids=["fast loader", "python loader"])
def test_data_server_answers_with_the_boundaries(logdir, fast):
    """TensorBoard is started as by `phasetrack tensorboard`, on a free port."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0"]
    command += ["--host", "localhost", "--load_fast", fast, "--reload_interval", "1"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            url = next(
                m[1] for line in server.stdout if (m := re.search(r"(http://\S+?)/? ", line))
            )
            for name, boundary in BOUNDARIES.items():
                points = _scalars(url, f"phase_boundary/{name}")
                assert [p[1:] for p in points] == [
                    [boundary.detected - 1, 0.0],
                    [boundary.detected, 1.0],
                ]
            runs = json.loads(_get(f"{url}/data/runs"))
            assert runs == ["run"]
            layout = json.loads(_get(f"{url}/data/plugin/custom_scalars/layout"))
            assert layout["category"][0]["title"] == "phasetrack"
        finally:
            end_server(server)


def _get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def _scalars(url, tag):
    """Request the points of a tag until the server has read the file to its end."""
    query = urllib.parse.urlencode({"run": "run", "tag": tag})
    for _ in range(300):
        tags = {}
        # TensorBoard's Python loader lists a tag before its first point, and fails on requests in between
        with suppress(urllib.error.HTTPError):
            tags = json.loads(_get(f"{url}/data/plugin/scalars/tags")).get("run", {})
        if "phase_boundary/fitted_onset" in tags:
            return json.loads(_get(f"{url}/data/plugin/scalars/scalars?{query}"))
        time.sleep(0.1)
    raise AssertionError("the server never read the run")
