"""Two phases in this order with one boundary; the linear regime ends after it.

Statement, after arXiv 2309.15111, section 4.1: SGD passes through a signal-finding phase, in which the
loss is close to its first-order approximation, and then a signal-heavy phase. Required, after theory.md 3,
theory.md 7 and theory.md 8: zeta* crosses 1 exactly once, the labels are SIGNAL_FINDING, SIGNAL_HEAVY and
FITTED in this order, and the value error passes 0.1 after the onset of signal-heaviness.
"""

from __future__ import annotations

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

ORDER = ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]


def evaluate(lab: Lab) -> ClaimResult:
    """Count the healthy runs with the required phases; measure the gap between the boundaries."""
    settings = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    runs = lab.seeds(settings, 8)
    count = len(runs)
    gaps = [run.boundary("linear_exit") / run.boundary("signal_heavy") for run in runs]
    return ClaimResult(
        [
            Finding(
                "runs with the phases in this order",
                confidence.share_of(run.labels == ORDER for run in runs),
                low=0.5,
            ),
            Finding(
                "runs in which zeta* crosses 1 once",
                confidence.share_of(_crossings(run) == 1 for run in runs),
                low=0.5,
            ),
            Finding("exit from the linear regime / onset", confidence.mean(gaps), low=1.0),
        ],
        [
            ClaimChart(
                "zeta* falls through 1 once",
                "step",
                "zeta*",
                [
                    run.series(f"seed {run.settings.seed}", "heaviness/zeta_star")
                    for run in runs[:5]
                ],
                log_y=True,
            )
        ],
        f"d = {settings.d}, width {settings.width}, m = {settings.batch_size}, {count} seeds",
    )


def _crossings(run: Observed) -> int:
    under = run.history["heaviness/zeta_star"] <= 1
    return int(np.count_nonzero(np.diff(under.astype(int))))
