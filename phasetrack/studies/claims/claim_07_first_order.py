"""The loss is close to first order until the features are found.

Statement: in the signal-finding phase "the loss is well approximated by a first order approximation of
the loss at f = 0" (summary of arXiv 2309.15111, Mechanism 1, section 4.1). Asked, after theory.md 5 and 7:
value error, slope drift and the gradient's error stay under 0.1 up to the onset, and fall with theta.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

LEVEL = 0.1
METRICS = {
    "value error": "linearization/value_error",
    "slope drift": "linearization/slope_drift",
    "gradient error, first layer": "linearization/gradient_error_first",
    "gradient error, second layer": "linearization/gradient_error_second",
}


def run(lab: Lab) -> Result:
    """Errors at the onset, for some theta."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    base = replace(base, gradient_error=True)
    seeds = 4 if lab.quick else 5
    thetas = (0.03, 0.1, 0.3)
    runs = lab.grid({theta: replace(base, theta=theta) for theta in thetas}, seeds)
    at_onset = {
        name: {
            theta: [one.at(metric, one.boundary("signal_heavy")) for one in found]
            for theta, found in runs.items()
        }
        for name, metric in METRICS.items()
    }
    findings = [
        Finding(f"{name} at the onset, theta = 0.1", intervals.mean(errors[0.1]), high=LEVEL)
        for name, errors in at_onset.items()
    ]
    pairs = [(math.log(t), math.log(e)) for t in thetas for e in at_onset["value error"][t]]
    findings.append(
        Finding(
            "power of theta in the value error at the onset",
            intervals.slope(*np.array(pairs).T),
            low=1.0,
        )
    )
    chart = Chart(
        "errors at the onset",
        "theta",
        "error",
        [
            Series(name, thetas, [intervals.mean(errors[t]).value for t in thetas])
            for name, errors in at_onset.items()
        ],
        log_x=True,
        log_y=True,
    )
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")
