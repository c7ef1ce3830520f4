"""What the interactive charts show: one list, for the TensorBoard tab and for the HTML report.

Pure data. A chart has curves of metrics, in design.md's names, and horizontal levels that are named
after the threshold which they show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from phasetrack.phases.classifier import Phase, Thresholds

# Okabe and Ito's colours, which colour-blind readers can tell apart; the same in every figure.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
CLUSTER_COLOURS = (BLUE, SKY, VERMILION, ORANGE, GREEN, PURPLE)
# Of the first six clusters, the next six, ... under plotly's names; "dash" is for predictions.
CLUSTER_DASHES = ("solid", "dashdot", "dot", "longdashdot")
PHASE_COLOURS = {
    Phase.UNDETERMINED: "#999999",
    Phase.SIGNAL_FINDING: SKY,
    Phase.SIGNAL_HEAVY: ORANGE,
    Phase.FITTED: GREEN,
}
BOUNDARY_LABELS = {
    "signal_heavy": "signal-heavy",
    "linear_exit": "linear exit",
    "fitted": "fitted",
}
# So many clusters have a curve each; beyond that the band between the extremes says enough, and the
# CSV holds them all (chosen here).
MOST_CLUSTERS = 24
CLUSTER_PREFIX = "margin/clean/"


@dataclass(frozen=True)
class Curve:
    """One metric in a chart.

    Attributes:
        metric: its name in the history.
        label: in the legend.
        colour: where one run is shown; of several, each has a colour of its own.
        dash: its line, under plotly's names; ``dash`` is for predictions alone.
        predicted: whether it is a prediction.
        role: ``line``; ``low`` and ``high`` are the edges of a band.
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
        title: for people.
        log: whether the value axis is logarithmic.
        curves: what is drawn.
        levels: thresholds drawn as dotted lines.
        note: what is not drawn, for people; mostly empty.
    """

    title: str
    log: bool
    curves: tuple[Curve, ...]
    levels: tuple[str, ...] = ()
    note: str = ""


def charts(metrics: Iterable[str]) -> list[Chart]:
    """The charts for runs that recorded `metrics`; curves of others are left out, charts are not."""
    names = list(dict.fromkeys(metrics))
    known = set(names)
    return [
        replace(chart, curves=tuple(curve for curve in chart.curves if curve.metric in known))
        for chart in _every_chart(names)
    ]


def describe(metrics: Iterable[str]) -> dict[str, Any]:
    """Charts, colours of phases, boundary labels and names of thresholds, as JSON knows them."""
    return {
        "charts": [asdict(chart) for chart in charts(metrics)],
        "phases": {phase.name: colour for phase, colour in PHASE_COLOURS.items()},
        "boundaries": BOUNDARY_LABELS,
        "threshold_names": [field.name for field in fields(Thresholds)],
    }


def _every_chart(names: list[str]) -> list[Chart]:
    rates = {"signal": BLUE, "second_layer": PURPLE}
    return [
        Chart(
            "Loss and error",
            True,
            (
                Curve("loss/train", "loss", BLUE),
                Curve("error/train", "error", VERMILION),
                _predicted("forecast/loss", "loss, forecast", BLACK, overlaid=False),
            ),
            ("loss_target",),
        ),
        Chart(
            "Signal-heaviness ζ*",
            True,
            (
                Curve("heaviness/zeta_star", "ζ*", BLUE),
                _predicted("forecast/zeta_star", "ζ*, forecast", BLACK, overlaid=False),
            ),
            ("zeta_exit", "zeta_enter"),
        ),
        Chart("Clean margins", False, _margins(names), note=_margins_note(names)),
        Chart(
            "First-order error of the loss",
            True,
            (
                Curve("linearization/value_error", "value error", BLUE),
                Curve("linearization/slope_drift", "slope drift", VERMILION),
                Curve("linearization/gradient_error_first", "gradient, 1st layer", GREEN),
                Curve("linearization/gradient_error_second", "gradient, 2nd layer", PURPLE),
            ),
            ("linear_exit",),
        ),
        Chart(
            "Growth rate of the signal",
            False,
            (
                Curve("growth/signal_rate", "all neurons", rates["signal"]),
                _predicted(
                    "growth/signal_rate_predicted",
                    "all, predicted",
                    rates["signal"],
                ),
                Curve("growth/signal_rate_heavy", "heavy", VERMILION, overlaid=False),
                _predicted(
                    "growth/signal_rate_heavy_predicted",
                    "heavy, predicted",
                    VERMILION,
                    overlaid=False,
                ),
            ),
        ),
        Chart(
            "Growth rate of |a|",
            False,
            (
                Curve("growth/second_layer_rate_heavy", "heavy", VERMILION),
                _predicted(
                    "growth/second_layer_rate_heavy_predicted",
                    "heavy, predicted",
                    VERMILION,
                    overlaid=False,
                ),
                Curve("growth/second_layer_rate_rest", "rest", GREEN),
                _predicted(
                    "growth/second_layer_rate_rest_predicted",
                    "rest, predicted",
                    GREEN,
                    overlaid=False,
                ),
            ),
        ),
        Chart(
            "Shares of Σ|w|²",
            False,
            (
                Curve("heaviness/heavy_mass", "heavy neurons", BLUE),
                Curve("heaviness/signal_share", "signal span", VERMILION),
                Curve("heaviness/control", "random span", GREEN, overlaid=False),
                _predicted("heaviness/chance", "chance", BLACK, overlaid=False),
            ),
        ),
    ]


def _predicted(metric: str, label: str, colour: str, *, overlaid: bool = True) -> Curve:
    return Curve(metric, label, colour, dash="dash", predicted=True, overlaid=overlaid)


def _clusters(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(CLUSTER_PREFIX)]


def _margins(names: list[str]) -> tuple[Curve, ...]:
    clusters = _clusters(names)
    if len(clusters) > MOST_CLUSTERS:
        clusters = []
    return (
        Curve("margin/min", "smallest", BLACK, role="low"),
        Curve("margin/max", "largest", BLACK, role="high"),
        *(_cluster(index, name) for index, name in enumerate(clusters)),
        _predicted("forecast/margin_min", "smallest, forecast", BLACK, overlaid=False),
    )


def _cluster(index: int, name: str) -> Curve:
    turn, place = divmod(index, len(CLUSTER_COLOURS))
    dash = CLUSTER_DASHES[turn % len(CLUSTER_DASHES)]
    label = name.removeprefix(CLUSTER_PREFIX)
    return Curve(name, label, CLUSTER_COLOURS[place], dash, overlaid=False)


def _margins_note(names: list[str]) -> str:
    count = len(_clusters(names))
    if count <= MOST_CLUSTERS:
        return ""
    return f"{count} clusters, of which the smallest and largest margin are drawn; the CSV has all"
