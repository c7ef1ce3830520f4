"""A sweep drawn: curves with intervals over seeds, and phase diagrams as heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform, offset_copy

from phasetrack.display.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from phasetrack.errors import expected_error
from phasetrack.studies import confidence as intervals

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")  # so that curves can be told apart without colours
SMALL = 8
# Columns of the table that are drawn, with their titles; `success` is made of `stopped`.
SHOWN = {
    "success": "share of runs that were fitted",
    "onset": "onset of signal-heaviness (step)",
    "fitted": "loss target met (step)",
    "learned_samples": "samples to 2 percent error",
}
# Columns that the forecast says too, drawn dashed.
FORECAST_OF = {"onset": "onset_forecast", "fitted": "fitted_forecast"}
MOST_TICKS = 10  # so many values of an axis are all named
DODGE = 4.0  # points between the curves' marks at one place
REACH = 2.0  # bars are drawn up to this multiple of the largest mean (few seeds: they are huge)
LOG_RATIO = 8.0  # an axis whose values span more than this factor is drawn logarithmic

Row = Mapping[str, Any]


def curves(rows: Sequence[Row], axes: Mapping[str, Sequence[Any]], *, title: str = "") -> Figure:
    """What is read at the end of runs, over the first axis; a curve for each choice of the others.

    Args:
        rows: of the sweep's table.
        axes: of its grid, the first with two values or more.
        title: of the figure.

    Returns:
        A figure of four panels; dots are means over the seeds of a point, bars their 95 percent
        intervals, dashed lines the forecast.

    Raises:
        ExpectedError: if no axis has two values.
    """
    across, *others = _varying(axes, 1)
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    groups = _combinations(axes, others)
    for panel, (column, label) in zip(panels.flat, SHOWN.items(), strict=True):
        most = 0.0
        for number, group in enumerate(groups):
            # beside each other, or one curve's bars would hide the others'
            shift = DODGE * (number - (len(groups) - 1) / 2)
            place = offset_copy(panel.transData, figure, x=shift, units="points")
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
            name = ", ".join(f"{key} = {_text(value)}" for key, value in group.items())
            members = _matching(rows, group)
            values = axes[across]
            seen = _curve(panel, members, across, values, column, name, colour, mark, place)
            most = max(most, seen)
        _scale(panel, across, axes[across])
        panel.set_title(label, fontsize=SMALL + 1)
        if column == "success":
            panel.set_ylim(-0.05, 1.05)
        else:
            _scale_up(panel, most)
        panel.tick_params(labelsize=SMALL)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if others:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False
        )
    said = "means over seeds, bars their 95 percent intervals, dashed what was forecast"
    figure.suptitle(f"{title}: {said}" if title else said, fontsize=SMALL + 2)
    return figure


def phase_diagrams(
    rows: Sequence[Row], axes: Mapping[str, Sequence[Any]], *, title: str = ""
) -> Figure:
    """Heat maps of the first two axes, a row of maps for each choice of the others.

    Args:
        rows: of the sweep's table.
        axes: of its grid, two of them with two values or more.
        title: of the figure.

    Raises:
        ExpectedError: if fewer than two axes have two values.
    """
    up, across, *others = _varying(axes, 2)
    groups = _combinations(axes, others)
    figure = Figure(figsize=(13, 0.8 + 2.9 * len(groups)), layout="constrained")
    table = figure.subplots(len(groups), len(SHOWN), squeeze=False)
    for line, group in zip(table, groups, strict=True):
        for panel, (column, label) in zip(line, SHOWN.items(), strict=True):
            values = np.array(
                [
                    [
                        _estimate(_matching(rows, {**group, up: v, across: h}), column).value
                        for h in axes[across]
                    ]
                    for v in axes[up]
                ]
            )
            _map(panel, values, column)
            panel.set_xticks(range(len(axes[across])), [_text(h) for h in axes[across]])
            panel.set_yticks(range(len(axes[up])), [_text(v) for v in axes[up]])
            panel.set_xlabel(across, fontsize=SMALL)
            panel.set_ylabel(up, fontsize=SMALL)
            panel.tick_params(labelsize=SMALL)
            named = ", ".join(f"{key} = {_text(value)}" for key, value in group.items())
            panel.set_title(f"{label}\n{named}" if named else label, fontsize=SMALL)
    said = "means over seeds; grey: no run got there"
    figure.suptitle(f"{title}: {said}" if title else said, fontsize=SMALL + 2)
    return figure


def varying(axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """The axes with two values or more."""
    return [name for name, values in axes.items() if len(values) > 1]


def _varying(axes: Mapping[str, Sequence[Any]], least: int) -> list[str]:
    names = varying(axes)
    if len(names) < least:
        allowed = f"{least} --grid with two values or more, to be drawn"
        raise expected_error("grid", allowed, ", ".join(names) or "none")
    return names


def _combinations(axes: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [{}]
    for name in names:
        groups = [{**group, name: value} for group in groups for value in axes[name]]
    return groups


def _matching(rows: Sequence[Row], chosen: Mapping[str, Any]) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


def _estimate(rows: Sequence[Row], column: str) -> intervals.Interval:
    """Mean of a column over finished runs, or the share of them that was fitted."""
    finished = [row for row in rows if row["state"] == "finished"]
    if column == "success":
        return intervals.share(sum(row["fitted"] is not None for row in finished), len(finished))
    return intervals.mean([math.nan if row[column] is None else row[column] for row in finished])


def _curve(
    panel: Axes,
    rows: Sequence[Row],
    across: str,
    values: Sequence[Any],
    column: str,
    name: str,
    colour: str,
    mark: str,
    place: Transform,
) -> float:
    """Draw a curve; the largest mean on it, 0 if there is none."""
    places = values if _numeric(values) else range(len(values))
    found = [_estimate(_matching(rows, {across: value}), column) for value in values]
    means = np.array([estimate.value for estimate in found])
    below = [e.value - e.low if math.isfinite(e.low) else 0.0 for e in found]
    above = [e.high - e.value if math.isfinite(e.high) else 0.0 for e in found]
    panel.errorbar(
        list(places),
        means,
        yerr=[below, above],
        color=colour,
        marker=mark,
        markersize=4,
        linewidth=1.4,
        capsize=3,
        label=name or "runs",
        transform=place,
    )
    if column in FORECAST_OF:
        rest = [_estimate(_matching(rows, {across: v}), FORECAST_OF[column]).value for v in values]
        panel.plot(
            list(places),
            rest,
            color=colour,
            linewidth=1.0,
            linestyle="--",
            label="_",
            transform=place,
        )
    # what is drawn beside its place does not count for the axes by itself
    ends = np.concatenate([means - below, means + above])
    panel.update_datalim(
        [(x, y) for x, y in zip([*places] * 2, ends, strict=True) if math.isfinite(y)]
    )
    panel.autoscale_view()
    return float(max(means[np.isfinite(means)], default=0.0))


def _map(panel: Axes, values: Any, column: str) -> None:
    known = np.ma.masked_invalid(values)
    low, high = (0.0, 1.0) if column == "success" else (known.min(), known.max())
    panel.set_facecolor("lightgrey")  # no run got there
    if known.count() == 0:
        panel.imshow(np.zeros_like(values), cmap="Greys", vmin=0, vmax=4, aspect="auto")
        low, high = 0.0, 1.0
    else:
        panel.imshow(known, cmap="viridis", aspect="auto", origin="lower", vmin=low, vmax=high)
    for (y, x), value in np.ndenumerate(values):
        shown = "-" if math.isnan(value) else _cell(value)
        dark = math.isfinite(value) and value < (low + high) / 2
        colour = "white" if dark else "black"
        panel.text(x, y, shown, ha="center", va="center", fontsize=SMALL - 1, color=colour)


def _cell(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _scale(panel: Axes, name: str, values: Sequence[Any]) -> None:
    panel.set_xlabel(name, fontsize=SMALL)
    if not _numeric(values):
        panel.set_xticks(range(len(values)), [_text(value) for value in values])
        return
    if _spans((min(values), max(values))):
        panel.set_xscale("log")
    if len(values) <= MOST_TICKS:
        panel.set_xticks(list(values), [_text(value) for value in values])
        panel.minorticks_off()


def _scale_up(panel: Axes, most: float) -> None:
    """A vertical axis for steps or samples, which are above 0; long bars may leave it."""
    low, high = panel.get_ylim()
    if _spans((low, high)):
        panel.set_yscale("log")
    elif most > 0:
        panel.set_ylim(max(low, 0.0), min(high, REACH * most))


def _spans(limits: Sequence[float]) -> bool:
    low, high = limits
    return low > 0 and high / low > LOG_RATIO


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
