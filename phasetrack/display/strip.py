"""The strip above the panels of a figure: lanes of labels, the names of boundaries and alerts, the forecast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from phasetrack.display.drawing import Axes
from phasetrack.display.lanes import Lane, lane_colours, spoken
from phasetrack.display.panels import CHARACTER, mark_detection, mark_onset, plain, small_font
from phasetrack.display.style import ALERT_COLOUR, BLACK, BOUNDARY_COLOUR, FORECAST_COLOUR
from phasetrack.phases.boundaries import BOUNDARIES

LANE_INCHES = 0.2
NAME_INCHES = 0.15  # height of a row of names above the lanes
MOST_NAMES = 5  # rows of names; further marks have a line alone
LONGEST_NAME = 24  # characters of a lane's name
OPACITY = 0.55


class Row(NamedTuple):
    """One lane of the strip.

    Attributes:
        name: left of the lane.
        lane: the labels.
        shift: steps by which the lane is moved to the left.
        colour: of the name.
    """

    name: str
    lane: Lane
    shift: float = 0.0
    colour: str = BLACK


class Mark(NamedTuple):
    """A named step above the lanes."""

    step: float
    name: str
    colour: str


def marks_of(summary: Mapping[str, Any]) -> list[Mark]:
    """Return the boundaries at their onsets and the alerts of a run."""
    found = [
        Mark(b["onset"], f"{_boundary_name(b['name'])} {b['onset']:.1f}", BOUNDARY_COLOUR)
        for b in summary.get("boundaries", ())
        if math.isfinite(b["onset"])
    ]
    found += [
        Mark(alert["step"], f"▲ {alert['name']} {alert['step']}", ALERT_COLOUR)
        for alert in summary.get("alerts", ())
    ]
    return sorted(found)


def bands_of(summary: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the steps between which each boundary was forecast; bands without an end are left out."""
    forecast = summary.get("forecast", {})
    bands = [forecast[b.forecast] for b in BOUNDARIES.values() if b.forecast in forecast]
    ends = [(float(band["low"]), float(band["high"])) for band in bands]
    return [(low, high) for low, high in ends if math.isfinite(low) and math.isfinite(high)]


def inches_of(rows: int, names: int) -> float:
    """Return the height of a strip with so many lanes and rows of names."""
    return LANE_INCHES * max(rows, 1) + NAME_INCHES * names


def stacked(
    marks: Sequence[Mark], limits: tuple[float, float], inches: float, points: float
) -> list[tuple[int, Mark]]:
    """Return the marks with the row of each name, such that no two names overlap; the lowest row is 0."""
    low, high = limits
    begins: list[float] = []  # where the names of each row begin
    placed = []
    for mark in reversed(marks):  # a line from a higher row then crosses no name
        left = (mark.step - low) / (high - low or 1.0) * 72 * inches
        right = left + len(mark.name) * points * CHARACTER * 1.1 + 6
        free = next((row for row, begin in enumerate(begins) if right < begin), len(begins))
        if free < MOST_NAMES:
            begins[free : free + 1] = [left]
            placed.append((free, mark))
    return placed


def draw_strip(
    axes: Axes,
    rows: Sequence[Row],
    names: Sequence[tuple[int, Mark]],
    bands: Sequence[tuple[float, float]],
    *,
    limits: tuple[float, float],
    inches: float,
    lines: Sequence[float] = (),
) -> None:
    """Draw lanes under each other, names above them, and the forecast in a lane of its own.

    Args:
        axes: the strip.
        rows: the lanes.
        names: marks with the row of each, of `stacked`.
        bands: first and last step of each forecast.
        limits: the steps at both ends.
        inches: width of the strip, which decides where a label has room in its stretch.
        lines: steps of the lines that `mark_strip` draws; no label stands on one.
    """
    small = small_font(axes) - 0.5
    colours = lane_colours(row.lane for row in rows)
    per_step = 72 * inches / (limits[1] - limits[0] or 1.0)
    for place, row in enumerate(rows):
        stretches = row.lane.stretches
        for stretch, after in zip(stretches, [*stretches[1:], None], strict=False):
            start = stretch["start"] - row.shift
            end = (after["start"] if after else _end(stretch, row, limits)) - row.shift
            colour = colours[row.lane.name][stretch["phase"]]
            bar = [(start, end - start)]
            axes.broken_barh(bar, (place + 0.08, 0.84), color=colour, alpha=OPACITY, linewidth=0)
            label = spoken(stretch["phase"])
            left, right = _widest_gap(start, end, lines)
            if (right - left) * per_step > len(label) * small * CHARACTER * 1.15:
                middle = ((left + right) / 2, place + 0.5)
                axes.text(*middle, label, fontsize=small, ha="center", va="center", clip_on=True)
    count = len(rows) + bool(bands)
    for low, high in bands:
        wide = max(high - low, 3 / per_step)
        axes.broken_barh(
            [((low + high - wide) / 2, wide)], (len(rows) + 0.15, 0.7), color=FORECAST_COLOUR
        )
    titles = [*(_shortened(row.name) for row in rows), *(["forecast"] if bands else [])]
    axes.set_yticks(
        [place + 0.5 for place in range(count)], [plain(t) for t in titles], fontsize=small
    )
    tints = [*(row.colour for row in rows), *([FORECAST_COLOUR] if bands else [])]
    for text, tint in zip(axes.get_yticklabels(), tints, strict=True):
        text.set_color(tint)
    axes.set_ylim(max(count, 1), 0)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    for level, mark in names:
        axes.annotate(
            plain(mark.name),
            (mark.step, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2, 1 + level * 72 * NAME_INCHES),
            textcoords="offset points",
            fontsize=small,
            color=mark.colour,
            va="bottom",
        )
        axes.annotate(
            "",
            (mark.step, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 1 + (level + 0.9) * 72 * NAME_INCHES),
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": mark.colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def lines_of(summary: Mapping[str, Any]) -> list[float]:
    """Return the steps of the lines through the lanes: onsets, detections, alerts."""
    steps = [b[end] for b in summary.get("boundaries", ()) for end in ("onset", "detected")]
    steps += [alert["step"] for alert in summary.get("alerts", ())]
    return [step for step in steps if math.isfinite(step)]


def _widest_gap(start: float, end: float, lines: Sequence[float]) -> tuple[float, float]:
    """Return the widest part of a stretch that no line crosses.

    >>> _widest_gap(0.0, 9.0, [8.0, 2.0, 70.0])
    (2.0, 8.0)
    """
    edges = [start, *sorted(step for step in lines if start < step < end), end]
    return max(pairwise(edges), key=lambda gap: gap[1] - gap[0])


def mark_strip(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Draw the lines of boundaries and alerts through the lanes."""
    for boundary in summary.get("boundaries", ()):
        mark_onset(axes, boundary["onset"])
        mark_detection(axes, boundary["detected"])
    for alert in summary.get("alerts", ()):
        mark_onset(axes, alert["step"], ALERT_COLOUR)


def _end(stretch: Mapping[str, Any], row: Row, limits: tuple[float, float]) -> float:
    """Return the end of a run's last stretch: a record is as long as a thirtieth of the run at most."""
    last, first = float(stretch["end"]), float(row.lane.stretches[0]["start"])
    return min(last + max(0.5, (last - first) / 30), limits[1] + row.shift)


def _boundary_name(name: str) -> str:
    return BOUNDARIES[name].label if name in BOUNDARIES else name


def _shortened(name: str) -> str:
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
