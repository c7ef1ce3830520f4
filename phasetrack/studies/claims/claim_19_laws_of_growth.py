"""a^2 - |w|^2 is conserved, and margins follow the balance law.

Statement: under gradient flow a^2 - |w|^2 of each neuron is conserved, and in the second phase a balanced cluster
margin obeys d gamma / dt = sqrt(2) gamma / (1 + exp(gamma)) (theory.md 6, after arXiv 2309.15111, section 4.1.1). Steps of size
eta break the first in proportion to eta. Required: the change of a^2 - |w|^2, over the sum of a^2 + |w|^2, is at most 0.1
at the loss target with eta = 0.2, and with eta = 0.1 between 0.35 and 0.65 of that; from the linear exit to the target the
mean margin grows at 0.9 to 1.1 times the law's rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

CHANGE, MARGIN = "second_phase/conserved", "margin/mean"


def evaluate(lab: Lab) -> ClaimResult:
    """Compare two step sizes from the same weights."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    runs = lab.grid(
        {f"eta = {eta:g}": replace(base, eta=eta) for eta in (0.2, 0.1)}, 5, "second phase"
    )
    whole, half = ([float(run.history[CHANGE][-1]) for run in found] for found in runs.values())
    findings = [
        Finding("change of a^2 - |w|^2 at the target, eta = 0.2", confidence.mean(whole), high=0.1),
        Finding(
            "change with eta = 0.1 / with eta = 0.2",
            confidence.mean([small / large for small, large in zip(half, whole, strict=True)]),
            0.35,
            0.65,
        ),
        *(
            Finding(
                f"growth of the margin, measured / law, {name}",
                confidence.mean([_growth(run) for run in found]),
                0.9,
                1.1,
            )
            for name, found in runs.items()
        ),
    ]
    chart = ClaimChart(
        "mean cluster margin, first seed",
        "step",
        "margin",
        [found[0].series(name, MARGIN) for name, found in runs.items()],
        log_y=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, 5 seeds")


def _growth(run: Observed) -> float:
    """Return the growth of log margin from the linear exit to the target, over the law's."""
    margin = run.history[MARGIN]
    late = run.history.steps >= run.boundary("linear_exit")
    margin = margin[late]
    # both layers grow by the same factor a step, the margin by its square
    rates = np.sqrt(2) / 2 / (1 + np.exp(margin[:-1]))
    law = 2 * np.log1p(run.settings.eta * rates).sum()
    return float(np.log(margin[-1] / margin[0]) / law)
