"""The definitions of the charts: every charted metric is one that the probes record."""

import re

import pytest

from phasetrack.display.charts import COMPARED, MOST_CLUSTERS, charts, describe, page_charts
from phasetrack.display.style import PHASE_COLOURS
from phasetrack.phases.classifier import Phase, Thresholds


def metrics_of(names):
    return [curve.metric for chart in charts(names) for curve in chart.curves]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    from phasetrack import RunSettings, read_run, train

    out = tmp_path_factory.mktemp("runs")
    train(RunSettings(d=8, width=8, steps=4, gradient_error=True), out=out, name="run")
    return list(read_run(out / "run").history)


def test_every_charted_metric_is_recorded_by_the_probes(recorded):
    """A metric that the probes do not write would leave a chart empty without an error."""
    everything = metrics_of([*ALL_CHARTED, *recorded])
    assert set(everything) <= set(recorded)
    compared = {curve.metric for chart in COMPARED for curve in chart.curves}
    assert compared <= set(recorded)


def test_page_charts_have_the_metrics_of_the_interactive_charts():
    assert len(page_charts(ALL_CHARTED)) == 6
    printed = {curve.metric for chart in page_charts(ALL_CHARTED) for curve in chart.curves}
    edges = {"margin/min", "margin/max"}  # drawn where clusters have no curves of their own
    assert printed == set(ALL_CHARTED) - edges
    names = [f"margin/clean/c{i}" for i in range(MOST_CLUSTERS + 1)]
    many = {c.metric for chart in page_charts([*ALL_CHARTED, *names]) for c in chart.curves}
    assert edges <= many and not many & set(names)


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


def test_promised_metrics_are_charted(recorded):
    assert set(ALL_CHARTED) <= set(metrics_of(recorded))
    assert {f"margin/clean/{c}" for c in ("mu1", "-mu1", "mu2", "-mu2")} <= set(
        metrics_of(recorded)
    )


def test_missing_metric_leaves_a_chart_without_its_curve():
    (loss, *_), few = charts(["loss/train"]), metrics_of(["loss/train"])
    assert few == ["loss/train"] and loss.title == "Loss and error"
    assert len(charts([])) == len(charts(ALL_CHARTED))


def test_many_clusters_become_a_band():
    names = [f"margin/clean/c{i}" for i in range(MOST_CLUSTERS + 1)]
    assert metrics_of(["margin/min", *names]) == ["margin/min"]
    assert len(metrics_of(names[:-1])) == MOST_CLUSTERS
    (footnote,) = filter(None, [chart.footnote for chart in charts(names)])
    assert footnote.startswith("25 clusters") and not any(c.footnote for c in charts(names[:-1]))


def test_clusters_differ_in_colour_or_dash_and_only_predictions_are_dashed():
    names = [f"margin/clean/c{i}" for i in range(MOST_CLUSTERS)]
    every = [c for chart in charts([*ALL_CHARTED, *names]) for c in chart.curves]
    clusters = [c for c in every if c.metric in names]
    assert len({(c.colour, c.dash) for c in clusters}) == MOST_CLUSTERS
    assert {c.dash for c in clusters[:6]} == {"solid"}
    assert {c.dash for c in clusters[6:12]} == {"dashdot"}
    assert all((c.dash == "dash") == c.predicted for c in every)


def test_levels_name_thresholds_and_colours_are_hexadecimal():
    known = vars(Thresholds())
    about = describe(ALL_CHARTED)
    for chart in about["charts"]:
        assert all(level in known for level in chart["levels"])
        assert all(re.fullmatch("#[0-9A-F]{6}", curve["colour"]) for curve in chart["curves"])
    assert re.fullmatch("#[0-9A-F]{6}", about["alert"])
    assert set(PHASE_COLOURS) == set(Phase)
    assert set(about["boundaries"]) == {"signal_heavy", "linear_exit", "fitted"}


def test_every_chart_of_the_page_has_a_named_axis_and_a_key_of_its_own():
    for page in (page_charts(ALL_CHARTED), COMPARED):
        assert all(chart.axis for chart in page)
        assert len({chart.key for chart in page}) == len(page) == 6


def test_every_threshold_has_words():
    described = describe(ALL_CHARTED)
    assert set(described["threshold_words"]) == set(described["threshold_names"])
    names = [name for name, _ in described["threshold_words"].values()]
    assert len(set(names)) == len(names)
