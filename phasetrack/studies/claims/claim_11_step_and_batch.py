"""Step size and batch: smaller steps take proportionally more of them, and m of order d suffices.

Statement, after arXiv 2309.15111 (theory.md 1): m >= d polylog(d) samples per step, eta <= theta, and
O(log(d) / eta) steps. Required: eta times the steps until the loss halves agrees within a tenth between small
eta and eta = theta, the largest that the statement allows; m >= d works, in numbers of steps that hardly
depend on m. Reported: the time lost beyond eta = theta, where steps are no longer short and |sig| grows by
only log(1 + 0.399 eta) per step in the first phase (theory.md 6).
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

FIRST_RATE = 1 / math.sqrt(2 * math.pi)  # growth rate of |sig| at the start (theory.md 6)


def evaluate(lab: Lab) -> ClaimResult:
    """Vary the step size at a fixed batch, and the batch at a fixed step size."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    seeds = 4
    steps = (0.05, 0.1, 0.4) if lab.quick else (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    shares = (0.25, 1, 4, 16) if lab.quick else (0.25, 0.5, 1, 2, 4, 16, 64)
    paced = lab.grid({eta: replace(base, eta=eta) for eta in steps}, seeds)
    times = {eta: confidence.mean(_times(runs)).value for eta, runs in paced.items()}
    batches = lab.grid({m: replace(base, batch=int(m * base.d)) for m in shares}, seeds)
    fitted = {share: [run.is_fitted for run in runs] for share, runs in batches.items()}
    large, small = (
        [run.summary["loss_halving_step"] for run in batches[share]] for share in (shares[-1], 4)
    )
    ratio = [most / few for few, most in zip(small, large, strict=True)]
    findings = [
        Finding(
            f"time to half the loss, eta = {steps[0]} / eta = theta",
            _slowdown(paced[steps[0]], times[base.theta]),
            low=0.9,
            high=1.1,
        ),
        *(
            Finding(
                f"time to half the loss, eta = {eta} / eta = theta "
                f"(first phase's law: {_predicted_time(eta) / _predicted_time(base.theta):.2f})",
                _slowdown(paced[eta], times[base.theta]),
            )
            for eta in steps
            if eta > base.theta
        ),
        Finding(
            "fitted with m >= d",
            confidence.share_of(flag for share in shares if share >= 1 for flag in fitted[share]),
            low=0.7,
        ),
        Finding("fitted with m = d / 4", confidence.share_of(fitted[0.25])),
        Finding(
            f"steps to half the loss, m = {shares[-1]} d / m = 4 d",
            confidence.mean(ratio),
            low=0.85,
            high=1.15,
        ),
    ]
    counts = [confidence.share_of(fitted[share]) for share in shares]
    chart = ClaimChart(
        "share of runs that were fitted",
        "m / d",
        "share",
        [Series.of("runs", shares, counts)],
        log_x=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _times(runs: list[Observed]) -> list[float]:
    return [run.settings.eta * run.summary["loss_halving_step"] for run in runs]


def _slowdown(runs: list[Observed], time: float) -> confidence.Interval:
    return confidence.mean([each / time for each in _times(runs)])


def _predicted_time(eta: float) -> float:
    """Return the time per factor e in |sig| in the first phase, in units of eta steps."""
    return eta / math.log1p(eta * FIRST_RATE)
