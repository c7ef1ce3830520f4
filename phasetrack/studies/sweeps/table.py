"""Tabulate a sweep: one row per run, its settings first, then its results. No torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.boundaries import FITTED, LINEAR_EXIT, LOSS_HALVED, SIGNAL_HEAVY, onset
from phasetrack.phases.classifier import first_crossing
from phasetrack.storage.atomic_files import replace_file
from phasetrack.storage.directory import Run, read_run, recorded_settings
from phasetrack.storage.results import find_runs, read_config
from phasetrack.studies.sweeps.point import Point, is_finished

TABLE, PARQUET = "points.csv", "points.parquet"
# Error at which a function counts as learned (theory.md 7).
LEARNED = 0.02
MEASURED = {"onset": SIGNAL_HEAVY, "linear_exit": LINEAR_EXIT, "fitted": FITTED}
FORECAST = {
    "onset_forecast": SIGNAL_HEAVY,
    "linear_exit_forecast": LINEAR_EXIT,
    "loss_halving_forecast": LOSS_HALVED,
    "fitted_forecast": FITTED,
}
FINAL = {
    "final_loss": "loss/train",
    "final_error": "error/train",
    "final_zeta_star": "heaviness/zeta_star",
    "final_heavy_mass": "heaviness/heavy_mass",
    "final_margin_min": "margin/min",
    "final_balance": "margin/balance",
}


def tabulate(
    folder: Path, points: Sequence[Point], failed: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return one row per point, in their order; a missing value is None.

    Args:
        folder: folder of the sweep.
        points: the points.
        failed: for each point that failed, its name and the reason.
    """
    return [_row(folder, point, failed.get(point.name, "")) for point in points]


def write_table(
    folder: Path, points: Sequence[Point], failed: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Write the table of all points in the folder as CSV, and as Parquet if pyarrow is installed.

    Returns:
        The rows: those of `points` first, then those of other sweeps into the same folder.
    """
    rows = tabulate(folder, recorded_points(folder, points), failed)
    if not rows:
        return rows
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(folder / TABLE, text.getvalue().encode())
    if find_spec("pyarrow"):
        import pyarrow
        from pyarrow import parquet

        packed = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(rows), packed)
        replace_file(folder / PARQUET, packed.getvalue().to_pybytes())
    return rows


def recorded_points(folder: Path, points: Sequence[Point]) -> list[Point]:
    """Return `points`, then every other point that has a run in the folder, oldest first."""
    found = {point.name: point for point in points}
    for run in find_runs(folder):
        if run.name not in found:
            with suppress(ExpectedError):  # a run of another kind, or damaged: not of a sweep
                found[run.name] = Point(run.name, recorded_settings(read_config(run), run))
    return list(found.values())


def _row(folder: Path, point: Point, reason: str) -> dict[str, Any]:
    settings = point.settings.to_dict()
    row: dict[str, Any] = {"name": point.name, **settings, "state": "missing", "reason": reason}
    if reason:
        row["state"] = "failed"
    run = None
    if is_finished(folder, point):
        run, row["state"] = read_run(folder / point.name), "finished"
    return row | _results(run, point)


def _results(run: Run | None, point: Point) -> dict[str, Any]:
    summary = run.summary if run else {}
    forecast = summary.get("forecast", {})
    learned = math.nan
    if run and "error/train" in run.history:
        pairs = zip(run.history.steps.tolist(), run.history["error/train"].tolist(), strict=True)
        learned = first_crossing(pairs, LEARNED)
    samples = learned * point.settings.batch_size
    return {
        "phase": summary.get("phase"),
        "stopped": summary.get("stopped"),
        "steps_taken": summary.get("steps"),
        "samples": summary["steps"] * point.settings.batch_size if summary else None,
        **{column: _number(onset(summary, m.key)) for column, m in MEASURED.items()},
        "loss_halving": _number(onset(summary, LOSS_HALVED.key)),
        "learned": _number(learned),
        "learned_samples": _number(samples),
        **{
            column: _number(forecast.get(m.forecast, {}).get("value"))
            for column, m in FORECAST.items()
        },
        **{column: _number(summary.get("final", {}).get(k)) for column, k in FINAL.items()},
        "alerts": ",".join(alert["name"] for alert in summary.get("alerts", ())),
        "seconds": _number(summary.get("seconds")),
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
