"""Draw one panel of a matplotlib figure over the steps: curves, levels, phases, boundaries, its legend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasetrack.display.charts import Chart, Curve
from phasetrack.display.drawing import Axes
from phasetrack.display.style import (
    ALERT_COLOUR,
    BLACK,
    BOUNDARY_COLOUR,
    PHASE_COLOURS,
    SMALL_FONT,
)
from phasetrack.phases.classifier import Phase, Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.loss_watch import drawn_unit
from phasetrack.phases.threshold_words import threshold_name
from phasetrack.phases.timeline import timeline

# matplotlib's line styles for the dashes of charts.
LINE_STYLES: dict[str, Any] = {
    "solid": "-",
    "dash": "--",
    "dashdot": "-.",
    "dot": ":",
    "longdashdot": (0, (8, 2, 1, 2)),
}
LEVEL_STYLES: tuple[Any, ...] = (":", (0, (1, 3)))  # of the levels of one panel
NARROW = 7.0  # inches up to which a figure is for print and has small text
# Up to this many recorded steps are drawn as dots too: a single step makes no line.
FEW_STEPS = 20
END_MARGIN = 0.04  # share of the run that is drawn behind its last step
MOST_NAMED = 8  # curves that a panel's legend names
ROOM = 0.08  # share of a value axis above and below the curves
CHARACTER = 0.55  # width of an average character, in sizes of its font
HANDLE = 4.8  # width of a legend entry beside its text, in sizes of its font
LINE_HEIGHT = 1.32  # of the legend, in sizes of its font
CURVE, LEVEL = "curve", "level"  # identifiers of lines, in an SVG too
SYMBOLS = (
    ("Σ|w|²", r"$\Sigma\,\|w\|^2$"),
    ("ζ*", r"$\zeta^*$"),
    ("|a|", "$|a|$"),
)


def small_font(axes: Axes) -> float:
    """Return the points of small text: less on a narrow page."""
    figure = axes.figure
    return small_points(figure.bbox.width / figure.dpi)


def small_points(width: float) -> float:
    """Return the points of small text on a page of so many inches."""
    return SMALL_FONT - 1.5 if width <= NARROW else SMALL_FONT


def plain(text: str) -> str:
    """Escape dollar signs, which matplotlib takes for mathematics."""
    return text.replace("$", r"\$")


def mathtext(text: str) -> str:
    r"""Return a text with its symbols in matplotlib's notation of mathematics.

    >>> mathtext("ζ*, forecast"), mathtext("-mu2"), mathtext("a $")
    ('$\\zeta^*$, forecast', '$-\\mu_{2}$', 'a \\$')
    """
    escaped = plain(text)
    if cluster := re.fullmatch(r"(-?)mu(\d+)", escaped):
        return rf"${cluster[1]}\mu_{{{cluster[2]}}}$"
    for symbol, drawn in SYMBOLS:
        escaped = escaped.replace(symbol, drawn)
    return escaped


def begin_panel(axes: Axes, chart: Chart) -> None:
    """Set the value axis of a chart."""
    axes.set_ylabel(mathtext(chart.axis), fontsize=small_font(axes))
    if chart.log:
        axes.set_yscale("log")
    if chart.limits is not None:
        axes.set_ylim(*chart.limits)


def draw_chart(axes: Axes, chart: Chart, history: History, thresholds: Thresholds) -> None:
    """Draw the curves and levels of a chart; the axis is stretched to show the levels."""
    units = {"loss_target": drawn_unit(history)}
    levels = [getattr(thresholds, name) * units.get(name, 1.0) for name in chart.levels]
    foot = _foot(chart.curves, history, levels) if chart.log else None
    for curve in chart.curves:
        draw_curve(
            axes,
            history,
            curve.metric,
            curve.label,
            curve.colour,
            style=LINE_STYLES[curve.dash],
            thin=curve.predicted or curve.role != "line",
            foot=foot,
        )
    if chart.log and levels and not any(line.get_gid() == CURVE for line in axes.lines):
        axes.set_ylim(min(levels) / 10, max(levels) * 10)  # levels alone have no range
    for name, value, style in zip(chart.levels, levels, LEVEL_STYLES, strict=False):
        label = mathtext(f"{threshold_name(name)}: {value:.3g}")
        axes.axhline(value, color=BLACK, linewidth=0.8, linestyle=style, label=label, gid=LEVEL)
    if foot is not None:
        axes.set_ylim(bottom=foot)


def _foot(curves: Sequence[Curve], history: History, levels: Sequence[float]) -> float | None:
    """Return the lower edge of a logarithmic axis on which a curve is 0 somewhere; None if none is."""
    drawn = [history[curve.metric] for curve in curves if curve.metric in history]
    if not any((values == 0).any() for values in drawn):
        return None
    positive = [v[np.isfinite(v) & (v > 0)] for v in (*drawn, np.array(levels))]
    known = np.concatenate(positive)
    return float(known.min()) / 2 if known.size else None


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
    foot: float | None = None,
) -> None:
    """Draw one metric over the steps minus `shift`; values that are not finite leave a gap.

    On a logarithmic axis with a `foot`, zeros are drawn there and the label says so; other values that
    have no logarithm leave a gap.
    """
    values = history[metric]
    known = np.where(np.isfinite(values), values, np.nan)
    text = mathtext(label)
    if axes.get_yscale() == "log":
        if foot is not None and (known == 0).any():
            known = np.where(known == 0, foot, known)
            text = f"{text} (0: at the foot)"
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
        label=text or "_",
        gid=CURVE,
        zorder=2.5 if thin else 2,
    )


def keep_to(axes: Axes, steady: Iterable[NDArray[np.float64]]) -> None:
    """Restrict the value axis to the range of some curves, and mark where other curves leave it."""
    log = axes.get_yscale() == "log"
    shown = [values[np.isfinite(values) & (not log or values > 0)] for values in steady]
    known = np.concatenate([np.empty(0), *shown])
    if not known.size:
        return
    low, high = float(known.min()), float(known.max())
    if log:
        room = (high / low) ** ROOM if high > low else 2.0
        low, high = low / room, high * room
    else:
        room = ROOM * (high - low) or 0.5
        low, high = low - room, high + room
    for line in [one for one in axes.lines if one.get_gid() == CURVE]:
        steps, values = np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), dtype=float)
        for left, edge, mark in ((values > high, high, "^"), (values < low, low, "v")):
            if left.any():
                at = steps[int(np.argmax(left))]
                axes.plot(
                    [at],
                    [edge],
                    mark,
                    color=line.get_color(),
                    markersize=5,
                    clip_on=False,
                    zorder=4,
                )
    axes.set_ylim(low, high)


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
    """Draw a line at the onset of each boundary, and a lighter one at its detection."""
    for boundary in summary.get("boundaries", ()):
        mark_onset(axes, boundary["onset"])
        mark_detection(axes, boundary["detected"])


def mark_onset(axes: Axes, step: float, colour: str = BOUNDARY_COLOUR) -> None:
    """Draw the line of an onset."""
    axes.axvline(step, color=colour, linewidth=0.9, zorder=1)


def mark_detection(axes: Axes, step: float, colour: str = BOUNDARY_COLOUR) -> None:
    """Draw the line of a detection."""
    axes.axvline(step, color=colour, linewidth=0.8, linestyle="--", alpha=0.35, zorder=1)


def mark_alerts(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Draw a line at the step of each alert."""
    for alert in summary.get("alerts", ()):
        axes.axvline(alert["step"], color=ALERT_COLOUR, linewidth=1.2, linestyle="-.", zorder=1)


def finish_panel(axes: Axes, title: str, *, legend: bool, inches: float) -> None:
    """Set the ticks, the title and, if asked for, the legend between title and curves.

    Args:
        axes: the panel, with everything drawn.
        title: for people.
        legend: whether the panel has one.
        inches: width of the panel, which decides the legend's columns.
    """
    small = small_font(axes)
    axes.tick_params(labelsize=small)
    axes.spines[["top", "right"]].set_visible(False)
    power = axes.yaxis.get_offset_text()  # beside the axis: the legend is above it
    power.set(fontsize=small, x=-0.02, ha="right")
    handles, labels = axes.get_legend_handles_labels() if legend else ([], [])
    rows = 0
    if handles:
        curves = [place for place, line in enumerate(handles) if line.get_gid() == CURVE]
        hidden = set(curves[MOST_NAMED:])
        handles = [line for place, line in enumerate(handles) if place not in hidden]
        labels = [text for place, text in enumerate(labels) if place not in hidden]
        size = small - 0.5
        columns = _columns(labels, 72 * inches / size)
        rows = -(-len(labels) // columns)
        made = axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=columns,
            fontsize=size,
            frameon=False,
            borderpad=0.2,
            borderaxespad=0.0,
            labelspacing=0.2,
            columnspacing=1.0,
            handlelength=2.0,
            handletextpad=0.5,
        )
        if hidden:
            title = f"{title}, {len(hidden)} of {len(curves)} not named"
        made.set_zorder(5)
        made.set_in_layout(False)  # the title's pad holds its room
    pad = 4 + rows * LINE_HEIGHT * small
    axes.set_title(mathtext(title), fontsize=small + 1, loc="left", pad=pad)


def _columns(labels: Sequence[str], room: float) -> int:
    """Return the most columns whose entries fit into a legend of so many sizes of its font."""
    wide = [
        CHARACTER * len(re.sub(r"\\\w+|[$_^{}]", "x", text)) + HANDLE for text in labels
    ]  # symbols of mathtext are one character wide
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        if sum(max(wide[start : start + rows]) for start in range(0, len(wide), rows)) <= room:
            return columns
    return 1


def last_edge(history: History) -> float:
    """Return the right edge of the panels: beyond the last step, so that its phase is visible."""
    first, last = history.steps[[0, -1]]
    return float(last) + max(0.5, END_MARGIN * float(last - first))
