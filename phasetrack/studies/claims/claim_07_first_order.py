"""The loss is close to first order until the features are found.

Statement, after arXiv 2309.15111, section 4.1: in the signal-finding phase the loss is well approximated to
first order around f = 0. Required, after theory.md 5 and theory.md 7: value error, slope drift and the error
of the gradient stay below 0.1 up to the onset, and the value error falls with theta.
"""

from __future__ import annotations

from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

LEVEL = 0.1
METRICS = {
    "value error": "linearization/value_error",
    "slope drift": "linearization/slope_drift",
    "gradient error, first layer": "linearization/gradient_error_first",
    "gradient error, second layer": "linearization/gradient_error_second",
}


def evaluate(lab: Lab) -> ClaimResult:
    """Measure the errors at the onset over theta."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    base = replace(base, gradient_error=True)
    seeds = 4
    thetas = (0.03, 0.1, 0.3)
    runs = lab.grid({theta: replace(base, theta=theta) for theta in thetas}, seeds)
    at_onset = {
        name: {
            theta: [run.at(metric, run.boundary("signal_heavy")) for run in found]
            for theta, found in runs.items()
        }
        for name, metric in METRICS.items()
    }
    findings = [
        Finding(f"{name} at the onset, theta = 0.1", confidence.mean(errors[0.1]), high=LEVEL)
        for name, errors in at_onset.items()
    ]
    findings.append(
        Finding(
            "power of theta in the value error at the onset",
            confidence.power(at_onset["value error"]),
            low=1.0,
        )
    )
    chart = ClaimChart(
        "errors at the onset",
        "theta",
        "error",
        [
            Series(name, thetas, [confidence.mean(errors[t]).value for t in thetas])
            for name, errors in at_onset.items()
        ],
        log_x=True,
        log_y=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")
