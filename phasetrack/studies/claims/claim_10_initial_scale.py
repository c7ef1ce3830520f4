"""Initialisation scale: small weights find features, large ones fit without.

Statement: a small initialisation, theta = 1/polylog(d), is what the theorem asks for (summary of arXiv
2309.15111, Method Summary; first experiment 3, "Initialize with different weight scales"). Asked, after
theory.md 6 and 7: below theta = 1 every run becomes signal-heavy; the time until the loss halves grows
by 2.83 for each factor e in 1/theta; at theta = 10 the loss is fitted while zeta* stays above 1 (LAZY).
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

SLOPE = 2.83  # theory.md 6


def run(lab: Lab) -> Result:
    """Theta over decades."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    seeds = 4 if lab.quick else 10
    thetas = (0.01, 0.1, 0.3, 1.0, 10.0) if lab.quick else (1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
    runs = lab.grid({theta: replace(base, theta=theta) for theta in thetas}, seeds)
    small = [one for theta in thetas if theta < 1 for one in runs[theta]]
    across, times = [], []
    for theta in thetas:
        for one in runs[theta] if theta <= 0.3 else ():
            across.append(math.log(1 / theta))
            times.append(one.summary["loss_halving_step"] * base.eta)
    lazy = [one for one in runs[10.0] if "LAZY" in one.alerts]
    heavy = sum(math.isfinite(one.boundary("signal_heavy")) for one in small)
    final = [
        intervals.mean([one.summary["final"]["heaviness/zeta_star"] for one in runs[theta]])
        for theta in thetas
    ]
    findings = [
        Finding(
            "runs with theta < 1 that become signal-heavy",
            intervals.share(heavy, len(small)),
            low=0.5,
        ),
        Finding(
            f"time to half the loss for each factor e in 1/theta ({SLOPE} predicted)",
            intervals.slope(across, times),
            low=0.9 * SLOPE,
            high=1.1 * SLOPE,
        ),
        Finding("runs with theta = 10 that are LAZY", intervals.share(len(lazy), seeds), low=0.5),
    ]
    chart = Chart(
        "zeta* at the end",
        "theta",
        "zeta*",
        [Series("runs", thetas, [e.value for e in final])],
        log_x=True,
        log_y=True,
    )
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")
