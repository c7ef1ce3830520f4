"""Open question 1: batches of one sample, and full-batch descent on a fixed sample.

Statement, as an open question after arXiv 2309.15111: the transition between the phases persists with
batches of one sample and with full-batch gradient descent. Required: it does, in most runs.

Batches of one: noise grows as eta d / m, so that the step must be small. At eta d = 0.16 networks learn and
become signal-heavy before they leave the linear regime; at eta = 0.2, which fails in theory.md 7 (d = 32,
eta d = 6.4), none learns. Full batches: on a sample of 16 d the phases come in order, and the test error is
at most 2 percent when the training loss meets its target. Smaller samples show the gap between test and
training error; a sample of n = d is memorised (fitted without being signal-heavy). Error and first-order error are measured on held-out
samples, because the training samples are too few or memorised.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.claim_01_two_phases import ORDER
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples
from phasetrack.studies.sweeps.table import LEARNED
from phasetrack.theory.settings import RunSettings

# eta d / m with batches of one. Minibatch runs with m = 4 d and eta = 0.2 have 0.05.
GENTLE, NOISY, FAILING = 0.16, 0.64, 6.4
PATIENCE = 1.5  # steps over the predicted steps to the target, which noise delays


def evaluate(lab: Lab) -> ClaimResult:
    """Train on batches of one over eta, then on fixed samples over their size."""
    seeds = 5
    dims = (32,) if lab.quick else (32, 64)
    single = lab.grid(
        {
            (d, noise): _single_settings(d, noise)
            for d in dims
            for noise in (GENTLE, NOISY, FAILING)
        },
        seeds,
        "tested",
    )
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    sizes = (1, 2, 4, 8, 16) if lab.quick else (1, 2, 4, 8, 16, 32)
    fixed = lab.grid({n: replace(base, batch=n * base.d) for n in sizes}, seeds, "fixed sample")
    findings = []
    for d in dims:
        for noise in (GENTLE, NOISY, FAILING):
            findings += _single_findings(d, noise, single[d, noise])
    findings += [
        Finding(
            "n = 16 d: phases in order",
            confidence.share_of(run.labels == ORDER for run in fixed[16]),
            low=0.5,
        ),
        Finding(
            "n = 16 d: test error at the target",
            confidence.mean(_test_errors(fixed[16])),
            high=LEARNED,
        ),
        *(Finding(f"n = {n} d: test error - training error", _gap(fixed[n])) for n in sizes),
        *(
            Finding(
                f"n = {n} d: signal-heavy",
                confidence.share_of(run.is_signal_heavy for run in fixed[n]),
            )
            for n in sizes
        ),
        Finding(
            "n = d: learned by heart (fitted, not signal-heavy)",
            confidence.share_of(run.is_fitted and not run.is_signal_heavy for run in fixed[1]),
        ),
    ]
    words = f"batches of one: d = {', '.join(map(str, dims))}; samples: d = {base.d}; {seeds} seeds"
    return ClaimResult(findings, [_gap_chart(fixed), _zeta_chart(single, dims[0])], words)


def _single_settings(d: int, noise: float) -> RunSettings:
    settings = RunSettings(d=d, width=128, batch=1, eta=noise / d, every=20)
    return replace(settings, steps=math.ceil(PATIENCE * settings.predicted_steps))


def _single_findings(d: int, noise: float, runs: list[Observed]) -> list[Finding]:
    name = f"batches of one, d = {d}, eta d = {noise}"
    learned = confidence.share_of(
        math.isfinite(run.crosses("held_out/error", LEARNED)) for run in runs
    )
    if noise == FAILING:
        return [Finding(f"{name}: learned", learned, high=0.5)]
    ratios = [
        run.crosses("held_out/value_error", run.settings.thresholds().linear_exit)
        / run.boundary("signal_heavy")
        for run in runs
    ]
    required = {"low": 1.0} if noise == GENTLE else {}
    return [
        Finding(f"{name}: learned", learned, low=0.5),
        Finding(
            f"{name}: signal-heavy",
            confidence.share_of(run.is_signal_heavy for run in runs),
            low=0.5,
        ),
        Finding(
            f"{name}: exit from the linear regime / onset", confidence.mean(ratios), **required
        ),
    ]


def _test_errors(runs: list[Observed]) -> list[float]:
    return [error_on_fresh_samples(run.network, run.settings) for run in runs]


def _training_errors(runs: list[Observed]) -> list[float]:
    return [float(run.history["error/train"][-1]) for run in runs]


def _gap(runs: list[Observed]) -> confidence.Interval:
    pairs = zip(_test_errors(runs), _training_errors(runs), strict=True)
    return confidence.mean([test - training for test, training in pairs])


def _gap_chart(fixed: dict[int, list[Observed]]) -> ClaimChart:
    sizes = list(fixed)
    curves = {"test": _test_errors, "training": _training_errors}
    series = []
    for name, errors in curves.items():
        series.append(Series.of(name, sizes, (confidence.mean(errors(fixed[n])) for n in sizes)))
    return ClaimChart("full batch: error at the end", "samples / d", "error", series, log_x=True)


def _zeta_chart(single: dict[tuple[int, float], list[Observed]], d: int) -> ClaimChart:
    series = []
    for noise in (GENTLE, NOISY, FAILING):
        run = single[d, noise][0]
        times = (run.history.steps * run.settings.eta).tolist()
        series.append(
            Series(f"eta d = {noise}", times, run.history["heaviness/zeta_star"].tolist())
        )
    return ClaimChart(
        f"batches of one, d = {d}, seed 0 (gaps: infinite)",
        "eta x step",
        "zeta*",
        series,
        log_y=True,
    )
