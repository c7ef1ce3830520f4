"""In the second phase outputs are close to those of the clean network.

Statement, after arXiv 2309.15111, section 4.1.1: in the signal-heavy phase the output at a sample is close to the clean
one, at the centre of its cluster. Required: at the linear exit and at the loss target the mean margin of the samples of a
cluster is within 10 percent of its clean margin, over all clusters, and at the target the low quantile of their margins is
at least half of it. Reported: the same at the onset, where noise still rules.
"""

from __future__ import annotations

import numpy as np

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.tasks import XOR
from phasetrack.theory.settings import RunSettings

TOLERANCE = 0.1
MOMENTS = {"the onset": "signal_heavy", "the linear exit": "linear_exit", "the target": "fitted"}


def evaluate(lab: Lab) -> ClaimResult:
    """Compare margins of samples with those of centres at each boundary."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    runs = lab.seeds(base, 5)
    findings = []
    for words, boundary in MOMENTS.items():
        asked = {"low": 1 - TOLERANCE, "high": 1 + TOLERANCE} if words != "the onset" else {}
        low = {"low": 0.5} if words == "the target" else {}
        findings += [
            Finding(
                f"mean margin of samples / clean, at {words}",
                confidence.mean([_ratio(run, "empirical", boundary) for run in runs]),
                **asked,
            ),
            Finding(
                f"low margin of samples / clean, at {words}",
                confidence.mean([_ratio(run, "empirical_low", boundary) for run in runs]),
                **low,
            ),
        ]
    name = XOR(base.d).geometry.names[0]
    chart = ClaimChart(
        "margins of one cluster, first seed",
        "step",
        "margin",
        [
            runs[0].series(kind, f"margin/{metric}/{name}")
            for kind, metric in (
                ("clean", "clean"),
                ("samples, mean", "empirical"),
                ("samples, low", "empirical_low"),
            )
        ],
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, 5 seeds")


def _ratio(run: Observed, metric: str, boundary: str) -> float:
    """Return the mean over clusters of a margin divided by the clean one, at a boundary."""
    step = run.boundary(boundary)
    names = XOR(run.settings.d).geometry.names
    return float(
        np.mean(
            [
                run.at(f"margin/{metric}/{n}", step) / run.at(f"margin/clean/{n}", step)
                for n in names
            ]
        )
    )
