"""The list of charts: what is charted is what the probes record."""

import re

import pytest

from phasetrack.display.charts import (
    BOUNDARY_LABELS,
    MOST_CLUSTERS,
    PHASE_COLOURS,
    charts,
    describe,
)
from phasetrack.phases.classifier import Phase, Thresholds


def metrics_of(names):
    return [curve.metric for chart in charts(names) for curve in chart.curves]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    from phasetrack import RunSettings, read_run, train

    out = tmp_path_factory.mktemp("runs")
    train(RunSettings(d=8, width=8, steps=4, gradient_error=True), out=out, name="run")
    return list(read_run(out / "run").history)


def test_every_charted_metric_is_recorded_by_a_run_with_all_probes(recorded):
    """A name that the probes no longer write would leave a chart empty in silence."""
    everything = metrics_of([*ALL_CHARTED, *recorded])
    assert set(everything) <= set(recorded)


ALL_CHARTED = [
    "loss/train",
    "error/train",
    "forecast/loss",
    "heaviness/zeta_star",
    "forecast/zeta_star",
    "margin/min",
    "margin/max",
    "forecast/margin_min",
    "linearization/value_error",
    "linearization/slope_drift",
    "growth/signal_rate",
    "growth/signal_rate_predicted",
    "growth/second_layer_rate_heavy",
    "growth/second_layer_rate_rest",
    "heaviness/heavy_mass",
    "heaviness/signal_share",
    "heaviness/control",
    "heaviness/chance",
]


def test_what_issue_and_design_ask_for_is_charted(recorded):
    assert set(ALL_CHARTED) <= set(metrics_of(recorded))
    assert {f"margin/clean/{c}" for c in ("mu1", "-mu1", "mu2", "-mu2")} <= set(
        metrics_of(recorded)
    )


def test_a_run_without_a_metric_has_the_chart_without_the_curve():
    (loss, *_), few = charts(["loss/train"]), metrics_of(["loss/train"])
    assert few == ["loss/train"] and loss.title == "Loss and error"
    assert len(charts([])) == len(charts(ALL_CHARTED))


def test_many_clusters_are_a_band():
    names = [f"margin/clean/c{i}" for i in range(MOST_CLUSTERS + 1)]
    assert metrics_of(["margin/min", *names]) == ["margin/min"]
    assert len(metrics_of(names[:-1])) == MOST_CLUSTERS
    notes = [chart.note for chart in charts(names)]
    (said,) = filter(None, notes)
    assert said.startswith("25 clusters") and not any(c.note for c in charts(names[:-1]))


def test_no_two_clusters_look_the_same_and_only_predictions_are_dashed():
    names = [f"margin/clean/c{i}" for i in range(MOST_CLUSTERS)]
    every = [c for chart in charts([*ALL_CHARTED, *names]) for c in chart.curves]
    clusters = [c for c in every if c.metric in names]
    assert len({(c.colour, c.dash) for c in clusters}) == MOST_CLUSTERS
    assert {c.dash for c in clusters[:6]} == {"solid"}
    assert {c.dash for c in clusters[6:12]} == {"dashdot"}
    assert all((c.dash == "dash") == c.predicted for c in every)


def test_levels_are_thresholds_and_colours_are_colours():
    known = vars(Thresholds())
    about = describe(ALL_CHARTED)
    for chart in about["charts"]:
        assert all(level in known for level in chart["levels"])
        assert all(re.fullmatch("#[0-9A-F]{6}", curve["colour"]) for curve in chart["curves"])
    assert set(PHASE_COLOURS) == set(Phase)
    assert set(BOUNDARY_LABELS) == {"signal_heavy", "linear_exit", "fitted"}
