"""Figures for people: one run, or several compared, on one page.

Drawn with matplotlib's Figure alone (no pyplot, no global state), so that a figure can be made in
the middle of somebody's training.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phasetrack.display.charts import COMPARED, Chart, drawn, page_charts
from phasetrack.display.drawing import (
    SERIF,
    Figure,
    Line2D,
    Patch,
    own_settings,
    write_figure,
)
from phasetrack.display.lanes import HINDSIGHT, labels_of, lane_colours, spoken
from phasetrack.display.page import LANE_NAMES, finish_page, new_page, width_of
from phasetrack.display.panels import (
    LINE_STYLES,
    begin_panel,
    draw_chart,
    draw_curve,
    finish_panel,
    keep_to,
    last_edge,
    mark_alerts,
    mark_boundaries,
    mark_onset,
    mathtext,
    shade_phases,
    small_points,
)
from phasetrack.display.run_comparison import without_shared_folder
from phasetrack.display.strip import (
    OPACITY,
    Row,
    bands_of,
    draw_strip,
    inches_of,
    lines_of,
    mark_strip,
    marks_of,
    stacked,
)
from phasetrack.display.style import (
    ALERT_COLOUR,
    BLACK,
    BOUNDARY_COLOUR,
    CLUSTER_DASHES,
    CURVE_COLOURS,
    FORECAST_COLOUR,
)
from phasetrack.errors import ExpectedError, check_choice
from phasetrack.phases.boundaries import SIGNAL_HEAVY, onset
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.vocabulary import UNDETERMINED
from phasetrack.phases.words import ended
from phasetrack.storage.atomic_files import write_output

FORMATS = (".png", ".pdf", ".svg")
DOTS_PER_INCH = {"screen": 150, "paper": 300}
# Fonts are embedded whole in a PDF, as journals ask, and stay text in an SVG.
FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none"}
ALERT_DIVERGED = "DIVERGED"


def run_figure(
    history: History,
    summary: Mapping[str, Any],
    *,
    title: str | None = "",
    size: str = "screen",
    panels: Sequence[str] | None = None,
    width: float | None = None,
    forecast: bool = True,
    serif: bool = False,
) -> Figure:
    """Draw a run on one page: a lane of labels per vocabulary, and panels over the steps below it.

    Args:
        history: every recorded step; curves of missing metrics are left out.
        summary: the content of ``summary.json``: `boundaries`, `alerts`, `vocabularies` and `forecast` are
            drawn, and `thresholds` as dotted lines.
        title: usually the run's name; on a ``screen`` the last label stands behind it. None or an empty text leaves it out.
        size: ``screen`` (12 inches) or ``paper`` (7 inches, without a last label in the title).
        panels: keys of `page_charts`, in the order of the page; None is all that the run has curves of.
        width: inches, 2.5 to 40, instead of those of `size`; the height follows.
        forecast: whether the forecast is drawn.
        serif: whether the font is a serif one, as that of most papers.

    Returns:
        A matplotlib Figure. A solid line is the onset of a boundary, a lighter one its detection; dashed
        curves are predictions.

    Raises:
        ExpectedError: if `size`, `panels` or `width` is not one of those allowed.
    """
    charts = _chosen(page_charts(history), panels)
    if not forecast:
        charts = [_measured(chart) for chart in charts]
        summary = {**summary, "forecast": {}}
    rows = [Row(lane.name, lane) for lane in labels_of(history, summary) if lane.stretches]
    bands, limits = bands_of(summary), _limits([history])
    inches = width_of(size, width)
    names = stacked(marks_of(summary), limits, inches - LANE_NAMES, small_points(inches) - 0.5)
    with own_settings(SERIF if serif else None):
        lines = 1 + max((row for row, _ in names), default=-1)
        page = new_page(inches, len(charts), inches_of(len(rows) + bool(bands), lines))
        thresholds = Thresholds.recorded(summary.get("thresholds", {}))
        for name, axes, chart in zip(_letters(charts), page.panels, charts, strict=True):
            begin_panel(axes, chart)
            shade_phases(axes, history)
            draw_chart(axes, chart, history, thresholds)
            mark_boundaries(axes, summary)
            mark_alerts(axes, summary)
            finish_panel(axes, name, legend=True, inches=page.panel_inches)
        page.strip.set_xlim(*limits)
        wide, marked = page.strip_inches, lines_of(summary)
        draw_strip(page.strip, rows, names, bands, limits=limits, inches=wide, lines=marked)
        mark_strip(page.strip, summary)
        handles = [*_label_patches(rows), *_line_handles(summary)]
        if bands:
            handles.append(Patch(color=FORECAST_COLOUR, label="forecast of a boundary"))
        heading = [title or "", ended(summary) if size == "screen" and title else ""]
        finish_page(page, handles, "optimizer step", "   ".join(part for part in heading if part))
    return page.figure


def comparison_figure(
    runs: Mapping[str, tuple[History, Mapping[str, Any]]],
    *,
    aligned: bool = False,
    size: str = "screen",
    panels: Sequence[str] | None = None,
    width: float | None = None,
    title: str = "",
    serif: bool = False,
) -> Figure:
    """Draw runs over each other, each in its own colour, with lanes of labels of its own.

    Where runs diverged, the value axes show the range of the other runs, and a triangle marks where a
    curve leaves it.

    Args:
        runs: name to history and summary; a folder that all names share is left out.
        aligned: count steps from each run's onset; runs without one are left out.
        size: ``screen`` or ``paper``.
        panels: keys of `COMPARED`, in the order of the page; None is all that a run has a curve of.
        width: inches, 2.5 to 40, instead of those of `size`; the height follows.
        title: above the page.
        serif: whether the font is a serif one.

    Raises:
        ExpectedError: if `aligned` and no run has an onset, or a further argument is not one of those allowed.
    """
    onsets = {name: onset_of(summary) for name, (_, summary) in runs.items()}
    shown = [name for name in runs if not aligned or onsets[name] is not None]
    if not shown:
        raise ExpectedError(
            "aligned",
            "None of these runs became signal-heavy, so none has an onset.",
            "Compare the runs without aligning them.",
        )
    known = {name for each in shown for name in runs[each][0]}
    seen = [chart for chart in COMPARED if chart.curves[0].metric in known]
    charts = _chosen(COMPARED if panels is not None else seen or COMPARED, panels)
    steady = [name for name in shown if not _diverged(runs[name][1])]
    kept = bool(steady) and len(steady) < len(shown)
    shifts = {name: (onsets[name] or 0.0) if aligned else 0.0 for name in shown}
    looks, short = _looks(shown), without_shared_folder(shown)
    rows = [
        Row(short[name] if not place else lane.name, lane, shifts[name], looks[name][0])
        for name in shown
        for place, lane in enumerate(labels_of(*runs[name]))
    ]
    limits = _limits([runs[name][0] for name in shown], list(shifts.values()))
    with own_settings(SERIF if serif else None):
        page = new_page(width_of(size, width), len(charts), inches_of(len(rows), 0))
        for letter, axes, chart in zip(_letters(charts), page.panels, charts, strict=True):
            begin_panel(axes, chart)
            (curve,) = chart.curves
            for name in shown:
                history, (colour, style) = runs[name][0], looks[name]
                if curve.metric in history:
                    draw_curve(
                        axes,
                        history,
                        curve.metric,
                        short[name],
                        colour,
                        style=style,
                        shift=shifts[name],
                    )
                if onsets[name] is not None and not aligned:
                    mark_onset(axes, onsets[name] or 0.0, colour)
            if aligned:
                mark_onset(axes, 0.0)
            if kept and chart.limits is None:
                keep_to(
                    axes, [runs[n][0][curve.metric] for n in steady if curve.metric in runs[n][0]]
                )
            finish_panel(axes, letter, legend=False, inches=page.panel_inches)
        page.strip.set_xlim(*limits)
        draw_strip(page.strip, rows, (), (), limits=limits, inches=page.strip_inches)
        handles = [
            Line2D(
                [], [], color=colour, linestyle=style, linewidth=1.6, label=mathtext(short[name])
            )
            for name, (colour, style) in looks.items()
        ]
        if any(onsets[name] is not None for name in shown):
            colour = BOUNDARY_COLOUR if aligned else "#777777"
            handles.append(
                Line2D([], [], color=colour, linewidth=0.9, label="onset of signal-heaviness")
            )
        if kept:
            text = "leaves the range of the runs that did not diverge"
            handles.append(Line2D([], [], color=BLACK, marker="^", linestyle="", label=text))
        step = "steps since the onset of signal-heaviness" if aligned else "optimizer step"
        finish_page(page, [*handles, *_label_patches(rows)], step, title)
    return page.figure


def save_figure(figure: Figure, path: str | Path, *, size: str = "screen") -> None:
    """Write a figure as PNG, PDF or SVG, by the file's suffix.

    Raises:
        ExpectedError: if the suffix is unknown, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ExpectedError(
            "file", f"{str(path)!r} has an unknown suffix.", f"Use one of {', '.join(FORMATS)}."
        )
    dots = DOTS_PER_INCH[check_choice("size", size, DOTS_PER_INCH)]
    drawn = io.BytesIO()
    write_figure(figure, drawn, FONTS, format=path.suffix[1:].lower(), dpi=dots)
    write_output(path, drawn.getvalue())


def onset_of(summary: Mapping[str, Any]) -> float | None:
    """Return the onset of signal-heaviness in a summary, or None."""
    step = onset(summary, SIGNAL_HEAVY.key)
    return step if math.isfinite(step) else None


def _chosen(charts: Sequence[Chart], keys: Sequence[str] | None) -> list[Chart]:
    """Return the charts of some keys."""
    known = {chart.key: chart for chart in charts}
    if keys is not None and not keys:
        raise ExpectedError("panels", "No panel is named.", f"Name some of {', '.join(known)}.")
    if keys is None:
        return drawn(charts)
    return [known[check_choice("panels", key, known)] for key in keys]


def _measured(chart: Chart) -> Chart:
    """Return a chart without the curves of the forecast."""
    kept = (curve for curve in chart.curves if not curve.metric.startswith("forecast/"))
    return replace(chart, curves=tuple(kept))


def _diverged(summary: Mapping[str, Any]) -> bool:
    return any(alert["name"] == ALERT_DIVERGED for alert in summary.get("alerts", ()))


def _looks(names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return colour and line style of each run: each colour in the first dash, then in the next one."""
    looks = {}
    for number, name in enumerate(names):
        turn, place = divmod(number, len(CURVE_COLOURS))
        dash = CLUSTER_DASHES[turn % len(CLUSTER_DASHES)]
        looks[name] = CURVE_COLOURS[place], LINE_STYLES[dash]
    return looks


def _limits(histories: Sequence[History], shifts: Sequence[float] = ()) -> tuple[float, float]:
    """Return the steps at both ends of the panels."""
    moved = zip(histories, shifts or [0.0] * len(histories), strict=True)
    ends = [(float(h.steps[0]) - by, last_edge(h) - by) for h, by in moved if len(h.steps)]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (0.0, 1.0)


def _letters(charts: Sequence[Chart]) -> list[str]:
    """Return the titles of the panels, lettered where there are several."""
    if len(charts) == 1:
        return [charts[0].title]
    return [f"({chr(ord('a') + place)}) {chart.title}" for place, chart in enumerate(charts)]


def _label_patches(rows: Sequence[Row]) -> list[Patch]:
    """Return the legend's entries for the labels in the lanes."""
    colours = lane_colours(row.lane for row in rows)
    used = {(row.lane.name, stretch["phase"]) for row in rows for stretch in row.lane.stretches}
    named = {
        spoken(label)
        if name in (PAPERS, HINDSIGHT) or label == UNDETERMINED
        else f"{spoken(label)} ({name})": c
        for name, of_name in colours.items()
        for label, c in of_name.items()
        if (name, label) in used
    }
    return [Patch(facecolor=c, alpha=OPACITY, label=name) for name, c in named.items()]


def _line_handles(summary: Mapping[str, Any]) -> list[Line2D]:
    """Return the legend's entries for the lines of a run."""
    found = []
    if summary.get("boundaries"):
        black = BOUNDARY_COLOUR
        found = [
            Line2D([], [], color=black, linewidth=0.9, label="onset of a boundary"),
            Line2D(
                [],
                [],
                color=black,
                linewidth=0.8,
                linestyle="--",
                alpha=0.35,
                label="its detection",
            ),
        ]
    if summary.get("alerts"):
        found.append(
            Line2D([], [], color=ALERT_COLOUR, linewidth=1.2, linestyle="-.", label="alert")
        )
    return found
