"""Figures for people: a whole run on one page.

Drawn with matplotlib's Figure alone (no pyplot, no global state), so that a figure can be made in
the middle of somebody's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from phasetrack.display.charts import (
    BLACK,
    BLUE,
    BOUNDARY_LABELS,
    CLUSTER_COLOURS,
    CLUSTER_DASHES,
    GREEN,
    ORANGE,
    PHASE_COLOURS,
    PURPLE,
    SKY,
    VERMILION,
)
from phasetrack.errors import check_choice, expected_error
from phasetrack.phases.classifier import Phase, Thresholds
from phasetrack.phases.history import History

PREDICTED = "--"
# matplotlib's names of the lines that charts have
STYLES: dict[str, Any] = {
    "solid": "-",
    "dashdot": "-.",
    "dot": ":",
    "longdashdot": (0, (8, 2, 1, 2)),
}
CLUSTER_STYLES = tuple(STYLES[dash] for dash in CLUSTER_DASHES)
# Which forecast entry belongs to which boundary of ``summary.json``.
FORECAST_OF = {
    "signal_heavy": "signal_heavy_onset",
    "linear_exit": "linear_exit",
    "fitted": "fitted",
}
FORMATS = (".png", ".pdf", ".svg")
# Inches: a wide screen, or the text width of a page in two columns.
SIZES = {"screen": (12.0, 7.0), "paper": (7.0, 4.6)}
# Fonts are embedded whole in a PDF, as journals ask, and stay text in an SVG.
FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none"}
DOTS_PER_INCH = {"screen": 150, "paper": 300}
# One colour for each compared run; further ones differ by their line.
RUN_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# Up to so many recorded steps are drawn as dots too: a single step makes no line.
FEW_STEPS = 20
END_MARGIN = 0.04  # of the run, drawn behind its last step
SMALL = 8  # points, for everything that is not a title
LONG_NAME = 40  # characters of a run's name, from which on a legend has one column
# What is compared: title, metric, whether its axis is logarithmic.
COMPARED = (
    ("Signal-heaviness zeta*", "heaviness/zeta_star", True),
    ("Share of the heavy neurons", "heaviness/heavy_mass", False),
    ("Smallest clean margin", "margin/min", False),
    ("Training loss", "loss/train", True),
    ("First-order value error", "linearization/value_error", True),
    ("Growth rate of the signal", "growth/signal_rate", False),
)


def run_figure(
    history: History, summary: Mapping[str, Any], *, title: str = "", size: str = "screen"
) -> Figure:
    """The run on one page: six panels over the steps, phases shaded, boundaries at their onsets.

    Args:
        history: every recorded step; metrics that it lacks leave their curve out.
        summary: what ``summary.json`` holds: `boundaries`, `alerts` and `forecast` are drawn, and
            `thresholds` as dotted lines.
        title: usually the run's name.
        size: ``screen`` or ``paper``, a name in `SIZES`.

    Returns:
        A matplotlib Figure. Dashed curves are predictions; a bar at the foot of a
        boundary is the band in which it was forecast.
    """
    thresholds = Thresholds(**summary.get("thresholds", {}))
    figure, panels = _page(size)
    draw = (_heaviness, _shares, _margins, _loss, _linearization, _growth)
    for axes, content in zip(panels, draw, strict=True):
        _shade_phases(axes, history)
        content(axes, history, thresholds)
        _mark_boundaries(axes, summary)
        _mark_alerts(axes, summary)
        _finish(axes)
    _name_boundaries(panels[0], summary)
    for axes in panels[3:]:
        axes.set_xlabel("optimizer step", fontsize=_small(axes))
    _set_range(panels[0], history)
    _header(figure, history, summary, title)
    return figure


def comparison_figure(
    runs: Mapping[str, tuple[History, Mapping[str, Any]]],
    *,
    aligned: bool = False,
    size: str = "screen",
) -> Figure:
    """Runs over each other, a colour each; their onsets of signal-heaviness as lines.

    Args:
        runs: name to history and summary.
        aligned: count steps from each run's onset; runs without one are left out.
        size: ``screen`` or ``paper``.

    Raises:
        ExpectedError: if no run has an onset to be aligned at.
    """
    onsets = {name: onset_of(summary) for name, (_, summary) in runs.items()}
    shown = [name for name in runs if not aligned or onsets[name] is not None]
    if not shown:
        raise expected_error(
            "align", "a run with an onset of signal-heaviness", "none that has one"
        )
    figure, panels = _page(size)
    for axes, (title, metric, log) in zip(panels, COMPARED, strict=True):
        axes.set_title(title, fontsize=_small(axes) + 1)
        if log:
            axes.set_yscale("log")
        for number, name in enumerate(shown):
            turn, place = divmod(number, len(RUN_COLOURS))
            colour, style = RUN_COLOURS[place], CLUSTER_STYLES[turn % len(CLUSTER_STYLES)]
            shift = onsets[name] if aligned else 0.0
            _curve(axes, runs[name][0], metric, name, colour, style=style, shift=shift or 0.0)
            if (onset := onsets[name]) is not None and not aligned:
                axes.axvline(onset, color=colour, linewidth=0.8, linestyle=":", zorder=1)
        _finish(axes, legend=False)
    if aligned:
        for axes in panels:
            axes.axvline(0.0, color=BLACK, linewidth=0.8, linestyle=":", zorder=1)
    word = "steps since the onset of signal-heaviness" if aligned else "optimizer step"
    for axes in panels[3:]:
        axes.set_xlabel(word, fontsize=_small(axes))
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        columns = 3 if max(map(len, labels)) < LONG_NAME else 1
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            fontsize=_small(figure.axes[0]),
            frameon=False,
        )
    return figure


def save_figure(figure: Figure, path: Path, *, size: str = "screen") -> None:
    """Write a figure as PNG, PDF or SVG, by the file's ending.

    Raises:
        ExpectedError: for another ending, or if the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise expected_error("file", "a name that ends in " + ", ".join(FORMATS), str(path))
    try:
        with matplotlib.rc_context(FONTS):
            figure.savefig(path, dpi=DOTS_PER_INCH[check_choice("size", size, DOTS_PER_INCH)])
    except OSError as error:
        raise expected_error(
            "file", "a file that can be written", f"{path} ({error.strerror})"
        ) from None


def _page(size: str) -> tuple[Figure, Sequence[Axes]]:
    """An empty page with six panels that share their steps."""
    figure = Figure(figsize=SIZES[check_choice("size", size, SIZES)], layout="constrained")
    return figure, list(figure.subplots(2, 3, sharex=True).flat)


def _small(axes: Axes) -> float:
    """Points of small text: less on paper, where the page is narrow."""
    figure = axes.get_figure(root=True)
    narrow = figure is not None and figure.get_figwidth() <= SIZES["paper"][0]
    return SMALL - 1.5 if narrow else SMALL


def onset_of(summary: Mapping[str, Any]) -> float | None:
    """The onset of signal-heaviness in a summary; None if there was none."""
    found = [b["onset"] for b in summary.get("boundaries", ()) if b["name"] == "signal_heavy"]
    return float(found[0]) if found and np.isfinite(found[0]) else None


def _heaviness(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Signal-heaviness zeta*", fontsize=_small(axes) + 1)
    axes.set_yscale("log")
    _curve(axes, history, "forecast/zeta_star", "forecast", BLACK, style=PREDICTED)
    _curve(axes, history, "heaviness/zeta_star", "measured", BLUE)
    _level(axes, thresholds.zeta_exit)
    _level(axes, thresholds.zeta_enter)


def _shares(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Shares of sum |w|^2", fontsize=_small(axes) + 1)
    axes.set_ylim(-0.03, 1.03)
    _curve(axes, history, "heaviness/heavy_mass", "heavy neurons", BLUE)
    _curve(axes, history, "heaviness/signal_share", "signal span", VERMILION)
    _curve(axes, history, "heaviness/control", "random span", GREEN)
    _curve(axes, history, "heaviness/chance", "chance", BLACK, style=PREDICTED)


def _margins(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Clean margin of each cluster", fontsize=_small(axes) + 1)
    _curve(axes, history, "forecast/margin_min", "forecast (min)", BLACK, style=PREDICTED)
    clusters = [name for name in history if name.startswith("margin/clean/")]
    for index, name in enumerate(clusters):
        turn, place = divmod(index, len(CLUSTER_COLOURS))
        label, style = (
            name.removeprefix("margin/clean/"),
            CLUSTER_STYLES[turn % len(CLUSTER_STYLES)],
        )
        _curve(axes, history, name, label, CLUSTER_COLOURS[place], style=style)


def _loss(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Training loss and error", fontsize=_small(axes) + 1)
    axes.set_yscale("log")
    _curve(axes, history, "forecast/loss", "forecast", BLACK, style=PREDICTED)
    _curve(axes, history, "loss/train", "loss", BLUE)
    _curve(axes, history, "error/train", "error", VERMILION)
    _level(axes, thresholds.loss_target)


def _linearization(axes: Axes, history: History, thresholds: Thresholds) -> None:
    axes.set_title("Distance of the loss from first order", fontsize=_small(axes) + 1)
    axes.set_yscale("log")
    _curve(axes, history, "linearization/value_error", "value error", BLUE)
    _curve(axes, history, "linearization/slope_drift", "slope drift", VERMILION)
    _level(axes, thresholds.linear_exit)


def _growth(axes: Axes, history: History, _: Thresholds) -> None:
    axes.set_title("Growth rates", fontsize=_small(axes) + 1)
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
    axes: Axes,
    history: History,
    name: str,
    label: str,
    colour: str,
    *,
    style: Any = "-",
    shift: float = 0.0,
) -> None:
    """One metric over the steps less `shift`; what is not finite leaves a gap."""
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
        history.steps - shift,
        known,
        color=colour,
        linewidth=(1.0 if predicted else 1.6) * (_small(axes) / SMALL) ** 2,
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
            fontsize=_small(axes) - 1,
            color=colour,
            bbox={"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1},
        )


def _finish(axes: Axes, *, legend: bool = True) -> None:
    axes.tick_params(labelsize=_small(axes))
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        # boundary lines pass behind the names
        axes.legend(fontsize=_small(axes) - 1, framealpha=0.75, edgecolor="none", borderpad=0.2)


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
    figure.suptitle(
        _plain("   ".join(part for part in parts if part)), fontsize=_small(figure.axes[0]) + 2
    )
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
            fontsize=_small(figure.axes[0]),
            frameon=False,
        )
