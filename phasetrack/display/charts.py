"""Definitions of the charts of a run: for the Phases tab, the HTML report and the printed page.

Pure data. A chart has curves of metrics, under their names in the history, and horizontal levels that
are named after the threshold they show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from phasetrack.display.style import (
    ALERT_COLOUR,
    BLACK,
    BLUE,
    CLUSTER_COLOURS,
    CLUSTER_DASHES,
    GREEN,
    PHASE_COLOURS,
    PREDICTED_DASH,
    PURPLE,
    SIGN_COLOURS,
    VERMILION,
)
from phasetrack.phases.boundaries import BOUNDARIES
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.glossary import TERMS
from phasetrack.phases.threshold_words import THRESHOLD_WORDS

# Up to this many clusters have a curve each; beyond, a band from the smallest to the largest margin
# is drawn, and the CSV holds every cluster.
MOST_CLUSTERS = 24
CLUSTER_PREFIX = "margin/clean/"


@dataclass(frozen=True)
class Curve:
    """One metric in a chart.

    Attributes:
        metric: its name in the history.
        label: its name in the legend.
        colour: its colour where one run is shown; of several runs, each has its own colour.
        dash: its line style, under plotly's names; ``dash`` is reserved for predictions.
        predicted: whether it is a prediction.
        role: ``line``, or ``low`` and ``high`` for the edges of a band.
        overlaid: whether it is drawn where several runs are shown.
    """

    metric: str
    label: str
    colour: str
    dash: str = "solid"
    predicted: bool = False
    role: str = "line"
    overlaid: bool = True


@dataclass(frozen=True)
class Chart:
    """One chart over the steps.

    Attributes:
        title: its title for people.
        log: whether the value axis is logarithmic.
        curves: the curves, in the order of the legend.
        levels: names of the thresholds that are drawn as dotted lines.
        footnote: which curves are left out and why, for people; empty where none are.
        limits: ends of the value axis on the printed page, or None to fit the curves.
        axis: name and unit of the value axis.
        key: its short name, by which a panel of the page is chosen.
    """

    title: str
    log: bool
    curves: tuple[Curve, ...]
    levels: tuple[str, ...] = ()
    footnote: str = ""
    limits: tuple[float, float] | None = None
    axis: str = ""
    key: str = ""


def charts(metrics: Iterable[str]) -> list[Chart]:
    """Return the interactive charts of runs that recorded `metrics`.

    Curves of other metrics are left out, and charts without curves, unless there is none with any.
    """
    names = list(dict.fromkeys(metrics))
    margins = _margins(names)
    return drawn(
        _recorded([LOSS, HEAVINESS, margins, FIRST_ORDER, SIGNAL, SECOND_LAYER, SHARES], names)
    )


def page_charts(metrics: Iterable[str]) -> list[Chart]:
    """Return the six charts of the printed page, in reading order; curves of other metrics are left out."""
    names = list(dict.fromkeys(metrics))
    return _recorded([HEAVINESS, SHARES, _page_margins(names), LOSS, FIRST_ORDER, GROWTH], names)


def describe(metrics: Iterable[str]) -> dict[str, Any]:
    """Return charts, colours, boundary labels, thresholds in words and terms as JSON objects."""
    return {
        "charts": [asdict(chart) for chart in charts(metrics)],
        "phases": {phase.name: colour for phase, colour in PHASE_COLOURS.items()},
        "alert": ALERT_COLOUR,
        "signs": SIGN_COLOURS,
        "clusters": cluster_looks(metrics),
        "boundaries": {key: boundary.label for key, boundary in BOUNDARIES.items()},
        "threshold_names": [field.name for field in fields(Thresholds)],
        "threshold_words": THRESHOLD_WORDS,
        "glossary": TERMS,
    }


def drawn(every: Sequence[Chart]) -> list[Chart]:
    """Return the charts that have curves; all of them if none has any."""
    return [chart for chart in every if chart.curves] or list(every)


def _recorded(every: list[Chart], names: list[str]) -> list[Chart]:
    known = set(names)
    return [
        replace(chart, curves=tuple(curve for curve in chart.curves if curve.metric in known))
        for chart in every
    ]


def _predicted(metric: str, label: str, colour: str, *, overlaid: bool = False) -> Curve:
    return Curve(metric, label, colour, PREDICTED_DASH, predicted=True, overlaid=overlaid)


LOSS = Chart(
    "Loss and error",
    True,
    (
        Curve("loss/train", "loss", BLUE),
        Curve("error/train", "error", VERMILION),
        _predicted("forecast/loss", "loss, forecast", BLACK),
    ),
    ("loss_target",),
    axis="loss, or share of wrong signs",
    key="loss",
)
HEAVINESS = Chart(
    "Signal-heaviness",
    True,
    (
        Curve("heaviness/zeta_star", "ζ*", BLUE),
        _predicted("forecast/zeta_star", "ζ*, forecast", BLACK),
    ),
    ("zeta_exit", "zeta_enter"),
    axis="ζ*, noise over signal",
    key="zeta",
)
FIRST_ORDER = Chart(
    "First-order error of the loss",
    True,
    (
        Curve("linearization/value_error", "value error", BLUE),
        Curve("linearization/slope_drift", "slope drift", VERMILION),
        Curve("linearization/gradient_error_first", "gradient, 1st layer", GREEN),
        Curve("linearization/gradient_error_second", "gradient, 2nd layer", PURPLE),
    ),
    ("linear_exit",),
    axis="relative error",
    key="first-order",
)
SIGNAL = Chart(
    "Growth rate of the signal",
    False,
    (
        Curve("growth/signal_rate", "all neurons", BLUE),
        _predicted("growth/signal_rate_predicted", "all, predicted", BLUE, overlaid=True),
        Curve("growth/signal_rate_heavy", "heavy", VERMILION, overlaid=False),
        _predicted("growth/signal_rate_heavy_predicted", "heavy, predicted", VERMILION),
    ),
    axis="rate per unit of time",
    key="signal-rate",
)
SECOND_LAYER = Chart(
    "Growth rate of |a|",
    False,
    (
        Curve("growth/second_layer_rate_heavy", "heavy", VERMILION),
        _predicted("growth/second_layer_rate_heavy_predicted", "heavy, predicted", VERMILION),
        Curve("growth/second_layer_rate_rest", "rest", GREEN),
        _predicted("growth/second_layer_rate_rest_predicted", "rest, predicted", GREEN),
    ),
    axis="rate per unit of time",
    key="second-layer-rate",
)
# SIGNAL and SECOND_LAYER in one, for the page, where six charts have room.
GROWTH = Chart(
    "Growth rates",
    False,
    (
        Curve("growth/signal_rate", "signal", BLUE),
        Curve("growth/second_layer_rate_heavy", "|a|, heavy", VERMILION),
        Curve("growth/second_layer_rate_rest", "|a|, rest", GREEN),
        _predicted("growth/signal_rate_predicted", "predicted", BLACK),
        _predicted("growth/second_layer_rate_heavy_predicted", "", BLACK),
        _predicted("growth/second_layer_rate_rest_predicted", "", BLACK),
    ),
    axis="rate per unit of time",
    key="growth",
)
SHARES = Chart(
    "Shares of the first layer",
    False,
    (
        Curve("heaviness/heavy_mass", "heavy neurons", BLUE),
        Curve("heaviness/signal_share", "signal span", VERMILION),
        Curve("heaviness/control", "random span", GREEN, overlaid=False),
        _predicted("heaviness/chance", "chance", BLACK),
    ),
    limits=(-0.03, 1.03),
    axis="share of Σ|w|²",
    key="shares",
)
# Charts of several runs on one page: one metric each.
COMPARED = (
    replace(HEAVINESS, curves=HEAVINESS.curves[:1], levels=()),
    replace(SHARES, title="Heavy neurons", curves=SHARES.curves[:1]),
    Chart(
        "Smallest clean margin",
        False,
        (Curve("margin/min", "", BLUE),),
        axis="output times label",
        key="margins",
    ),
    replace(LOSS, title="Training loss", curves=LOSS.curves[:1], levels=(), axis="loss"),
    replace(FIRST_ORDER, title="First-order value error", curves=FIRST_ORDER.curves[:1], levels=()),
    replace(SIGNAL, curves=SIGNAL.curves[:1], key="growth"),
)


def cluster_looks(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and colour of each cluster, in the order of the geometry."""
    names = [name for name in dict.fromkeys(metrics) if name.startswith(CLUSTER_PREFIX)]
    return [(curve.label, curve.colour) for curve in map(_cluster, range(len(names)), names)]


def _margins(names: list[str]) -> Chart:
    """Return the interactive chart of the margins: a band, and a curve per cluster."""
    clusters = [name for name in names if name.startswith(CLUSTER_PREFIX)]
    many = len(clusters) > MOST_CLUSTERS
    footnote = (
        f"{len(clusters)} clusters: only the smallest and the largest margin are drawn; "
        "the CSV holds them all"
    )
    curves = (
        Curve("margin/min", "smallest", BLACK, role="low"),
        Curve("margin/max", "largest", BLACK, role="high"),
        *(_cluster(index, name) for index, name in enumerate([] if many else clusters)),
        _predicted("forecast/margin_min", "smallest, forecast", BLACK),
    )
    return Chart(
        "Clean margins",
        False,
        curves,
        footnote=footnote if many else "",
        axis="output times label",
        key="margins",
    )


def _page_margins(names: list[str]) -> Chart:
    """Return the margins for the page: without the band where each cluster has a curve."""
    chart = _margins(names)
    if chart.footnote:
        return chart
    return replace(chart, curves=tuple(c for c in chart.curves if c.role == "line"))


def _cluster(index: int, name: str) -> Curve:
    turn, place = divmod(index, len(CLUSTER_COLOURS))
    dash = CLUSTER_DASHES[turn % len(CLUSTER_DASHES)]
    label = name.removeprefix(CLUSTER_PREFIX)
    return Curve(name, label, CLUSTER_COLOURS[place], dash, overlaid=False)
