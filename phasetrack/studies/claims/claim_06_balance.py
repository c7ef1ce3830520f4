"""Cluster margins balance in the signal-heavy phase.

Statement, after arXiv 2309.15111, section 4.1.1: in the signal-heavy phase SGD balances the signal, so that
the margins of all four clusters grow together. Required: the ratio of the smallest to the largest clean
margin is close to 1 at the loss target and larger than at the onset, both from ordinary starts and from
starts with the neurons of one cluster doubled.
"""

from __future__ import annotations

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings


def evaluate(lab: Lab) -> ClaimResult:
    """Compare ordinary and imbalanced starts."""
    settings = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    seeds = 5
    ways = lab.variations(
        {"ordinary": (settings, ""), "one cluster favoured": (settings, "favoured")}, seeds
    )
    findings = []
    for name, runs in ways.items():
        ends = [run.summary["final"]["margin/balance"] for run in runs]
        rises = [end - _at_onset(run) for end, run in zip(ends, runs, strict=True)]
        findings += [
            Finding(
                f"min/max margin at the onset, {name}",
                confidence.mean([_at_onset(run) for run in runs]),
            ),
            Finding(f"min/max margin at the target, {name}", confidence.mean(ends), low=0.7),
            Finding(f"rise from onset to target, {name}", confidence.mean(rises), low=0.0),
        ]
    chart = ClaimChart(
        "smallest / largest cluster margin, seed 0",
        "step",
        "ratio",
        [runs[0].series(name, "margin/balance") for name, runs in ways.items()],
    )
    return ClaimResult(
        findings, [chart], f"d = {settings.d}, width {settings.width}, {seeds} seeds"
    )


def _at_onset(run: Observed) -> float:
    return run.at("margin/balance", run.boundary("signal_heavy"))
