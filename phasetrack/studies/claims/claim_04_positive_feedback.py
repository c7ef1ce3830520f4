"""Positive feedback: training both layers at once amplifies what was found.

Statement: "The simultaneous training of both layers creates a positive feedback loop that maintains
signal dominance" (summary of arXiv 2309.15111, Mechanism 2, section 4.1.1). Asked, after theory.md 7:
the second layer alone stays at chance; the first alone finds the features, but its margin grows
linearly where that of both grows exponentially; both layers meet the target first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples
from phasetrack.theory.settings import RunSettings

# The law of growth is read while the margin goes from a tenth of it to this: the loss is then still
# close to first order, so that nothing but the network bends the curve (chosen here).
MARGIN = 0.5


def run(lab: Lab) -> Result:
    """Both layers, first only, second only, and in turns, from the same weights and samples."""
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
    chance = [error_on_fresh_samples(one.network, one.settings) for one in ways["second only"]]
    pairs = zip(ways["first only"], ways["both"], strict=True)
    later = [_fitted(first) / _fitted(both) for first, both in pairs]
    turns = zip(ways["in turns"], ways["both"], strict=True)
    slower = [_fitted(turn) / _fitted(both) for turn, both in turns]
    bent = intervals.mean([_exponential(one) for one in ways["both"]])
    straight = intervals.mean([_exponential(one) for one in ways["first only"]])
    findings = [
        Finding("test error, second layer only", intervals.mean(chance), low=0.3),
        Finding("steps to the target, first only / both", intervals.mean(later), low=1.1),
        Finding("growth: exponent of |margin'| in margin, both", bent, low=0.6),
        Finding("growth: exponent of |margin'| in margin, first only", straight, high=0.6),
        Finding("steps to the target, in turns / both", intervals.mean(slower)),
        Finding(
            "runs of the first layer only that become signal-heavy",
            intervals.share(
                sum(np.isfinite(one.boundary("signal_heavy")) for one in ways["first only"]), seeds
            ),
        ),
    ]
    chart = Chart(
        "smallest cluster margin, seed 0",
        "step",
        "margin",
        [runs[0].series(name, "margin/min") for name, runs in ways.items()],
    )
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _fitted(one: Observed) -> float:
    """Step at which the target is met; where it never is, the steps taken, which is a lower bound."""
    step = one.boundary("fitted")
    return float(one.summary["steps"]) if np.isnan(step) else step


def _exponential(one: Observed) -> float:
    """Exponent k of d margin / dt = c margin^k in the tuning phase: 1 exponential, 0 linear."""
    margin = one.history["margin/mean"]
    during = (margin > MARGIN / 10) & (margin < MARGIN)
    middle, speed = margin[:-1][during[:-1]], np.diff(margin)[during[:-1]]
    known = speed > 0
    return intervals.slope(np.log(middle[known]), np.log(speed[known])).value
