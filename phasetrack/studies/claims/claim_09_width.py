"""Width: a few neurons fail, a few dozen suffice, and more change little.

Statement: the network has width p, polynomial in d (summary of arXiv 2309.15111, Method Summary; "Vary
network width p", first experiment 1). Asked, after theory.md 7 (d = 128): p = 4 fails, p = 8 sometimes,
p >= 32 works, and from there on width hardly moves the steps to the target.
"""

from __future__ import annotations

from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

NARROW, WIDE = 4, 32


def run(lab: Lab) -> Result:
    """Width over powers of two."""
    base = RunSettings(d=64) if lab.quick else RunSettings(d=128)
    seeds = 8 if lab.quick else 20
    widths = (2, 4, 8, 32, 128) if lab.quick else (2, 4, 8, 16, 32, 64, 256, 1024, 4096)
    runs = lab.grid({p: replace(base, width=p) for p in widths}, seeds)
    fitted = {p: sum("FITTED" in one.labels for one in found) for p, found in runs.items()}
    narrow = sum(fitted[p] for p in widths if p <= NARROW)
    wide = sum(fitted[p] for p in widths if p >= WIDE)
    steps = {
        p: intervals.mean([one.boundary("fitted") for one in runs[p]]) for p in widths if p >= WIDE
    }
    ratios = [
        a.boundary("fitted") / b.boundary("fitted")
        for a, b in zip(runs[WIDE], runs[widths[-1]], strict=True)
    ]
    counts = {p: intervals.share(fitted[p], seeds) for p in widths}
    findings = [
        Finding(
            f"fitted with p <= {NARROW}",
            intervals.share(narrow, seeds * sum(p <= NARROW for p in widths)),
            high=0.5,
        ),
        Finding("fitted with p = 8", counts[8]),
        Finding(
            f"fitted with p >= {WIDE}",
            intervals.share(wide, seeds * sum(p >= WIDE for p in widths)),
            low=0.8,
        ),
        Finding(
            f"steps to the target, p = {WIDE} / p = {widths[-1]}",
            intervals.mean(ratios),
            low=0.8,
            high=1.25,
        ),
        *(Finding(f"steps to the target, p = {p}", estimate) for p, estimate in steps.items()),
    ]
    chart = Chart(
        "share of runs that were fitted",
        "width p",
        "share",
        [Series.of("runs", widths, counts.values())],
        log_x=True,
    )
    return Result(findings, [chart], f"d = {base.d}, {seeds} seeds")
