"""Draw a sweep: curves with intervals over seeds, and heat maps of two axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phasetrack.display.drawing import Axes, Figure, offset_copy, own_settings
from phasetrack.display.style import CURVE_COLOURS, MARKERS, SMALL_FONT, rounded, setting
from phasetrack.errors import ExpectedError
from phasetrack.phases.boundaries import FITTED, SIGNAL_HEAVY
from phasetrack.studies import confidence

# Columns that are drawn, with their titles; `success` is the share of runs that have `fitted`.
SHOWN = {
    "success": "share of runs that were fitted",
    "onset": f"{SIGNAL_HEAVY.title} (step)",
    "fitted": f"{FITTED.title} (step)",
    "learned_samples": "samples to 2 percent error",
}
# Columns whose forecast is drawn dashed.
FORECAST_OF = {"onset": "onset_forecast", "fitted": "fitted_forecast"}
MOST_TICKS = 10  # values up to this number are all labelled
DODGE = 4.0  # horizontal points between the marks of neighbouring curves
REACH = 2.0  # multiple of the largest mean that is shown: intervals of few seeds are huge
LOG_RATIO = 8.0  # an axis whose values span more than this factor is drawn logarithmic

TableRow = Mapping[str, Any]


@own_settings()
def curves(
    rows: Sequence[TableRow], axes: Mapping[str, Sequence[Any]], *, title: str = ""
) -> Figure:
    """Draw results over the first varying axis, one curve per combination of the other axes.

    Args:
        rows: rows of the sweep's table.
        axes: axes of the sweep's grid.
        title: title of the figure.

    Returns:
        A figure of four panels; dots are means over the seeds of a point, bars their 95 percent
        intervals, dashed lines the forecast.

    Raises:
        ExpectedError: if no axis has two values or more.
    """
    across, *others = _varying(axes, 1)
    values = axes[across]
    places = values if _numeric(values) else range(len(values))
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    groups = _combinations(axes, others)
    for panel, (column, label) in zip(panels.flat, SHOWN.items(), strict=True):
        largest = 0.0
        for number, group in enumerate(groups):
            cells = [_matching(rows, {**group, across: value}) for value in values]
            # marks side by side, so that the bars of one curve do not hide another curve
            shift = DODGE * (number - (len(groups) - 1) / 2)
            look = {
                "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
                "transform": offset_copy(panel.transData, figure, x=shift, units="points"),
            }
            means = _draw_means(
                panel,
                places,
                [_estimate(cell, column) for cell in cells],
                marker=MARKERS[number % len(MARKERS)],
                label=_title(group) or "runs",
                **look,
            )
            largest = max(largest, *means[np.isfinite(means)])
            if column in FORECAST_OF:
                forecast = [_estimate(cell, FORECAST_OF[column]).value for cell in cells]
                panel.plot(places, forecast, linewidth=1.0, linestyle="--", label="_", **look)
        _scale(panel, across, values)
        panel.set_title(label, fontsize=SMALL_FONT + 1)
        if column == "success":
            panel.set_ylim(-0.05, 1.05)
        else:
            _scale_up(panel, largest)
        panel.tick_params(labelsize=SMALL_FONT)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if others:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL_FONT, frameon=False
        )
    legend = "means over seeds, bars their 95 percent intervals, dashed lines the forecast"
    figure.suptitle(f"{title}: {legend}" if title else legend, fontsize=SMALL_FONT + 2)
    return figure


@own_settings()
def phase_diagrams(
    rows: Sequence[TableRow], axes: Mapping[str, Sequence[Any]], *, title: str = ""
) -> Figure:
    """Draw heat maps over the first two varying axes, one row per combination of the other axes.

    Args:
        rows: rows of the sweep's table.
        axes: axes of the sweep's grid.
        title: title of the figure.

    Raises:
        ExpectedError: if fewer than two axes have two values or more.
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
            panel.set_xticks(range(len(axes[across])), [setting(h) for h in axes[across]])
            panel.set_yticks(range(len(axes[up])), [setting(v) for v in axes[up]])
            panel.set_xlabel(across, fontsize=SMALL_FONT)
            panel.set_ylabel(up, fontsize=SMALL_FONT)
            panel.tick_params(labelsize=SMALL_FONT)
            panel.set_title(f"{label}\n{_title(group)}".rstrip(), fontsize=SMALL_FONT)
    legend = "means over seeds; grey: no run got there"
    figure.suptitle(f"{title}: {legend}" if title else legend, fontsize=SMALL_FONT + 2)
    return figure


def varying(axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the names of the axes with two values or more."""
    return [name for name, values in axes.items() if len(values) > 1]


def _varying(axes: Mapping[str, Sequence[Any]], least: int) -> list[str]:
    names = varying(axes)
    if len(names) < least:
        raise ExpectedError(
            "axes",
            f"The figure needs {least} axes with two values or more, not {len(names)}.",
            "Add axes or values.",
        )
    return names


def _combinations(axes: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    values = itertools.product(*(axes[name] for name in names))
    return [dict(zip(names, chosen, strict=True)) for chosen in values]


def _title(group: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {setting(value)}" for name, value in group.items())


def _matching(rows: Sequence[TableRow], chosen: Mapping[str, Any]) -> list[TableRow]:
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


def _estimate(rows: Sequence[TableRow], column: str) -> confidence.Interval:
    """Return a column's mean over finished runs, or for `success` the share that was fitted."""
    finished = [row for row in rows if row["state"] == "finished"]
    if column == "success":
        return confidence.share(sum(row["fitted"] is not None for row in finished), len(finished))
    return confidence.mean([math.nan if row[column] is None else row[column] for row in finished])


def _draw_means(
    panel: Axes,
    places: Sequence[float],
    estimates: Sequence[confidence.Interval],
    **look: Any,
) -> np.ndarray:
    """Draw means with bars for their intervals; return the means."""
    means = np.array([estimate.value for estimate in estimates])
    below = np.nan_to_num([estimate.value - estimate.low for estimate in estimates])
    above = np.nan_to_num([estimate.high - estimate.value for estimate in estimates])
    panel.errorbar(places, means, [below, above], markersize=4, linewidth=1.4, capsize=3, **look)
    # artists with a transform of their own do not count for the limits by themselves
    ends = zip([*places] * 2, [*(means - below), *(means + above)], strict=True)
    panel.update_datalim([(x, y) for x, y in ends if math.isfinite(y)])
    panel.autoscale_view()
    return means


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
        dark = math.isfinite(value) and value < (low + high) / 2
        colour = "white" if dark else "black"
        panel.text(
            x, y, rounded(value), ha="center", va="center", fontsize=SMALL_FONT - 1, color=colour
        )


def _scale(panel: Axes, name: str, values: Sequence[Any]) -> None:
    panel.set_xlabel(name, fontsize=SMALL_FONT)
    if not _numeric(values):
        panel.set_xticks(range(len(values)), [setting(value) for value in values])
        return
    if _spans((min(values), max(values))):
        panel.set_xscale("log")
    if len(values) <= MOST_TICKS:
        panel.set_xticks(list(values), [setting(value) for value in values])
        panel.minorticks_off()


def _scale_up(panel: Axes, largest: float) -> None:
    """Scale the vertical axis of steps or samples, which are positive; long bars may be cut off."""
    low, high = panel.get_ylim()
    if _spans((low, high)):
        panel.set_yscale("log")
    elif largest > 0:
        panel.set_ylim(max(low, 0.0), min(high, REACH * largest))


def _spans(limits: Sequence[float]) -> bool:
    low, high = limits
    return low > 0 and high / low > LOG_RATIO


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
