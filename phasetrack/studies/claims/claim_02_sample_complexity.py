"""Samples to 2 percent error grow as d times a logarithm.

Statement, after arXiv 2309.15111, abstract: d polylog(d) samples suffice for a population error of o(1) on
XOR. A fixed ratio m / d decides most of the power by itself, since training takes about as many steps at
every d. Batch and step size are therefore tuned together at each d first (theory.md 7), on seeds of their own.
Required: the samples grow as a power of d between 0.95 and 1.25, far from 2. Reported: the power with m = 2 d and
eta = 0.2, as in theory.md 7.

The error is measured on 4096 held-out samples and its crossing of 2 percent is interpolated: batches of a
step fall under 2 percent by chance. The width is 256: with 64 neurons the slowest cluster, not d, determines
some runs.
"""

from __future__ import annotations

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.studies.claims.tuned import SEEDS, Goal, tuned
from phasetrack.studies.sweeps.table import LEARNED
from phasetrack.theory.settings import RunSettings

# With m = 2 d and eta = 0.2 theory.md 7 has 100 to 134 samples per d.
GOAL = Goal(LEARNED, "until learned", batches=(8, 32), ratios=(0.5, 1.0, 2.0), most=80)


def evaluate(lab: Lab) -> ClaimResult:
    """Train over d until at most 2 percent of the held-out samples are wrong."""
    dims = (64, 128, 256) if lab.quick else (64, 128, 256, 512, 1024)
    width, seeds = 256, SEEDS
    found = tuned(lab, RunSettings(width=width), dims, GOAL)
    fixed = lab.grid(
        {d: RunSettings(d=d, width=width, batch=2 * d) for d in dims}, seeds, GOAL.variation
    )
    beside = {d: [_samples(run) for run in fixed[d]] for d in dims}
    findings = [
        Finding(
            "power of d in the samples to 2 percent error, m and eta tuned",
            confidence.power(found.samples),
            low=0.95,
            high=1.25,
        ),
        Finding("the same with m = 2 d, eta = 0.2", confidence.power(beside)),
        *(
            Finding(f"samples / d at d = {d}, {how}", confidence.mean([n / d for n in samples[d]]))
            for how, samples in (("tuned", found.samples), ("m = 2 d", beside))
            for d in dims
        ),
    ]
    first = found.means[dims[0]].value
    chart = ClaimChart(
        "samples to 2 percent error",
        "d",
        "samples",
        [
            Series.of("m and eta tuned", dims, found.means.values()),
            Series.of("m = 2 d", dims, (confidence.mean(beside[d]) for d in dims)),
            Series(
                "d^2, for comparison",
                dims,
                [first * (d / dims[0]) ** 2 for d in dims],
                predicted=True,
            ),
        ],
        log_x=True,
        log_y=True,
    )
    words = (
        f"d = {dims[0]} to {dims[-1]}, width {width}, {seeds} seeds, (m, eta d / m) = {found.words}"
    )
    return ClaimResult(findings, [chart], words)


def _samples(run: Observed) -> float:
    return run.crosses("held_out/error", LEARNED) * run.settings.batch_size
