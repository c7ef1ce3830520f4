"""Figures for people: one run, or several compared, on one page.

Drawn with matplotlib's Figure alone (no pyplot, no global state), so that a figure can be made in
the middle of somebody's training.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phasetrack.display.charts import COMPARED, page_charts
from phasetrack.display.drawing import Axes, Figure, ShownFigure, own_settings, write_figure
from phasetrack.display.panels import (
    LINE_STYLES,
    SIZES,
    begin_panel,
    draw_chart,
    draw_curve,
    finish_panel,
    foot_legend,
    last_edge,
    mark_alerts,
    mark_boundaries,
    name_marks,
    phase_patches,
    plain,
    shade_phases,
    small_font,
)
from phasetrack.display.style import BLACK, CLUSTER_DASHES, CURVE_COLOURS
from phasetrack.errors import ExpectedError, check_choice
from phasetrack.phases.boundaries import SIGNAL_HEAVY, onset
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.words import ended
from phasetrack.storage.atomic_files import write_output

FORMATS = (".png", ".pdf", ".svg")
DOTS_PER_INCH = {"screen": 150, "paper": 300}
# Fonts are embedded whole in a PDF, as journals ask, and stay text in an SVG.
FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none"}
LONG_NAME = 40  # characters of a run's name from which on the legend has one column


@own_settings()
def run_figure(
    history: History, summary: Mapping[str, Any], *, title: str = "", size: str = "screen"
) -> Figure:
    """Draw a run on one page: six panels over the steps, phases shaded, boundaries at their onsets.

    Args:
        history: every recorded step; curves of missing metrics are left out.
        summary: the content of ``summary.json``: `boundaries`, `alerts` and `forecast` are drawn, and
            `thresholds` as dotted lines.
        title: usually the run's name.
        size: ``screen`` or ``paper``, a name in `SIZES`.

    Returns:
        A matplotlib Figure. Dashed curves are predictions; a bar at the foot of a
        boundary is the band in which it was forecast.
    """
    thresholds = Thresholds(**summary.get("thresholds", {}))
    figure, panels = _page(size)
    for axes, chart in zip(panels, page_charts(history), strict=True):
        begin_panel(axes, chart)
        shade_phases(axes, history)
        draw_chart(axes, chart, history, thresholds)
        mark_boundaries(axes, summary)
        mark_alerts(axes, summary)
        finish_panel(axes, legend=True)
    name_marks(panels[0], summary)
    _name_steps(panels, "optimizer step")
    if len(history.steps):
        panels[0].set_xlim(float(history.steps[0]), last_edge(history))
    _header(figure, history, summary, title)
    return figure


@own_settings()
def comparison_figure(
    runs: Mapping[str, tuple[History, Mapping[str, Any]]],
    *,
    aligned: bool = False,
    size: str = "screen",
) -> Figure:
    """Draw runs over each other, each in its own colour, with their onsets of signal-heaviness.

    Args:
        runs: name to history and summary.
        aligned: count steps from each run's onset; runs without one are left out.
        size: ``screen`` or ``paper``.

    Raises:
        ExpectedError: if `aligned` and no run has an onset.
    """
    onsets = {name: onset_of(summary) for name, (_, summary) in runs.items()}
    shown = [name for name in runs if not aligned or onsets[name] is not None]
    if not shown:
        raise ExpectedError(
            "aligned",
            "None of these runs became signal-heavy, so none has an onset.",
            "Compare the runs without aligning them.",
        )
    figure, panels = _page(size)
    for axes, chart in zip(panels, COMPARED, strict=True):
        begin_panel(axes, chart)
        (curve,) = chart.curves
        for number, name in enumerate(shown):
            turn, place = divmod(number, len(CURVE_COLOURS))
            colour, dash = CURVE_COLOURS[place], CLUSTER_DASHES[turn % len(CLUSTER_DASHES)]
            history, start = runs[name][0], onsets[name]
            if curve.metric in history:
                style, shift = LINE_STYLES[dash], start or 0.0 if aligned else 0.0
                draw_curve(axes, history, curve.metric, name, colour, style=style, shift=shift)
            if start is not None and not aligned:
                axes.axvline(start, color=colour, linewidth=0.8, linestyle=":", zorder=1)
        if aligned:
            axes.axvline(0.0, color=BLACK, linewidth=0.8, linestyle=":", zorder=1)
        finish_panel(axes, legend=False)
    _name_steps(
        panels, "steps since the onset of signal-heaviness" if aligned else "optimizer step"
    )
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        foot_legend(figure, handles, 3 if max(map(len, labels)) < LONG_NAME else 1)
    return figure


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


def _page(size: str) -> tuple[Figure, Sequence[Axes]]:
    """Make an empty page with six panels that share their steps."""
    figure = ShownFigure(figsize=SIZES[check_choice("size", size, SIZES)], layout="constrained")
    return figure, list(figure.subplots(2, 3, sharex=True).flat)


def _name_steps(panels: Sequence[Axes], name: str) -> None:
    """Name the axis of steps below the lower row of panels."""
    for axes in panels[3:]:
        axes.set_xlabel(name, fontsize=small_font(axes))


def _header(figure: Figure, history: History, summary: Mapping[str, Any], title: str) -> None:
    text = plain("   ".join(part for part in (title, ended(summary)) if part))
    figure.suptitle(text, fontsize=small_font(figure.axes[0]) + 2)
    if patches := phase_patches(history, summary):
        foot_legend(figure, patches, len(patches))
