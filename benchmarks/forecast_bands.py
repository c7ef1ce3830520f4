"""Forecasts against trained runs: how many of their steps the 10 to 90 percent bands hold, and how far the law is off.

    python benchmarks/forecast_bands.py [--seeds 5] [--seed 600000] [--jobs 2]

Twenty settings in the forecast's range. Of each, `seeds` runs are trained to their end, and beside each a forecast of nine
draws from other weights is made: its band should hold a boundary in 8 runs of 10. The bias is the mean of the trained runs over the mean of 99
draws, with the standard errors of both.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import publish

from phasetrack import RunSettings, train
from phasetrack.phases.classifier import first_crossing
from phasetrack.phases.loss_watch import loss_unit
from phasetrack.tasks import make_task
from phasetrack.theory.forecast import Forecast, predict

DRAWS = 99
BASE: Mapping[str, Any] = {"d": 64, "width": 128}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "d = 16": {"d": 16},
    "d = 32": {"d": 32},
    "d = 128": {"d": 128},
    "width 16": {"width": 16},
    "width 32": {"width": 32},
    "width 64": {"width": 64},
    "width 256": {"width": 256},
    "m = d / 2": {"batch": 32},
    "m = d": {"batch": 64},
    "m = 16 d": {"batch": 1024},
    "eta = 0.1": {"eta": 0.1},
    "eta = 0.5": {"eta": 0.5},
    "theta = 0.001": {"theta": 0.001},
    "theta = 0.3": {"theta": 0.3},
    "theta = 0.8": {"theta": 0.8},
    "two XORs": {"task": "two-xors"},
    "unequal clusters": {"task": "unbalanced"},
    "wrong labels": {"task": "noisy"},
    "majority": {"task": "majority"},
}
# A run's boundary to its name in a forecast.
BOUNDARIES = {
    "signal_heavy": "signal_heavy_onset",
    "linear_exit": "linear_exit",
    "loss_halving_step": "loss_halving_step",
    "fitted": "fitted",
}


def forecast_of(settings: RunSettings, draws: int) -> Forecast:
    """A forecast from weights that the run of these settings does not begin at."""
    task = make_task(settings.task, settings.d)
    other = replace(settings, seed=settings.seed + 50_000)
    return predict(task.geometry, other, draws=draws, population=task.population)


def trained(settings: RunSettings) -> tuple[dict[str, float], dict[str, Any]]:
    """The boundaries of a run by name, and the bands of a forecast beside it."""
    torch.set_num_threads(1)
    predicted = forecast_of(settings, 9)
    with tempfile.TemporaryDirectory() as folder:
        summary = train(settings, out=folder, name="run", predicted=predicted)
    met = {found["name"]: found["onset"] for found in reversed(summary["boundaries"])}
    met["loss_halving_step"] = summary["loss_halving_step"]
    known = {name: met.get(name) for name in BOUNDARIES}
    return {n: math.nan if step is None else step for n, step in known.items()}, predicted.bands()


def by_draws(settings: RunSettings) -> dict[str, list[float]]:
    """Each boundary in each of many draws."""
    torch.set_num_threads(1)
    forecast = forecast_of(settings, DRAWS)
    losses, errors, zetas = (
        forecast.draws[metric]
        for metric in ("loss/train", "linearization/value_error", "heaviness/zeta_star")
    )
    limits, unit = settings.thresholds(), loss_unit(forecast.constant)
    return {
        "signal_heavy": [first_crossing(enumerate(z), limits.zeta_exit) for z in zetas],
        "linear_exit": [
            first_crossing(enumerate(e), limits.linear_exit, rising=True) for e in errors
        ],
        "loss_halving_step": [first_crossing(enumerate(x), x[0] / 2) for x in losses],
        "fitted": [first_crossing(enumerate(x), settings.target * unit) for x in losses],
    }


def rows_of(
    name: str,
    runs: list[tuple[dict[str, float], dict[str, Any]]],
    draws: Mapping[str, list[float]],
) -> Iterator[dict[str, object]]:
    """A row for each boundary: the share that bands hold, and the ratio of the means."""
    for boundary, predicted in BOUNDARIES.items():
        bands = [bands[predicted] for _, bands in runs]
        # of what is never met the step is infinite, in runs and bands alike
        truths = [_late(met[boundary]) for met, _ in runs]
        held = sum(
            _late(band["low"]) <= truth <= _late(band["high"])
            for truth, band in zip(truths, bands, strict=True)
        )
        known = [truth for truth in truths if truth < math.inf]
        expected = np.array(draws[boundary])
        expected = expected[np.isfinite(expected)]
        row: dict[str, object] = {"case": f"{name}: {boundary}", "runs": len(runs), "held": held}
        if len(known) > 1 and expected.size > 1:
            middle = float(expected.mean())
            errors = [
                statistics.stdev(known) / math.sqrt(len(known)),
                expected.std() / math.sqrt(expected.size),
            ]
            row["truth / forecast"] = statistics.fmean(known) / middle
            row["standard error"] = float(math.hypot(*errors)) / middle
        yield row


def _late(step: float) -> float:
    return math.inf if math.isnan(step) else step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each setting")
    parser.add_argument("--seed", type=int, default=600_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/forecast_bands.json"))
    asked = parser.parse_args()
    # every run has a seed of its own: the same weights in two settings would not be two truths
    settings = {
        name: RunSettings(**{**BASE, **changed, "seed": asked.seed + asked.seeds * number})
        for number, (name, changed) in enumerate(SETTINGS.items())
    }
    rows: list[dict[str, object]] = []
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        begun = {
            name: pool.map(trained, [replace(one, seed=one.seed + n) for n in range(asked.seeds)])
            for name, one in settings.items()
        }
        draws = pool.map(by_draws, settings.values())
        for (name, runs), drawn in zip(begun.items(), draws, strict=True):
            rows += rows_of(name, list(runs), drawn)
    for boundary in BOUNDARIES:
        mine = [row for row in rows if str(row["case"]).endswith(boundary)]
        count, held = (sum(int(str(row[column])) for row in mine) for column in ("runs", "held"))
        ratios = [float(str(row["truth / forecast"])) for row in mine if "truth / forecast" in row]
        rows.append(
            {
                "case": f"all: {boundary}",
                "runs": count,
                "held": held,
                "truth / forecast": statistics.median(ratios),
            }
        )
    publish(rows, asked.json, seeds=asked.seeds, seed=asked.seed, draws=DRAWS)


if __name__ == "__main__":
    main()
