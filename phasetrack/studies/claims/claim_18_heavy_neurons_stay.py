"""A neuron that is heavy at the onset stays heavy.

Statement, after arXiv 2309.15111, section 4.1.1: in the second phase the signal components of the neurons that carry
the network stay significantly larger than all other components. Required: of the neurons with needed zeta <= 1 at the
first record with zeta* <= 1, at least 95 percent have it at every later record up to the loss target.
"""

from __future__ import annotations

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

KEPT = "second_phase/kept"


def evaluate(lab: Lab) -> ClaimResult:
    """Follow the neurons of ordinary runs and of small batches."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    settings = {
        f"m = {m} d": RunSettings(d=base.d, width=base.width, batch=m * base.d) for m in (1, 4)
    }
    runs = lab.grid(settings, 5, "second phase")
    findings = [
        Finding(
            f"share that is heavy {when}, {name}",
            confidence.mean([float(pick(run.history[KEPT])) for run in found]),
            **({"low": 0.95} if required else {}),
        )
        for name, found in runs.items()
        for when, pick, required in (
            ("at the worst record", np.nanmin, True),
            ("at the end", _last, False),
        )
    ]
    chart = ClaimChart(
        "neurons heavy at the onset that are heavy now, first seed",
        "step",
        "share",
        [found[0].series(name, KEPT) for name, found in runs.items()],
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, 5 seeds")


def _last(values: np.ndarray) -> float:
    return float(values[-1])
