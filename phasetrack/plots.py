"""Figures for people: a whole run on one page.

Drawn with matplotlib's Figure alone (no pyplot, no global state), so that a figure can be made in
the middle of somebody's training. Colours are those of Okabe and Ito, which colour-blind readers
can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from phasetrack._checks import ExpectedError
from phasetrack.phases import Phase, Thresholds
from phasetrack.records import History

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
PREDICTED = "--"
CLUSTER_STYLES = ("-", "-.", ":")  # for the first six clusters, the next six, ...
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
# Which forecast entry belongs to which boundary of ``summary.json``.
FORECAST_OF = {
    "signal_heavy": "signal_heavy_onset",
    "linear_exit": "linear_exit",
    "fitted": "fitted",
}
FORMATS = (".png", ".pdf", ".svg")
# Up to so many recorded steps are drawn as dots too: a single step makes no line.
FEW_STEPS = 20
END_MARGIN = 0.04  # of the run, drawn behind its last step
SMALL = 8  # points, for everything that is not a title


def run_figure(history: History, summary: Mapping[str, Any], *, title: str = "") -> Figure:
    """The run on one page: six panels over the steps, phases shaded, boundaries at their onsets.

    Args:
        history: every recorded step; metrics that it lacks leave their curve out.
        summary: what ``summary.json`` holds: `boundaries`, `alerts` and `forecast` are drawn, and
            `thresholds` as dotted lines.
        title: usually the run's name.

    Returns:
        A matplotlib Figure, 12 by 7 inches. Dashed curves are predictions; a bar at the foot of a
        boundary is the band in which it was forecast.
    """
    thresholds = Thresholds(**summary.get("thresholds", {}))
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True)
    panels: Sequence[Axes] = list(grid.flat)
    draw = (_heaviness, _shares, _margins, _loss, _linearization, _growth)
    for axes, content in zip(panels, draw, strict=True):
        _shade_phases(axes, history)
        content(axes, history, thresholds)
        _mark_boundaries(axes, summary)
        _mark_alerts(axes, summary)
        _finish(axes)
    _name_boundaries(panels[0], summary)
    for axes in panels[3:]:
        axes.set_xlabel("optimizer step", fontsize=SMALL)
    _set_range(panels[0], history)
    _header(figure, history, summary, title)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, PDF or SVG, by the file's ending.

    Raises:
        ExpectedError: for another ending, or if the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ExpectedError("file", "a name that ends in " + ", ".join(FORMATS), str(path))
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ExpectedError(
            "file", "a file that can be written", f"{path} ({error.strerror})"
        ) from None


def _heaviness(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Signal-heaviness zeta*", fontsize=SMALL + 1)
    axes.set_yscale("log")
    _curve(axes, history, "forecast/zeta_star", "forecast", BLACK, style=PREDICTED)
    _curve(axes, history, "heaviness/zeta_star", "measured", BLUE)
    _level(axes, thresholds.zeta_exit)
    _level(axes, thresholds.zeta_enter)


def _shares(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Shares of sum |w|^2", fontsize=SMALL + 1)
    axes.set_ylim(-0.03, 1.03)
    _curve(axes, history, "heaviness/heavy_mass", "heavy neurons", BLUE)
    _curve(axes, history, "heaviness/signal_share", "signal span", VERMILION)
    _curve(axes, history, "heaviness/control", "random span", GREEN)
    _curve(axes, history, "heaviness/chance", "chance", BLACK, style=PREDICTED)


def _margins(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Clean margin of each cluster", fontsize=SMALL + 1)
    _curve(axes, history, "forecast/margin_min", "forecast (min)", BLACK, style=PREDICTED)
    clusters = [name for name in history if name.startswith("margin/clean/")]
    for index, name in enumerate(clusters):
        turn, place = divmod(index, len(CLUSTER_COLOURS))
        label, style = name.removeprefix("margin/clean/"), CLUSTER_STYLES[turn % 3]
        _curve(axes, history, name, label, CLUSTER_COLOURS[place], style=style)


def _loss(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Training loss and error", fontsize=SMALL + 1)
    axes.set_yscale("log")
    _curve(axes, history, "forecast/loss", "forecast", BLACK, style=PREDICTED)
    _curve(axes, history, "loss/train", "loss", BLUE)
    _curve(axes, history, "error/train", "error", VERMILION)
    _level(axes, thresholds.loss_target)


def _linearization(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Distance of the loss from first order", fontsize=SMALL + 1)
    axes.set_yscale("log")
    _curve(axes, history, "linearization/value_error", "value error", BLUE)
    _curve(axes, history, "linearization/slope_drift", "slope drift", VERMILION)
    _level(axes, thresholds.linear_exit)


def _growth(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Growth rates (neurons' root mean square)", fontsize=SMALL + 1)
    curves = {
        "growth/signal_rate": ("signal", BLUE),
        "growth/second_layer_rate_heavy": ("|a|, heavy", VERMILION),
        "growth/second_layer_rate_rest": ("|a|, rest", GREEN),
    }
    for name, (label, colour) in curves.items():
        _curve(axes, history, name, label, colour)
    for index, name in enumerate(curves):
        label = "" if index else "predicted"
        _curve(axes, history, f"{name}_predicted", label, BLACK, style=PREDICTED)


def _curve(
    axes: Axes, history: History, name: str, label: str, colour: str, *, style: str = "-"
) -> None:
    """One metric over the steps; what is not finite leaves a gap."""
    if name not in history:
        return
    values = history[name]
    known = np.where(np.isfinite(values), values, np.nan)
    if axes.get_yscale() == "log":
        known = np.where(known > 0, known, np.nan)
    if np.isnan(known).all():
        return
    predicted = style == PREDICTED
    axes.plot(
        history.steps,
        known,
        color=colour,
        linewidth=1.0 if predicted else 1.6,
        linestyle=style,
        marker="." if len(values) <= FEW_STEPS and not predicted else "",
        label=_plain(label) or "_",
        zorder=2.5 if predicted else 2,
    )


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _level(axes: Axes, value: float) -> None:
    """A threshold, which the axis is stretched to show."""
    axes.axhline(value, color=BLACK, linewidth=0.8, linestyle=":")


def _stretches(history: History) -> list[tuple[Phase, float, float]]:
    """Phase, first step and the step at which the next stretch begins."""
    if "phase/id" not in history:
        return []
    steps, ids = history.steps, history["phase/id"].astype(int)
    starts = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist()]
    ends: NDArray[np.float64] = np.append(steps[starts[1:]], np.inf)  # the last one stays open
    return [
        (Phase(int(ids[start])), float(steps[start]), float(end))
        for start, end in zip(starts, ends.tolist(), strict=True)
    ]


def _shade_phases(axes: Axes, history: History) -> None:
    for phase, start, end in _stretches(history):
        stop = min(end, _last_edge(history))
        axes.axvspan(start, stop, color=PHASE_COLOURS[phase], alpha=0.16, linewidth=0, zorder=0)


def _mark_boundaries(axes: Axes, summary: Mapping[str, Any]) -> None:
    for boundary in summary.get("boundaries", ()):
        axes.axvline(boundary["onset"], color=BLACK, linewidth=0.9, zorder=1)
        band = summary.get("forecast", {}).get(FORECAST_OF.get(boundary["name"], ""))
        if band and np.isfinite([band["low"], band["high"]]).all():
            # the foot of the panel, in its own coordinates: x in steps, y in axes
            axes.plot(
                [band["low"], band["high"]],
                [0.01, 0.01],
                color=PURPLE,
                linewidth=4,
                solid_capstyle="butt",
                transform=axes.get_xaxis_transform(),
                zorder=3,
            )


def _mark_alerts(axes: Axes, summary: Mapping[str, Any]) -> None:
    for alert in summary.get("alerts", ()):
        axes.axvline(alert["step"], color=VERMILION, linewidth=1.2, linestyle="-.", zorder=1)


def _name_boundaries(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Names along the lines: boundaries from the foot of the panel, alerts from its middle."""
    named = [
        (boundary["onset"], BOUNDARY_LABELS.get(boundary["name"], boundary["name"]), BLACK, 0.04)
        for boundary in summary.get("boundaries", ())
    ]
    named += [(alert["step"], alert["name"], VERMILION, 0.4) for alert in summary.get("alerts", ())]
    for step, name, colour, height in named:
        axes.annotate(
            name,
            (step, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=SMALL - 1,
            color=colour,
            bbox={"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1},
        )


def _finish(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=SMALL - 1, frameon=False)


def _set_range(axes: Axes, history: History) -> None:
    steps = history.steps
    if len(steps):
        axes.set_xlim(float(steps[0]), _last_edge(history))


def _last_edge(history: History) -> float:
    """Right edge of the panels: some way after the last step, so that its phase is seen."""
    first, last = history.steps[[0, -1]]
    return float(last) + max(0.5, END_MARGIN * float(last - first))


def _header(figure: Figure, history: History, summary: Mapping[str, Any], title: str) -> None:
    label = summary.get("phase", "")
    parts = [title, label and f"{label} at step {history.steps[-1] if len(history.steps) else 0}"]
    figure.suptitle(_plain("   ".join(part for part in parts if part)), fontsize=SMALL + 3)
    seen = list(dict.fromkeys(phase for phase, _, _ in _stretches(history)))
    handles: list[Patch] = [
        Patch(color=PHASE_COLOURS[phase], alpha=0.3, label=phase.name) for phase in seen
    ]
    if any(name in summary.get("forecast", {}) for name in FORECAST_OF.values()):
        handles.append(Patch(color=PURPLE, label="boundary as forecast"))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(handles),
            fontsize=SMALL,
            frameon=False,
        )
