"""Summarise a sweep: means and intervals over seeds, one line per combination of settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from phasetrack.studies import confidence
from phasetrack.studies.sweeps.sweep import Sweep
from phasetrack.studies.sweeps.table import tabulate

# Each number is a mean over seeds, followed by ± half of its 95 percent interval; the forecast is one for all seeds.
COLUMNS = ("runs", "fitted", "onset", "forecast", "target met", "samples to 2 %")


def by_combination(sweep: Sweep) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield each combination of the axes with its cells under `COLUMNS`."""
    rows = tabulate(sweep.folder, sweep.points, {})
    seeds = sweep.grid.seeds
    for number, chosen in enumerate(sweep.grid.combinations()):
        group = rows[number * seeds : (number + 1) * seeds]
        finished = [row for row in group if row["state"] == "finished"]
        fitted = sum(row["fitted"] is not None for row in finished)
        cells = [f"{len(finished)}/{seeds}", f"{fitted}/{len(finished)}"]
        for column in ("onset", "onset_forecast", "fitted", "learned_samples"):
            values = [math.nan if row[column] is None else row[column] for row in finished]
            estimate = confidence.mean(values)
            cells.append(_cell(estimate))
        yield chosen, cells


def _cell(estimate: confidence.Interval) -> str:
    if math.isnan(estimate.value):
        return "-"
    half = estimate.high - estimate.value
    # not known of one seed; 0 of the forecast that all seeds share
    spread = f" ±{_number(half)}" if half > 0 else ""
    return f"{_number(estimate.value)}{spread}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
