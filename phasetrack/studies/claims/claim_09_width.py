"""Width: a few neurons fail, a few dozen suffice, and more change little.

Statement, after arXiv 2309.15111: the width p is polynomial in d. Required, after theory.md 7 (d = 128): p = 4
fails, p = 8 sometimes fails, p >= 32 works, and a larger width hardly changes the steps to the loss target.
"""

from __future__ import annotations

from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

NARROW, WIDE = 4, 32


def evaluate(lab: Lab) -> ClaimResult:
    """Train over widths that are powers of two."""
    base = RunSettings(d=64) if lab.quick else RunSettings(d=128)
    seeds = 8
    widths = (2, 4, 8, 32, 128) if lab.quick else (2, 4, 8, 16, 32, 64, 256, 1024, 4096)
    runs = lab.grid({p: replace(base, width=p) for p in widths}, seeds)
    fitted = {p: sum(run.is_fitted for run in found) for p, found in runs.items()}
    narrow = sum(fitted[p] for p in widths if p <= NARROW)
    wide = sum(fitted[p] for p in widths if p >= WIDE)
    steps = {
        p: confidence.mean([run.boundary("fitted") for run in runs[p]]) for p in widths if p >= WIDE
    }
    ratios = [
        narrower.boundary("fitted") / widest.boundary("fitted")
        for narrower, widest in zip(runs[WIDE], runs[widths[-1]], strict=True)
    ]
    counts = {p: confidence.share(fitted[p], seeds) for p in widths}
    findings = [
        Finding(
            f"fitted with p <= {NARROW}",
            confidence.share(narrow, seeds * sum(p <= NARROW for p in widths)),
            high=0.5,
        ),
        Finding("fitted with p = 8", counts[8]),
        Finding(
            f"fitted with p >= {WIDE}",
            confidence.share(wide, seeds * sum(p >= WIDE for p in widths)),
            low=0.8,
        ),
        Finding(
            f"steps to the target, p = {WIDE} / p = {widths[-1]}",
            confidence.mean(ratios),
            low=0.8,
            high=1.25,
        ),
        *(Finding(f"steps to the target, p = {p}", estimate) for p, estimate in steps.items()),
    ]
    chart = ClaimChart(
        "share of runs that were fitted",
        "width p",
        "share",
        [Series.of("runs", widths, counts.values())],
        log_x=True,
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, {seeds} seeds")
