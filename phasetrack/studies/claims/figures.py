"""Draw the charts of a claim as one figure. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from phasetrack.display.drawing import Axes, Figure, own_settings, write_figure
from phasetrack.display.style import CURVE_COLOURS, MARKERS, SMALL_FONT
from phasetrack.studies.claims.findings import ClaimChart, Series

MANY_POINTS = 20  # a curve of this many points or more has no dots
COLUMNS = 2  # charts per row


@own_settings()
def figure(charts: Sequence[ClaimChart]) -> Figure:
    """Draw charts, two per row; bars are 95 percent intervals over seeds."""
    columns = min(len(charts), COLUMNS)
    rows = -(-len(charts) // columns)
    drawn = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
    panels = drawn.subplots(rows, columns, squeeze=False).flatten()
    for panel, chart in zip(panels, charts, strict=False):
        _draw(panel, chart)
    for panel in panels[len(charts) :]:
        panel.remove()
    return drawn


def svg(charts: Sequence[ClaimChart]) -> str:
    """Draw charts as an SVG element for a page."""
    file = io.StringIO()
    write_figure(figure(charts), file, format="svg")
    text = file.getvalue()
    return text[text.index("<svg") :]


def _draw(panel: Axes, chart: ClaimChart) -> None:
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
        colour = CURVE_COLOURS[names.index(name) % len(CURVE_COLOURS)]
        panel.axvline(x, color=colour, linewidth=1, linestyle=":")
    panel.set_title(chart.title, fontsize=SMALL_FONT + 1, wrap=True)
    panel.set_xlabel(chart.x, fontsize=SMALL_FONT, wrap=True)
    panel.set_ylabel(chart.y, fontsize=SMALL_FONT)
    panel.tick_params(labelsize=SMALL_FONT)
    panel.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        panel.legend(fontsize=SMALL_FONT - 1, frameon=False)


def _curve(panel: Axes, series: Series, number: int, *, joined: bool) -> None:
    y = np.array(series.y, dtype=float)
    y[~np.isfinite(y)] = np.nan
    colour, mark = CURVE_COLOURS[number % len(CURVE_COLOURS)], MARKERS[number % len(MARKERS)]
    if series.predicted:
        panel.plot(series.x, y, color=colour, linewidth=1, linestyle="--", label=series.name)
        return
    # dash-dotted where colours repeat
    line = ("-" if number < len(CURVE_COLOURS) else "-.") if joined else ""
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
