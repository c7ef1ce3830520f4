"""Open question 1: batches of one, and full-batch descent on a fixed sample.

Statement: "Does the phase transition between signal-finding and signal-heavy phases persist when using
non-minibatch SGD (batch size 1) or even full-batch gradient descent?" (summary of arXiv 2309.15111, Open
Question 1). Asked: it does, in most runs. With batches of one noise grows as eta d / m, so the step has to
be small: at eta d = 0.16 networks learn and become signal-heavy before they leave the linear regime; at
theory.md 7's eta = 0.2 (d = 32, eta d = 6.4) none learns. Full batches on a sample of 16 d: phases in order,
and a test error of at most 2 percent when the training loss meets its target. Smaller samples show the
gap between test and training error; with n = d the sample is learned by heart (LAZY). Error and
first-order error are those of held-out samples: the samples of a step are too few, or known by heart.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.claim_01_two_phases import ORDER
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import LEARNED, Lab, Observed, error_on_fresh_samples
from phasetrack.theory.settings import RunSettings

# eta d / m with batches of one. Minibatch runs with m = 4 d and eta = 0.2 have 0.05.
GENTLE, NOISY, FAILING = 0.16, 0.64, 6.4
PATIENCE = 1.5  # of the predicted steps to the target, which noise makes longer


def run(lab: Lab) -> Result:
    """Batches of one over eta, then samples of some sizes."""
    seeds = 5
    dims = (32,) if lab.quick else (32, 64)
    single = lab.grid(
        {(d, noise): _of_one(d, noise) for d in dims for noise in (GENTLE, NOISY, FAILING)},
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
            intervals.share(sum(one.labels == ORDER for one in fixed[16]), seeds),
            low=0.5,
        ),
        Finding(
            "n = 16 d: test error at the target",
            intervals.mean(_tested(fixed[16])),
            high=LEARNED,
        ),
        *(Finding(f"n = {n} d: test error - training error", _gap(fixed[n])) for n in sizes),
        *(
            Finding(
                f"n = {n} d: signal-heavy", intervals.share(sum(map(_is_heavy, fixed[n])), seeds)
            )
            for n in sizes
        ),
        Finding(
            "n = d: learned by heart (LAZY)",
            intervals.share(sum("LAZY" in one.alerts for one in fixed[1]), seeds),
        ),
    ]
    words = f"batches of one: d = {', '.join(map(str, dims))}; samples: d = {base.d}; {seeds} seeds"
    return Result(findings, [_gap_chart(fixed), _zeta_chart(single, dims[0])], words)


def _of_one(d: int, noise: float) -> RunSettings:
    settings = RunSettings(d=d, width=128, batch=1, eta=noise / d, every=20)
    return replace(settings, steps=math.ceil(PATIENCE * settings.predicted_steps))


def _single_findings(d: int, noise: float, runs: list[Observed]) -> list[Finding]:
    learned = sum(math.isfinite(one.crosses("held_out/error", LEARNED)) for one in runs)
    what = f"batches of one, d = {d}, eta d = {noise}"
    share = intervals.share(learned, len(runs))
    if noise == FAILING:
        return [Finding(f"{what}: learned", share, high=0.5)]
    ratios = [
        one.crosses("held_out/value_error", one.settings.thresholds().linear_exit)
        / one.boundary("signal_heavy")
        for one in runs
    ]
    asked = {"low": 1.0} if noise == GENTLE else {}
    return [
        Finding(f"{what}: learned", share, low=0.5),
        Finding(
            f"{what}: signal-heavy", intervals.share(sum(map(_is_heavy, runs)), len(runs)), low=0.5
        ),
        Finding(f"{what}: exit from the linear regime / onset", intervals.mean(ratios), **asked),
    ]


def _is_heavy(one: Observed) -> bool:
    return math.isfinite(one.boundary("signal_heavy"))


def _tested(runs: list[Observed]) -> list[float]:
    return [error_on_fresh_samples(one.network, one.settings) for one in runs]


def _trained(runs: list[Observed]) -> list[float]:
    return [float(one.history["error/train"][-1]) for one in runs]


def _gap(runs: list[Observed]) -> intervals.Interval:
    pairs = zip(_tested(runs), _trained(runs), strict=True)
    return intervals.mean([test - training for test, training in pairs])


def _gap_chart(fixed: dict[int, list[Observed]]) -> Chart:
    sizes = list(fixed)
    curves = {"test": _tested, "training": _trained}
    series = []
    for name, errors in curves.items():
        series.append(Series.of(name, sizes, (intervals.mean(errors(fixed[n])) for n in sizes)))
    return Chart("full batch: error at the end", "samples / d", "error", series, log_x=True)


def _zeta_chart(single: dict[tuple[int, float], list[Observed]], d: int) -> Chart:
    series = []
    for noise in (GENTLE, NOISY, FAILING):
        one = single[d, noise][0]
        times = (one.history.steps * one.settings.eta).tolist()
        series.append(
            Series(f"eta d = {noise}", times, one.history["heaviness/zeta_star"].tolist())
        )
    return Chart(
        f"batches of one, d = {d}, seed 0 (gaps: infinite)",
        "eta x step",
        "zeta*",
        series,
        log_y=True,
    )
