"""Cluster margins balance in the signal-heavy phase.

Statement: "In the signal-heavy phase, SGD balances the signal components such that margins in all four
cluster directions grow simultaneously" (summary of arXiv 2309.15111, Mechanism 3). Asked: the ratio of
the smallest to the largest clean margin at the loss target is above that at the onset, from ordinary
starts and from starts in which the neurons of one cluster are doubled, and close to 1.
"""

from __future__ import annotations

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings


def run(lab: Lab) -> Result:
    """Ordinary and imbalanced starts."""
    settings = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    seeds = 5 if lab.quick else 8
    ways = lab.variations(
        {"ordinary": (settings, ""), "one cluster favoured": (settings, "favoured")}, seeds
    )
    findings = []
    for name, runs in ways.items():
        ends = [one.summary["final"]["margin/balance"] for one in runs]
        rises = [end - _at_onset(one) for end, one in zip(ends, runs, strict=True)]
        findings += [
            Finding(
                f"min/max margin at the onset, {name}",
                intervals.mean([_at_onset(one) for one in runs]),
            ),
            Finding(f"min/max margin at the target, {name}", intervals.mean(ends), low=0.7),
            Finding(f"rise from onset to target, {name}", intervals.mean(rises), low=0.0),
        ]
    chart = Chart(
        "smallest / largest cluster margin, seed 0",
        "step",
        "ratio",
        [runs[0].series(name, "margin/balance") for name, runs in ways.items()],
    )
    return Result(findings, [chart], f"d = {settings.d}, width {settings.width}, {seeds} seeds")


def _at_onset(one: Observed) -> float:
    return one.at("margin/balance", one.boundary("signal_heavy"))
