"""Samples to 2 percent error grow as d times a logarithm.

Statement: "Achieves o(1) population error on the XOR function with d-polylog(d) samples" (summary of
arXiv 2309.15111, Key Results). Asked, after theory.md 7 (m = 2 d): the fitted power of d between 0.95
and 1.25, far from 2; samples / d linear in log d. Fresh batches are the test: none was trained on.
"""

from __future__ import annotations

import math

import numpy as np

from phasetrack import intervals
from phasetrack.experiments.lab import Lab
from phasetrack.experiments.result import Chart, Finding, Result, Series
from phasetrack.settings import RunSettings


def run(lab: Lab) -> Result:
    """Runs that end once at most 2 percent of a fresh batch are wrong."""
    dims = (64, 128, 256, 512) if lab.quick else (64, 128, 256, 512, 1024, 2048, 4096)
    width, seeds = (64, 5) if lab.quick else (256, 3)
    found = {d: _samples(lab, d, width, seeds) for d in dims}
    means = {d: intervals.mean(values) for d, values in found.items()}
    pairs = [(math.log(d), math.log(value)) for d in dims for value in found[d]]
    logs = [math.log(d) for d in dims]
    per_d = [means[d].value / d for d in dims]
    findings = [
        Finding(
            "power of d in the samples to 2 percent error",
            intervals.slope(*np.array(pairs).T),
            low=0.95,
            high=1.25,
        ),
        Finding(
            "samples / d: growth for each factor e in d",
            intervals.slope(
                [math.log(d) for d in dims for _ in found[d]],
                [value / d for d in dims for value in found[d]],
            ),
        ),
        Finding(
            "R^2 of samples / d against log d, over means",
            intervals.Interval(intervals.determination(logs, per_d), math.nan, math.nan, len(dims)),
        ),
        *(Finding(f"samples / d at d = {d}", _per(means[d], d)) for d in dims),
    ]
    chart = Chart(
        "samples to 2 percent error",
        "d",
        "samples",
        [
            Series(
                "measured",
                dims,
                [means[d].value for d in dims],
                [means[d].low for d in dims],
                [means[d].high for d in dims],
            ),
            Series(
                "d^2, for comparison",
                dims,
                [means[dims[0]].value * (d / dims[0]) ** 2 for d in dims],
                predicted=True,
            ),
        ],
        log_x=True,
        log_y=True,
    )
    return Result(findings, [chart], f"d = {dims[0]} to {dims[-1]}, width {width}, {seeds} seeds")


def _samples(lab: Lab, d: int, width: int, seeds: int) -> list[float]:
    settings = RunSettings(d=d, width=width, batch=2 * d)
    runs = lab.seeds(settings, seeds, "until learned")
    return [float(one.summary["steps"] * settings.batch_size) for one in runs]


def _per(estimate: intervals.Interval, d: int) -> intervals.Interval:
    value, low, high = (one / d for one in (estimate.value, estimate.low, estimate.high))
    return intervals.Interval(value, low, high, estimate.count)
