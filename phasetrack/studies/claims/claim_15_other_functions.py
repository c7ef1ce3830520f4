"""Other functions and data: what carries over from XOR, and what changes.

Statement: the result "may not generalize" beyond XOR's symmetric clusters; AND and OR, other symmetric
functions and axis-unaware data are its next check (summary of arXiv 2309.15111, Limitations; Next Checks,
3). Asked: rotating the data changes neither onset nor escape by more than a tenth; AND, OR, majority and
two XORs at once are fitted; wrong and unbalanced labels still end signal-heavy. Reported beside it: how
each ends, and the parity of three coordinates, which no bias-free ReLU network represents.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

COMPARED = ("xor", "rotated")
FITTED = ("and", "or", "majority", "two-xors")
HEAVY = ("unbalanced", "noisy")


def run(lab: Lab) -> Result:
    """One run a task and seed, XOR beside it."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=256, width=256)
    seeds = 4 if lab.quick else 6
    names = ("xor", "rotated", *FITTED, *HEAVY, "parity3")
    # a ratio takes more runs than a share; XOR's are those of other statements
    runs = {
        **lab.grid({name: _settings(base, name) for name in COMPARED}, 3 * seeds),
        **lab.grid({name: _settings(base, name) for name in names[2:]}, seeds),
    }
    findings = []
    for name in ("signal_heavy", "loss_halving_step"):
        pairs = zip(runs["rotated"], runs["xor"], strict=True)
        ratio = intervals.mean([_step(a, name) / _step(b, name) for a, b in pairs])
        findings.append(Finding(f"{name}, rotated / xor", ratio, low=0.9, high=1.1))
    for name in FITTED:
        fitted = sum("FITTED" in one.labels for one in runs[name])
        findings.append(Finding(f"fitted, {name}", intervals.share(fitted, seeds), low=0.5))
    for name in HEAVY:
        heavy = sum(math.isfinite(one.boundary("signal_heavy")) for one in runs[name])
        findings.append(Finding(f"signal-heavy, {name}", intervals.share(heavy, seeds), low=0.5))
    errors = {name: [r.summary["final"]["error/train"] for r in runs[name]] for name in names}
    findings += [
        Finding(f"error at the end, {name}", intervals.mean(errors[name]))
        for name in ("unbalanced", "noisy", "parity3")
    ]
    findings += [
        Finding(
            f"signal-heavy, {name}",
            intervals.share(
                sum(math.isfinite(one.boundary("signal_heavy")) for one in runs[name]), seeds
            ),
        )
        for name in FITTED
    ]
    chart = Chart(
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
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def _settings(base: RunSettings, task: str) -> RunSettings:
    """The task, ended after as long as XOR takes twice where it meets no target."""
    endless = {"noisy", "parity3"}
    steps = math.ceil(2 * base.predicted_steps) if task in endless else None
    return replace(base, task=task, steps=steps)


def _step(one: Observed, name: str) -> float:
    if name == "loss_halving_step":
        return float(one.summary[name])
    return one.boundary(name)
