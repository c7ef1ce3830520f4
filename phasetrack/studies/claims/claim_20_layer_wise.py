"""Layer-wise training lets the parts outside the signal grow as the signal does.

Statement, after arXiv 2309.15111, section 4.1.1: without the feedback between layers, as in layer-wise training, the
components outside the signal may grow at the signal's rate, whereas training both layers keeps the signal dominant.
Required, for the first layer trained alone: from the onset to the end |perp| grows by at least half of the signal's
growth, both as logarithms. Required of both layers together: at most half.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

PARTS = ("signal", "perp")


def evaluate(lab: Lab) -> ClaimResult:
    """Train the first layer alone and both layers, from the same weights and samples."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    runs = lab.grid({"first only": replace(base, train="first"), "both": base}, 5)
    findings = []
    for name, found in runs.items():
        grown = {part: [_growth(run, part) for run in found] for part in PARTS}
        ratios = [perp / signal for signal, perp in zip(*grown.values(), strict=True)]
        asked = {"low": 0.5} if name == "first only" else {"high": 0.5}
        findings += [
            Finding(f"growth of |perp| / of the signal, {name}", confidence.mean(ratios), **asked),
            *(
                Finding(f"log growth of {part} from the onset on, {name}", confidence.mean(values))
                for part, values in grown.items()
            ),
        ]
    chart = ClaimChart(
        "growth rate of |perp|, first seed",
        "step",
        "rate",
        [found[0].series(name, "growth/perp_rate") for name, found in runs.items()],
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, 5 seeds")


def _growth(run: Observed, part: str) -> float:
    """Return the logarithm of a part's growth from the onset to the end."""
    late = run.history.steps > run.boundary("signal_heavy")
    return float(np.nansum(run.history[f"growth/{part}_rate"][late]) * run.settings.eta)
