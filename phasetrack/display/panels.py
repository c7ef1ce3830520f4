"""Draw the parts of a matplotlib figure over the steps: curves, phases, boundaries, legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from phasetrack.display.charts import Chart
from phasetrack.display.drawing import Axes, Figure, Patch
from phasetrack.display.style import (
    ALERT_COLOUR,
    BLACK,
    BOUNDARY_COLOUR,
    FORECAST_COLOUR,
    PHASE_COLOURS,
    SMALL_FONT,
)
from phasetrack.phases.boundaries import BOUNDARIES
from phasetrack.phases.classifier import Phase, Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.timeline import timeline

# matplotlib's line styles for the dashes of charts.
LINE_STYLES: dict[str, Any] = {
    "solid": "-",
    "dash": "--",
    "dashdot": "-.",
    "dot": ":",
    "longdashdot": (0, (8, 2, 1, 2)),
}
# Inches: a wide screen, or the text width of a two-column page.
SIZES = {"screen": (12.0, 7.0), "paper": (7.0, 4.6)}
# Up to this many recorded steps are drawn as dots too: a single step makes no line.
FEW_STEPS = 20
END_MARGIN = 0.04  # share of the run that is drawn behind its last step


def small_font(axes: Axes) -> float:
    """Return the points of small text: less on paper, where the page is narrow."""
    figure = axes.get_figure(root=True)
    narrow = figure is not None and figure.get_figwidth() <= SIZES["paper"][0]
    return SMALL_FONT - 1.5 if narrow else SMALL_FONT


def plain(text: str) -> str:
    """Escape dollar signs, which matplotlib takes for mathematics."""
    return text.replace("$", r"\$")


def begin_panel(axes: Axes, chart: Chart) -> None:
    """Set the title and the value axis of a chart."""
    axes.set_title(chart.title, fontsize=small_font(axes) + 1)
    if chart.log:
        axes.set_yscale("log")
    if chart.limits is not None:
        axes.set_ylim(*chart.limits)


def draw_chart(axes: Axes, chart: Chart, history: History, thresholds: Thresholds) -> None:
    """Draw the curves and levels of a chart; the axis is stretched to show the levels."""
    for curve in chart.curves:
        style = LINE_STYLES[curve.dash]
        thin = curve.predicted or curve.role != "line"
        draw_curve(axes, history, curve.metric, curve.label, curve.colour, style=style, thin=thin)
    for level in chart.levels:
        axes.axhline(getattr(thresholds, level), color=BLACK, linewidth=0.8, linestyle=":")


def draw_curve(
    axes: Axes,
    history: History,
    metric: str,
    label: str,
    colour: str,
    *,
    style: Any = "-",
    thin: bool = False,
    shift: float = 0.0,
) -> None:
    """Draw one metric over the steps minus `shift`; values that are not finite leave a gap."""
    values = history[metric]
    known = np.where(np.isfinite(values), values, np.nan)
    if axes.get_yscale() == "log":
        known = np.where(known > 0, known, np.nan)
    if np.isnan(known).all():
        return
    axes.plot(
        history.steps - shift,
        known,
        color=colour,
        linewidth=(1.0 if thin else 1.6) * (small_font(axes) / SMALL_FONT) ** 2,
        linestyle=style,
        marker="." if len(values) <= FEW_STEPS and not thin else "",
        label=plain(label) or "_",
        zorder=2.5 if thin else 2,
    )


def shade_phases(axes: Axes, history: History) -> None:
    """Shade each phase from its first step to the first step of the next one."""
    stretches = timeline(history)
    ends = [float(stretch["start"]) for stretch in stretches[1:]]
    for stretch, end in zip(
        stretches, [*ends, last_edge(history)] if stretches else [], strict=True
    ):
        colour = PHASE_COLOURS[Phase[stretch["phase"]]]
        axes.axvspan(stretch["start"], end, color=colour, alpha=0.16, linewidth=0, zorder=0)


def mark_boundaries(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Draw a line at each boundary, and at the foot of the panel the band of its forecast."""
    for boundary in summary.get("boundaries", ()):
        axes.axvline(boundary["onset"], color=BOUNDARY_COLOUR, linewidth=0.9, zorder=1)
        milestone = BOUNDARIES.get(boundary["name"])
        band = milestone and summary.get("forecast", {}).get(milestone.forecast)
        if band and np.isfinite([band["low"], band["high"]]).all():
            axes.plot(
                [band["low"], band["high"]],
                [0.01, 0.01],
                color=FORECAST_COLOUR,
                linewidth=4,
                solid_capstyle="butt",
                transform=axes.get_xaxis_transform(),  # x in steps, y as a share of the panel
                zorder=3,
            )


def mark_alerts(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Draw a line at the step of each alert."""
    for alert in summary.get("alerts", ()):
        axes.axvline(alert["step"], color=ALERT_COLOUR, linewidth=1.2, linestyle="-.", zorder=1)


def name_marks(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Write names along the lines: boundaries from the foot of the panel, alerts from its middle."""
    named = []
    for boundary in summary.get("boundaries", ()):
        milestone = BOUNDARIES.get(boundary["name"])
        label = milestone.label if milestone else boundary["name"]
        named.append((boundary["onset"], label, BOUNDARY_COLOUR, 0.04))
    for alert in summary.get("alerts", ()):
        named.append((alert["step"], alert["name"], ALERT_COLOUR, 0.4))
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
            fontsize=small_font(axes) - 1,
            color=colour,
            bbox={"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1},
        )


def finish_panel(axes: Axes, *, legend: bool) -> None:
    """Set the ticks and, if asked for, the legend of a panel."""
    axes.tick_params(labelsize=small_font(axes))
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        # boundary lines shine through behind the names
        small = small_font(axes) - 1
        axes.legend(fontsize=small, framealpha=0.75, edgecolor="none", borderpad=0.2)


def last_edge(history: History) -> float:
    """Return the right edge of the panels: beyond the last step, so that its phase is visible."""
    first, last = history.steps[[0, -1]]
    return float(last) + max(0.5, END_MARGIN * float(last - first))


def foot_legend(figure: Figure, handles: Iterable[Any], columns: int) -> None:
    """Put a legend of the whole figure below its panels."""
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=small_font(figure.axes[0]),
        frameon=False,
    )


def phase_patches(history: History, summary: Mapping[str, Any]) -> list[Patch]:
    """Return the legend's entries for the phases of a run, and for its forecast if it has one."""
    names = dict.fromkeys(stretch["phase"] for stretch in timeline(history))
    patches = [Patch(color=PHASE_COLOURS[Phase[name]], alpha=0.3, label=name) for name in names]
    if any(boundary.forecast in summary.get("forecast", {}) for boundary in BOUNDARIES.values()):
        patches.append(Patch(color=FORECAST_COLOUR, label="boundary as forecast"))
    return patches
