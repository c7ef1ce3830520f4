"""Phase one takes log d / eta steps, phase two log log d / eta.

Statement, after arXiv 2309.15111, abstract: the first phase takes Theta(log d / eta) steps and, from weights of
1 / polylog(d), the second Theta(log log d / eta). Both lengths, for d = 2^6 to 2^20, are read off the forecast
(theory.md 6b), whose cost does not depend on d, at theta = 1 / log^2 d. Required: eta times the onset is a line in log d, eta
times the steps from there to half of the loss a line in log log d, each with a rest of at most a fifth of the other
function's; at the d that are trained both lengths are within 10 percent of the forecast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phasetrack.phases.boundaries import LOSS_HALVED, SIGNAL_HEAVY
from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.theory.settings import RunSettings

DIMS = tuple(2**power for power in range(6, 21, 2))
TOLERANCE = 0.1


def evaluate(lab: Lab) -> ClaimResult:
    """Forecast over d, and train at the smallest."""
    base = RunSettings(width=256, eta=0.1, seed=lab.seed)
    settings = {d: replace(base, d=d, batch=64 * d, theta=1 / math.log(d) ** 2) for d in DIMS}
    lengths = {d: _forecast(each, draws=9) for d, each in settings.items()}
    first, second = zip(*lengths.values(), strict=True)
    trained = (64, 128) if lab.quick else (64, 128, 256, 512)
    small = {d: replace(base, d=d, batch=4 * d, theta=1 / math.log(d) ** 2) for d in trained}
    runs = lab.grid(small, 4)
    findings = []
    scales = {"log d": np.log(DIMS), "log log d": np.log(np.log(DIMS))}
    for name, values, right, wrong in (
        ("one", first, "log d", "log log d"),
        ("two", second, "log log d", "log d"),
    ):
        fit = confidence.slope(scales[right], values)
        findings.append(Finding(f"phase {name}: eta * steps per {right}", fit, low=0.0))
        ratio = _rest(scales[right], values) / _rest(scales[wrong], values)
        findings.append(
            Finding(
                f"phase {name}: rest of the line in {right} / in {wrong}",
                confidence.Interval(ratio, ratio, ratio, len(DIMS)),
                high=0.2,
            )
        )
    for d in trained:
        made = [(run.boundary("signal_heavy"), run.summary["loss_halving_step"]) for run in runs[d]]
        onset, rest = _forecast(replace(small[d], seed=lab.seed + 1000), draws=33)
        for name, measured, forecast in (
            ("one", [begun for begun, _ in made], onset),
            ("two", [half - begun for begun, half in made], rest),
        ):
            ratios = [base.eta * steps / forecast for steps in measured]
            findings.append(
                Finding(
                    f"phase {name} at d = {d}, trained / forecast",
                    confidence.mean(ratios),
                    1 - TOLERANCE,
                    1 + TOLERANCE,
                )
            )
    chart = ClaimChart(
        "lengths of the two phases",
        "d",
        "eta * steps",
        [
            Series("phase one", DIMS, first, predicted=True),
            Series("phase two", DIMS, second, predicted=True),
        ],
        log_x=True,
    )
    words = f"forecasts at d = 2^6 to 2^20, m = 64 d; training at d = {trained[0]} to {trained[-1]}, m = 4 d, 4 seeds"
    return ClaimResult(findings, [chart], f"{words}; width 256, eta = 0.1, theta = 1 / log^2 d")


def _forecast(settings: RunSettings, draws: int) -> tuple[float, float]:
    """Return eta times the onset, and times the steps from there to half of the loss."""
    bands = predict(XOR(settings.d).geometry, settings, draws=draws).bands()
    onset, half = (bands[milestone.forecast]["value"] for milestone in (SIGNAL_HEAVY, LOSS_HALVED))
    return settings.eta * onset, settings.eta * (half - onset)


def _rest(x: np.ndarray, y: Sequence[float]) -> float:
    """Sum of squared residuals of the least-squares line."""
    return float(np.square(y - np.polyval(np.polyfit(x, y, 1), x)).sum())
