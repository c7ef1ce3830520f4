"""A trial's charts as one figure. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasetrack.display.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from phasetrack.studies.claims.findings import Chart, Series

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")
MANY_POINTS = 20  # from which on a curve has no dots
BESIDE = 2  # charts in a row
SMALL = 8


def figure(charts: Sequence[Chart]) -> Figure:
    """The charts, two beside each other; bars are 95 percent intervals over seeds."""
    columns = min(len(charts), BESIDE)
    rows = -(-len(charts) // columns)
    made = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
    panels = made.subplots(rows, columns, squeeze=False).flatten()
    for panel, chart in zip(panels, charts, strict=False):
        _draw(panel, chart)
    for panel in panels[len(charts) :]:
        panel.remove()
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
    if chart.kinds:
        panel.set_xticks(range(len(chart.kinds)), chart.kinds, rotation=25, ha="right")
        panel.set_xlim(-0.5, len(chart.kinds) - 0.5)
    for number, series in enumerate(chart.series):
        _curve(panel, series, number, joined=not chart.kinds)
    names = [series.name for series in chart.series]
    for x, name in chart.marks:
        colour = COLOURS[names.index(name) % len(COLOURS)]
        panel.axvline(x, color=colour, linewidth=1, linestyle=":")
    panel.set_title(chart.title, fontsize=SMALL + 1, wrap=True)
    panel.set_xlabel(chart.x, fontsize=SMALL, wrap=True)
    panel.set_ylabel(chart.y, fontsize=SMALL)
    panel.tick_params(labelsize=SMALL)
    panel.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        panel.legend(fontsize=SMALL - 1, frameon=False)


def _curve(panel: Axes, series: Series, number: int, *, joined: bool) -> None:
    y = np.array(series.y, dtype=float)
    y[~np.isfinite(y)] = np.nan
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    if series.predicted:
        panel.plot(series.x, y, color=colour, linewidth=1, linestyle="--", label=series.name)
        return
    # colours that come again are dash-dotted
    line = ("-" if number < len(COLOURS) else "-.") if joined else ""
    dots = {"marker": mark, "markersize": 4.0} if len(y) < MANY_POINTS else {}
    panel.plot(
        series.x,
        y,
        color=colour,
        linewidth=1.4,
        linestyle=line,
        label=series.name,
        **dots,  # type: ignore[arg-type]
    )
    if len(series.low):
        below = np.nan_to_num(y - np.array(series.low), nan=0.0)
        above = np.nan_to_num(np.array(series.high) - y, nan=0.0)
        spread = [np.maximum(below, 0), np.maximum(above, 0)]
        panel.errorbar(series.x, y, yerr=spread, color=colour, linestyle="", capsize=3)
