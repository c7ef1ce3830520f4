"""Open question 3: Gaussian inputs, block by block.

Statement, as an open question after arXiv 2309.15111: d polylog(d) samples suffice for XOR with inputs from
N(0, I_d), too. A later paper (Braun and Imaizumi, arXiv 2602.00172, abstract) states that "neurons cluster
into four directions and that block-level signals evolve coherently" where "individual neuron signals vary
significantly", and distinguishes "regions of reliable prediction from regions of persistent error".

Required of the samples to 5 percent error, with m and eta tuned together at each d as in claim 2: they grow as a
power of d of at most 1.25; and with m = 8 d and eta = 0.2 most runs become signal-heavy. Required of the blocks (`measures.neuron_blocks`): at the onset, most of
the squared length lies within 30 degrees of the four directions; single neurons differ from their block by
at least half of its signal, and block signals differ from each other by less than half of that; in the
signal-finding phase block signals grow at 9 of 10 steps. Required of the error at the end: at most 2 percent
away from the boundary (min(|x1|, |x2|) >= 0.5), and more than 2 percent near it (< 0.25). Reported: the
spread of blocks whose neurons are drawn independently.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import NEARLY_LEARNED, TEST_SAMPLES, TEST_STEP, Lab, Observed
from phasetrack.studies.claims.tuned import Goal, tuned
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings

ERROR = NEARLY_LEARNED
GOAL = Goal(ERROR, "until nearly learned", batches=(32, 128), ratios=(0.05, 0.1, 0.2), most=900)
NEAR, AWAY, RELIABLE = 0.25, 0.5, 0.02
EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
BATCH = 8  # samples per step over d (theory.md 7)


def evaluate(lab: Lab) -> ClaimResult:
    """Train on Gaussian inputs over d, and on Boolean inputs of the largest d."""
    dims = (16, 32, 64) if lab.quick else (16, 32, 64, 128)
    width, seeds = (128, 5) if lab.quick else (256, 5)
    base = RunSettings(task="gaussian", width=width, steps=250)
    runs = lab.grid({d: replace(base, d=d, batch=BATCH * d) for d in dims}, seeds, "gathering")
    largest = dims[-1]
    boolean = replace(base, task="xor", d=largest, batch=BATCH * largest)
    beside = {"Gaussian": runs[largest], "Boolean": lab.seeds(boolean, seeds, "gathering")}
    fixed = {d: [_samples(run) for run in runs[d]] for d in dims}
    best = tuned(lab, RunSettings(task="gaussian", width=width), dims, GOAL)
    power = f"power of d in the samples to {ERROR:.0%} error"
    findings = [
        Finding(f"{power}, m and eta tuned", confidence.power(best.samples), high=1.25),
        Finding(f"{power}, m = {BATCH} d", confidence.power(fixed)),
        *(
            Finding(
                f"samples / d to {ERROR:.0%} error at d = {d}, {how}",
                confidence.mean([n / d for n in values]),
            )
            for how, samples in (("tuned", best.samples), (f"m = {BATCH} d", fixed))
            for d, values in samples.items()
        ),
        Finding(
            "runs that become signal-heavy",
            confidence.share_of(run.is_signal_heavy for found in runs.values() for run in found),
            low=0.5,
        ),
    ]
    for name, found in beside.items():
        findings += _block_findings(name, found, required=name == "Gaussian")
    near, away = (
        [_error(run, *between) for run in runs[largest]]
        for between in ((0.0, NEAR), (AWAY, math.inf))
    )
    findings += [
        Finding(
            f"error at the end, under {NEAR} from the boundary", confidence.mean(near), low=RELIABLE
        ),
        Finding(f"error at the end, {AWAY} and more from it", confidence.mean(away), high=RELIABLE),
    ]
    words = f"d = {dims[0]} to {dims[-1]}, width {width}, m = {BATCH} d, {base.steps} steps, {seeds} seeds"
    words += f"; tuned: (m, eta d / m) = {best.words}"
    charts = [_signal_chart(runs[largest][0]), _error_chart(runs[largest])]
    return ClaimResult(findings, charts, f"{words}; blocks and errors at d = {largest}")


def _samples(run: Observed) -> float:
    return run.crosses("held_out/error", ERROR) * run.settings.batch_size


def _block_findings(name: str, runs: list[Observed], *, required: bool) -> list[Finding]:
    def at_onset(metric: str) -> list[float]:
        return [run.at(f"gathering/{metric}", run.boundary("signal_heavy")) for run in runs]

    def while_finding(metric: str) -> list[float]:
        return [
            float(np.nanmean(run.history[f"gathering/{metric}"][_finding(run)])) for run in runs
        ]

    def over_neurons(metric: str) -> list[float]:
        pairs = zip(at_onset(metric), at_onset("spread"), strict=True)
        return [blocks / neurons for blocks, neurons in pairs]

    measured = {
        "length in the four directions at the onset": (at_onset("share"), {"low": 0.5}),
        "spread of neurons in a block at the onset": (at_onset("spread"), {"low": 0.5}),
        "spread of blocks / of neurons at the onset": (over_neurons("block_spread"), {"high": 0.5}),
        "... if neurons were independent": (over_neurons("independent_spread"), {}),
        "share of steps at which a block grows": (while_finding("growing_blocks"), {"low": 0.9}),
        "share of steps at which a neuron grows": (while_finding("growing_neurons"), {}),
    }
    return [
        Finding(f"{quantity}, {name}", confidence.mean(values), **(ranges if required else {}))
        for quantity, (values, ranges) in measured.items()
    ]


def _finding(run: Observed) -> np.ndarray:
    """Return which recorded steps belong to the signal-finding phase."""
    return run.history.steps <= run.boundary("signal_heavy")


def _error(run: Observed, low: float, high: float) -> float:
    """Return the error on fresh samples whose distance from the boundary is in [low, high)."""
    x, y = make_task(run.settings.task, run.settings.d).sample(
        TEST_SAMPLES, seed=run.settings.seed, step=TEST_STEP + 1
    )
    distance = x[:, :2].abs().amin(dim=1)
    between = (distance >= low) & (distance < high)
    with torch.no_grad():
        wrong = run.network(x[between]) * y[between] <= 0
    return float(wrong.double().mean())


def _signal_chart(run: Observed) -> ClaimChart:
    geometry = make_task(run.settings.task, run.settings.d).geometry
    series = [run.series(name, f"gathering/signal/{name}") for name in geometry.names]
    return ClaimChart(
        f"signal of each block, d = {run.settings.d}, seed 0", "step", "signal", series, log_y=True
    )


def _error_chart(runs: list[Observed]) -> ClaimChart:
    ends = (*EDGES[1:], math.inf)
    means = [
        confidence.mean([_error(run, low, high) for run in runs])
        for low, high in zip(EDGES, ends, strict=True)
    ]
    series = Series.of("test error", range(len(means)), means)
    kinds = [
        f"from {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        for low, high in zip(EDGES, ends, strict=True)
    ]
    title, distance = "error at the end, by distance to the boundary", "min(|x1|, |x2|)"
    return ClaimChart(title, distance, "error", [series], kinds=kinds)
