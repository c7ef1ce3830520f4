"""Two phases in this order with one boundary; the linear regime is left only after it.

Statement: "SGD naturally decomposes learning into signal-finding and signal-heavy phases" (summary of
arXiv 2309.15111, Mechanism 1, section 4.1), with the loss well approximated to first
order in the first. Asked, after theory.md 3 and 8: zeta* crosses 1 exactly once, the labels
come as SIGNAL_FINDING, SIGNAL_HEAVY, FITTED, and the value error passes 0.1 after the onset.
"""

from __future__ import annotations

import numpy as np

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

ORDER = ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]


def run(lab: Lab) -> Result:
    """Healthy runs: count those that behave, and measure the gap between the two boundaries."""
    settings = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    runs = lab.seeds(settings, 8 if lab.quick else 20)
    count = len(runs)
    gaps = [one.boundary("linear_exit") / one.boundary("signal_heavy") for one in runs]
    return Result(
        [
            Finding(
                "runs with the phases in this order",
                intervals.share(sum(one.labels == ORDER for one in runs), count),
                low=0.5,
            ),
            Finding(
                "runs in which zeta* crosses 1 once",
                intervals.share(sum(_crossings(one) == 1 for one in runs), count),
                low=0.5,
            ),
            Finding("exit from the linear regime / onset", intervals.mean(gaps), low=1.0),
        ],
        [
            Chart(
                "zeta* falls through 1 once",
                "step",
                "zeta*",
                [
                    one.series(f"seed {one.settings.seed}", "heaviness/zeta_star")
                    for one in runs[:5]
                ],
                log_y=True,
            )
        ],
        f"d = {settings.d}, width {settings.width}, m = {settings.batch_size}, {count} seeds",
    )


def _crossings(one: Observed) -> int:
    under = one.history["heaviness/zeta_star"] <= 1
    return int(np.count_nonzero(np.diff(under.astype(int))))
