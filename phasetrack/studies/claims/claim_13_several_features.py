"""Open question 2: targets of several features, learned one after another.

Statement, as an open question after arXiv 2309.15111: signal-heaviness carries over to functions of
k >= 2 features with L >= 2 levels of hierarchy. Required of quadratic targets: most runs become signal-heavy.
Required of two XORs, whose neurons grow in the first phase at a rate proportional to the feature's strength,
its mean product with the label (theory.md 6): each feature is acquired at a time proportional to 1 / strength
within 15 percent, so that the stronger XOR comes first and equal XORs come together. Reported: which neurons
hold each feature, and whether those that hold the second feature held the first.

A feature counts as acquired once its gain, the Fourier coefficient of the clean network, passes 0.5. Its
holders are the fewest neurons that make nine tenths of the gain (`measures.feature_gain`).

Targets of the third and fourth degree are reported and have no range: one model, one size and one number of
steps cannot say what is out of reach. The staircase's label is the sign of x1 + x1 x2 - x1 x3, which ten bias-free
ReLU neurons represent without error and training learns at small d; of odd functions such networks represent the
linear ones alone, and with biases they learn the parity of three too. The parity of four is representable, and
is learned at d = 7.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from phasetrack.measures.feature_gain import Features, contributions, holders
from phasetrack.model.geometry import Neurons
from phasetrack.phases.classifier import Boundary
from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples
from phasetrack.studies.claims.task_features import features
from phasetrack.tasks.quadratic import STRONGER
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.probes.feature_gain import acquisitions

QUADRATIC = ("two-xors", "equal-xors", "unequal-xors", "quadratic")
HIGHER = ("staircase", "parity3", "parity4")
STRONG, WEAK = "-x1 x2", "-x3 x4"
SHOWN = ("unequal-xors", "equal-xors", "quadratic", "staircase")
TOLERANCE = 0.15


def evaluate(lab: Lab) -> ClaimResult:
    """Train all targets for as long; then the two XORs again up to each acquisition."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    # a record over all corners of four coordinates costs more than a step; boundaries are interpolated
    base = replace(base, steps=math.ceil(2.5 * base.predicted_steps), every=2)
    seeds = 5
    names = ("xor", *QUADRATIC, *HIGHER)
    runs = lab.grid({name: replace(base, task=name) for name in names}, seeds, "acquiring")
    findings = [
        *(
            Finding(
                f"signal-heavy, {name}",
                confidence.share_of(run.is_signal_heavy for run in runs[name]),
                low=0.5 if name in QUADRATIC else -math.inf,
            )
            for name in (*QUADRATIC, *HIGHER)
        ),
        *_timing(runs),
        *_sequence(lab, "unequal-xors", runs["unequal-xors"], low=1.5, high=math.inf),
        *_sequence(lab, "equal-xors", runs["equal-xors"], low=0.9, high=1.1),
        *(
            finding
            for name in names
            for feature in _features(runs[name][0]).names
            for finding in _acquired(name, feature, runs[name])
        ),
        *(Finding(f"test error at the end, {name}", _error(runs[name])) for name in names),
    ]
    charts = [_chart(name, runs[name][0]) for name in SHOWN]
    words = f"d = {base.d}, width {base.width}, {base.steps} steps, {seeds} seeds"
    return ClaimResult(findings, charts, words)


def _timing(runs: dict[str, list[Observed]]) -> list[Finding]:
    """Return each step of acquisition times the feature's strength, over the step in XOR."""
    alone = confidence.mean([_step(run, STRONG) for run in runs["xor"]]).value
    strengths = {
        ("equal-xors", STRONG): 0.5,
        ("equal-xors", WEAK): 0.5,
        ("unequal-xors", STRONG): STRONGER,
        ("unequal-xors", WEAK): 1 - STRONGER,
    }
    return [
        Finding(
            f"step of {feature} in {task} x strength {strength:.2g} / step in xor",
            confidence.mean([_step(run, feature) * strength / alone for run in runs[task]]),
            1 - TOLERANCE,
            1 + TOLERANCE,
        )
        for (task, feature), strength in strengths.items()
    ]


def _sequence(
    lab: Lab, task: str, runs: list[Observed], *, low: float, high: float
) -> list[Finding]:
    """Return the ratio of the two XORs' steps of acquisition, and the neurons that hold them."""
    ratios = [_step(run, WEAK) / _step(run, STRONG) for run in runs]
    name = f"{task}: {WEAK} acquired / {STRONG} acquired"
    return [
        Finding(name, confidence.mean(ratios), low, high),
        *_holder_findings(lab, task, runs),
    ]


def _error(runs: list[Observed]) -> confidence.Interval:
    return confidence.mean([error_on_fresh_samples(run.network, run.settings) for run in runs])


def _features(run: Observed) -> Features:
    return features(run.settings.task, run.settings.d)


def _boundaries(run: Observed) -> dict[str, Boundary]:
    return {b.name: b for b in acquisitions(run.history, _features(run))}


def _step(run: Observed, feature: str) -> float:
    found = _boundaries(run).get(feature)
    return found.onset if found else math.nan


def _acquired(task: str, feature: str, runs: list[Observed]) -> list[Finding]:
    """Return the share of runs that acquire a feature, the step, and the number of its neurons."""
    found = [(run, b[feature]) for run in runs if feature in (b := _boundaries(run))]
    share = confidence.share(len(found), len(runs))
    acquiring = Finding(f"{task}: runs that acquire {feature}", share)
    if not found:
        return [acquiring]
    counts = [run.at(f"acquisition/{feature}/neurons", b.detected) for run, b in found]
    steps = [b.onset for _, b in found]
    return [
        *([acquiring] if len(found) < len(runs) else ()),
        Finding(f"{task}: {feature} acquired at step", confidence.mean(steps)),
        Finding(f"{task}: neurons that hold {feature} then", confidence.mean(counts)),
    ]


def _holder_findings(lab: Lab, task: str, runs: list[Observed]) -> list[Finding]:
    """Return how many neurons that hold the second XOR hold, or held, the first one."""
    known = [(run, _boundaries(run)) for run in runs if len(_boundaries(run)) == 2]
    moments = [
        (replace(run.settings, steps=max(found[name].detected, 1)), "acquiring")
        for run, found in known
        for name in (STRONG, WEAK)
    ]
    at_acquisition = iter(lab.all(moments))
    shared, moved = [], []
    for _ in known:
        first, second = _holders(next(at_acquisition)), _holders(next(at_acquisition))
        both = (second[:, 0] & second[:, 1]).sum()
        shared.append(float(both / second[:, 1].sum()))
        moved.append(float((first[:, 0] & second[:, 1]).sum() / second[:, 1].sum()))
    return [
        Finding(f"{task}: holders of {WEAK} that hold {STRONG} too", confidence.mean(shared)),
        Finding(f"{task}: ... that held {STRONG} when it was acquired", confidence.mean(moved)),
    ]


def _holders(run: Observed) -> Tensor:
    task = make_task(run.settings.task, run.settings.d)
    W, a = run.network.first.weight.detach(), run.network.second.weight.detach()[0]
    neurons = Neurons.of(W.double(), a.double(), task.geometry)
    return holders(contributions(neurons, _features(run)))


def _chart(name: str, run: Observed) -> ClaimChart:
    series = [run.series(name, f"acquisition/{name}") for name in _features(run).names]
    marks = [(b.onset, b.name) for b in acquisitions(run.history, _features(run))]
    return ClaimChart(f"{name}, seed 0", "step", "gain of each feature", series, marks=marks)
