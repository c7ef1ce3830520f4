"""Initialisation scale: small weights find features, large weights fit without them.

Statement, after arXiv 2309.15111: the theorem requires a small initialisation, theta = 1/polylog(d). Required,
after theory.md 6 and theory.md 7: below theta = 1 every run becomes signal-heavy; the time until the loss
halves grows by 2.83 per factor e in 1/theta; at theta = 10 the loss is fitted by the linearised network (LAZY).
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

SLOPE = 2.83  # time per factor e in 1/theta (theory.md 6)


def evaluate(lab: Lab) -> ClaimResult:
    """Train over decades of theta."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    seeds = 4
    thetas = (0.01, 0.1, 0.3, 1.0, 10.0) if lab.quick else (1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
    runs = lab.grid({theta: replace(base, theta=theta) for theta in thetas}, seeds)
    small = [run for theta in thetas if theta < 1 for run in runs[theta]]
    across, times = [], []
    for theta in thetas:
        for run in runs[theta] if theta <= 0.3 else ():
            across.append(math.log(1 / theta))
            times.append(run.summary["loss_halving_step"] * base.eta)
    final = [
        confidence.mean([run.summary["final"]["heaviness/zeta_star"] for run in runs[theta]])
        for theta in thetas
    ]
    findings = [
        Finding(
            "runs with theta < 1 that become signal-heavy",
            confidence.share_of(run.is_signal_heavy for run in small),
            low=0.5,
        ),
        Finding(
            f"time to half the loss for each factor e in 1/theta ({SLOPE} predicted)",
            confidence.slope(across, times),
            low=0.9 * SLOPE,
            high=1.1 * SLOPE,
        ),
        Finding(
            "runs with theta = 10 that are LAZY",
            confidence.share_of("LAZY" in run.alerts for run in runs[10.0]),
            low=0.5,
        ),
    ]
    chart = ClaimChart(
        "zeta* at the end",
        "theta",
        "zeta*",
        [Series("runs", thetas, [estimate.value for estimate in final])],
        log_x=True,
        log_y=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")
