"""Positive feedback: training both layers together amplifies the features that were found.

Statement, after arXiv 2309.15111, section 4.1.1: training both layers together creates a feedback loop that
keeps the signal dominant. Required, after theory.md 7: the second layer alone stays at chance; the first
layer alone finds the features, but its margin grows linearly, whereas that of both layers grows
exponentially; both layers together meet the loss target first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples
from phasetrack.theory.settings import RunSettings

# The law of growth is measured while the margin rises from a tenth of this level to the level: the loss
# is then close to first order, so that only the network bends the curve.
MARGIN = 0.5


def evaluate(lab: Lab) -> ClaimResult:
    """Train both layers, either one, and both in turns, from the same weights and samples."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    seeds = 5
    ways = lab.variations(
        {
            "both": (base, ""),
            "first only": (replace(base, train="first"), ""),
            "second only": (replace(base, train="second"), ""),
            "in turns": (base, "alternating"),
        },
        seeds,
    )
    chance = [error_on_fresh_samples(run.network, run.settings) for run in ways["second only"]]
    pairs = zip(ways["first only"], ways["both"], strict=True)
    later = [_fitted_step(first) / _fitted_step(both) for first, both in pairs]
    turns = zip(ways["in turns"], ways["both"], strict=True)
    slower = [_fitted_step(turn) / _fitted_step(both) for turn, both in turns]
    both_exponent = confidence.mean([_growth_exponent(run) for run in ways["both"]])
    first_exponent = confidence.mean([_growth_exponent(run) for run in ways["first only"]])
    findings = [
        Finding("test error, second layer only", confidence.mean(chance), low=0.3),
        Finding("steps to the target, first only / both", confidence.mean(later), low=1.1),
        Finding("growth: exponent of |margin'| in margin, both", both_exponent, low=0.6),
        Finding("growth: exponent of |margin'| in margin, first only", first_exponent, high=0.6),
        Finding("steps to the target, in turns / both", confidence.mean(slower)),
        Finding(
            "runs of the first layer only that become signal-heavy",
            confidence.share_of(run.is_signal_heavy for run in ways["first only"]),
        ),
    ]
    chart = ClaimChart(
        "smallest cluster margin, seed 0",
        "step",
        "margin",
        [runs[0].series(name, "margin/min") for name, runs in ways.items()],
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _fitted_step(run: Observed) -> float:
    """Return the step that meets the loss target, or the steps taken as its lower bound."""
    step = run.boundary("fitted")
    return float(run.summary["steps"]) if np.isnan(step) else step


def _growth_exponent(run: Observed) -> float:
    """Return k in d margin / dt = c margin^k: 1 for exponential growth, 0 for linear growth."""
    margin = run.history["margin/mean"]
    during = (margin > MARGIN / 10) & (margin < MARGIN)
    middle, speed = margin[:-1][during[:-1]], np.diff(margin)[during[:-1]]
    known = speed > 0
    return confidence.slope(np.log(middle[known]), np.log(speed[known])).value
