"""Samples to 2 percent error grow as d times a logarithm.

Statement, after arXiv 2309.15111, abstract: d polylog(d) samples suffice for a population error of o(1) on
XOR. Required, after theory.md 7 (m = 2 d): the samples grow as a power of d between 0.95 and 1.25, far from
2; samples / d is linear in log d with an R^2 of at least 0.95.

The error is measured on 4096 held-out samples and its crossing of 2 percent is interpolated. The batch of
a step is too small for this: with 128 samples at d = 64 it falls under 2 percent by chance several steps
early, which alone raises the power to 1.24 between d = 64 and 512. The width is 256, as in theory.md 7: with
64 neurons the slowest cluster, not d, determines some runs. Quick sizes reach d = 1024, too, because the
logarithm alone gives a power of 1.2 over a short range of small d.
"""

from __future__ import annotations

import math

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.studies.sweeps.table import LEARNED
from phasetrack.theory.settings import RunSettings


def evaluate(lab: Lab) -> ClaimResult:
    """Train over d until at most 2 percent of the held-out samples are wrong."""
    dims = (64, 128, 256, 512, 1024) if lab.quick else (64, 128, 256, 512, 1024, 2048, 4096)
    width, seeds = (256, 4) if lab.quick else (256, 3)
    settings = {d: RunSettings(d=d, width=width, batch=2 * d) for d in dims}
    runs = lab.grid(settings, seeds, "until learned")
    found = {d: [_samples(run) for run in runs[d]] for d in dims}
    means = {d: confidence.mean(values) for d, values in found.items()}
    findings = [
        Finding(
            "power of d in the samples to 2 percent error",
            confidence.power(found),
            low=0.95,
            high=1.25,
        ),
        Finding(
            "samples / d: growth for each factor e in d",
            confidence.slope(
                [math.log(d) for d in dims for _ in found[d]],
                [value / d for d in dims for value in found[d]],
            ),
        ),
        Finding(
            "R^2 of samples / d against log d, over means [leaving out each seed]",
            _determination(found),
            low=0.95,
        ),
        *(Finding(f"samples / d at d = {d}", _per(means[d], d)) for d in dims),
    ]
    chart = ClaimChart(
        "samples to 2 percent error",
        "d",
        "samples",
        [
            Series.of("measured", dims, (means[d] for d in dims)),
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
    return ClaimResult(
        findings, [chart], f"d = {dims[0]} to {dims[-1]}, width {width}, {seeds} seeds"
    )


def _samples(run: Observed) -> float:
    return run.crosses("held_out/error", LEARNED) * run.settings.batch_size


def _determination(found: dict[int, list[float]]) -> confidence.Interval:
    """Return R^2 over means; the interval spans the values that leave out one seed."""
    logs = [math.log(d) for d in found]
    table = np.array([np.array(samples) / d for d, samples in found.items()])
    without = [
        confidence.determination(logs, np.delete(table, i, axis=1).mean(axis=1))
        for i in range(table.shape[1])
    ]
    whole = confidence.determination(logs, table.mean(axis=1))
    return confidence.Interval(whole, min(whole, *without), max(whole, *without), len(found))


def _per(estimate: confidence.Interval, d: int) -> confidence.Interval:
    return confidence.Interval(
        estimate.value / d, estimate.low / d, estimate.high / d, estimate.count
    )
