"""Step size and batch: small steps take more of them, the batch only has to be of the order of d.

Statement: m >= d polylog(d) samples a step, eta <= theta, and O(log(d) / eta) steps (summary of arXiv
2309.15111, Design tradeoffs; theory.md 1). Asked: eta times the steps to half the loss is the same within a
tenth for small eta and for eta = theta, the largest that the statement allows; m = d and more works, with
steps that hardly depend on m. Beyond theta a step is no longer short: in the first phase |sig| grows by
log(1 + 0.399 eta) a step (theory.md 6), so that time is lost as reported.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

FIRST_RATE = 1 / math.sqrt(2 * math.pi)  # of |sig| at the start (theory.md 6)


def run(lab: Lab) -> Result:
    """Each of the two over a range, the other fixed."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    seeds = 4 if lab.quick else 10
    steps = (0.05, 0.1, 0.4) if lab.quick else (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    shares = (0.25, 1, 4, 16) if lab.quick else (0.25, 0.5, 1, 2, 4, 16, 64)
    paced = lab.grid({eta: replace(base, eta=eta) for eta in steps}, seeds)
    times = {eta: intervals.mean(_times(runs)).value for eta, runs in paced.items()}
    batches = lab.grid({m: replace(base, batch=int(m * base.d)) for m in shares}, seeds)
    fitted = {p: sum("FITTED" in one.labels for one in runs) for p, runs in batches.items()}
    enough = [part for part in shares if part >= 1]
    large, small = (
        [one.summary["loss_halving_step"] for one in batches[part]] for part in (shares[-1], 4)
    )
    ratio = [b / a for a, b in zip(small, large, strict=True)]
    findings = [
        Finding(
            f"time to half the loss, eta = {steps[0]} / eta = theta",
            _slower(paced[steps[0]], times[base.theta]),
            low=0.9,
            high=1.1,
        ),
        *(
            Finding(
                f"time to half the loss, eta = {eta} / eta = theta "
                f"(first phase's law: {_time(eta) / _time(base.theta):.2f})",
                _slower(paced[eta], times[base.theta]),
            )
            for eta in steps
            if eta > base.theta
        ),
        Finding(
            "fitted with m >= d",
            intervals.share(sum(fitted[p] for p in enough), seeds * len(enough)),
            low=0.7,
        ),
        Finding("fitted with m = d / 4", intervals.share(fitted[0.25], seeds)),
        Finding(
            f"steps to half the loss, m = {shares[-1]} d / m = 4 d",
            intervals.mean(ratio),
            low=0.85,
            high=1.15,
        ),
    ]
    counts = [intervals.share(fitted[p], seeds) for p in shares]
    chart = Chart(
        "share of runs that were fitted",
        "m / d",
        "share",
        [Series.of("runs", shares, counts)],
        log_x=True,
    )
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _times(runs: list[Observed]) -> list[float]:
    return [one.settings.eta * one.summary["loss_halving_step"] for one in runs]


def _slower(runs: list[Observed], time: float) -> intervals.Interval:
    return intervals.mean([own / time for own in _times(runs)])


def _time(eta: float) -> float:
    """Time for each factor e in |sig| at the rate of the first phase, in steps of eta."""
    return eta / math.log1p(eta * FIRST_RATE)
