"""Other functions and data: which results carry over from XOR.

Statement, after arXiv 2309.15111: the result depends on XOR's symmetric clusters and may not generalise.
Required: rotating the data changes onset and escape by at most a tenth; AND, OR, majority and two XORs are
fitted; runs with noisy or unbalanced labels become signal-heavy. Reported: the error at the end, also for the
parity of three coordinates, which no bias-free ReLU network represents.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

COMPARED = ("xor", "rotated")
FITTED = ("and", "or", "majority", "two-xors")
HEAVY = ("unbalanced", "noisy")


def evaluate(lab: Lab) -> ClaimResult:
    """Train on each task, and on XOR for comparison."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=256, width=256)
    seeds = 4
    names = ("xor", "rotated", *FITTED, *HEAVY, "parity3")
    # a ratio needs more runs than a share; the runs of XOR are shared with other claims
    runs = {
        **lab.grid({name: _settings(base, name) for name in COMPARED}, 3 * seeds),
        **lab.grid({name: _settings(base, name) for name in names[2:]}, seeds),
    }
    findings = []
    for name in ("signal_heavy", "loss_halving_step"):
        pairs = zip(runs["rotated"], runs["xor"], strict=True)
        ratio = confidence.mean(
            [turned.boundary(name) / xor.boundary(name) for turned, xor in pairs]
        )
        findings.append(Finding(f"{name}, rotated / xor", ratio, low=0.9, high=1.1))
    for name in FITTED:
        fitted = confidence.share_of(run.is_fitted for run in runs[name])
        findings.append(Finding(f"fitted, {name}", fitted, low=0.5))
    for name in HEAVY:
        findings.append(Finding(f"signal-heavy, {name}", _heavy_share(runs[name]), low=0.5))
    errors = {name: [run.summary["final"]["error/train"] for run in runs[name]] for name in names}
    findings += [
        Finding(f"error at the end, {name}", confidence.mean(errors[name]))
        for name in ("unbalanced", "noisy", "parity3")
    ]
    findings += [Finding(f"signal-heavy, {name}", _heavy_share(runs[name])) for name in FITTED]
    chart = ClaimChart(
        "training loss, seed 0",
        "step",
        "loss",
        [
            found[0].series(name, "loss/train")
            for name, found in runs.items()
            if name != "or"  # AND with its signs turned
        ],
        log_y=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _heavy_share(runs: list[Observed]) -> confidence.Interval:
    return confidence.share_of(run.is_signal_heavy for run in runs)


def _settings(base: RunSettings, task: str) -> RunSettings:
    """Return a task's settings; without a reachable target, twice as many steps as XOR takes."""
    without_target = {"noisy", "parity3"}
    steps = math.ceil(2 * base.predicted_steps) if task in without_target else None
    return replace(base, task=task, steps=steps)
