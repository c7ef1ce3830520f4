"""A trial's charts as one figure. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasetrack.charts import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from phasetrack.experiments.result import Chart, Series

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")
MANY_POINTS = 20  # from which on a curve has no dots
SMALL = 8


def figure(charts: Sequence[Chart]) -> Figure:
    """The charts beside each other; bars are 95 percent intervals over seeds."""
    made = Figure(figsize=(5.2 * len(charts), 3.4), layout="constrained")
    panels = made.subplots(1, len(charts), squeeze=False)[0]
    for panel, chart in zip(panels, charts, strict=True):
        _draw(panel, chart)
    return made


def svg(charts: Sequence[Chart]) -> str:
    """The same as an SVG element, for a page."""
    file = io.StringIO()
    figure(charts).savefig(file, format="svg")
    text = file.getvalue()
    return text[text.index("<svg") :]


def _draw(panel: Axes, chart: Chart) -> None:
    if chart.log_x:
        panel.set_xscale("log")
    if chart.log_y:
        panel.set_yscale("log")
    for number, series in enumerate(chart.series):
        _curve(panel, series, COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)])
    panel.set_title(chart.title, fontsize=SMALL + 1, wrap=True)
    panel.set_xlabel(chart.x, fontsize=SMALL, wrap=True)
    panel.set_ylabel(chart.y, fontsize=SMALL)
    panel.tick_params(labelsize=SMALL)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=SMALL - 1, frameon=False)


def _curve(panel: Axes, series: Series, colour: str, mark: str) -> None:
    y = np.array(series.y, dtype=float)
    y[~np.isfinite(y)] = np.nan
    dots = {"marker": mark, "markersize": 4.0} if len(y) < MANY_POINTS else {}
    if series.predicted:
        panel.plot(series.x, y, color=colour, linewidth=1, linestyle="--", label=series.name)
        return
    panel.plot(series.x, y, color=colour, linewidth=1.4, label=series.name, **dots)  # type: ignore[arg-type]
    if len(series.low):
        below = np.nan_to_num(y - np.array(series.low), nan=0.0)
        above = np.nan_to_num(np.array(series.high) - y, nan=0.0)
        spread = [np.maximum(below, 0), np.maximum(above, 0)]
        panel.errorbar(series.x, y, yerr=spread, color=colour, linestyle="", capsize=3)
