"""Open question 2: targets of several features, learned one after another.

Statement: "Can the signal-heavy inductive hypothesis be maintained for learning more general multi-index
functions beyond XOR, such as those with k >= 2 features and L >= 2 hierarchical structure?" (summary of
arXiv 2309.15111, Open Question 2). Asked of every target alike: most runs become signal-heavy. Asked beside
it, after the law of the first phase (theory.md 6), by which a feature's neurons grow at a rate proportional
to its strength (its mean product with the label): a feature is acquired at a time that goes as 1 / strength
within 15 percent, so that of two XORs the stronger comes first and equal ones come together. Reported: which
neurons took it, and whether those that take the second held the first. A feature counts as acquired once its gain, the Fourier
coefficient of the clean network, passes 0.5; its holders are the fewest neurons that make nine tenths of
it (`measures.acquisition`).

A bias-free network of ReLUs represents no odd function but the linear ones. The parity of three and the
last stair of the staircase are therefore out of reach at any size, which the verdict of these targets shows.
The parity of four is within reach and not found: no feature of a lower degree leads to it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from phasetrack.measures.feature_gain import Features, contributions, holders
from phasetrack.model.geometry import Neurons
from phasetrack.phases.classifier import Boundary
from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
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


def run(lab: Lab) -> Result:
    """All targets for as long; then the networks at each acquisition of the two XORs."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings(d=128, width=256)
    # with every corner of four coordinates a record costs more than a step, and boundaries are interpolated
    base = replace(base, steps=math.ceil(2.5 * base.predicted_steps), every=2)
    seeds = 5
    names = ("xor", *QUADRATIC, *HIGHER)
    runs = lab.grid({name: replace(base, task=name) for name in names}, seeds, "acquiring")
    findings = [
        *(
            Finding(f"signal-heavy, {name}", _share(runs[name]), low=0.5)
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
    return Result(findings, charts, words)


def _timing(runs: dict[str, list[Observed]]) -> list[Finding]:
    """Step of each acquisition times the feature's strength, over that of XOR alone."""
    alone = intervals.mean([_step(one, STRONG) for one in runs["xor"]]).value
    strengths = {
        ("equal-xors", STRONG): 0.5,
        ("equal-xors", WEAK): 0.5,
        ("unequal-xors", STRONG): STRONGER,
        ("unequal-xors", WEAK): 1 - STRONGER,
    }
    return [
        Finding(
            f"step of {feature} in {task} x strength {strength:.2g} / step in xor",
            intervals.mean([_step(one, feature) * strength / alone for one in runs[task]]),
            1 - TOLERANCE,
            1 + TOLERANCE,
        )
        for (task, feature), strength in strengths.items()
    ]


def _sequence(
    lab: Lab, task: str, runs: list[Observed], *, low: float, high: float
) -> list[Finding]:
    """How long after the first of two XORs the second is acquired, and by whom."""
    ratios = [_step(one, WEAK) / _step(one, STRONG) for one in runs]
    name = f"{task}: {WEAK} acquired / {STRONG} acquired"
    return [
        Finding(name, intervals.mean(ratios), low, high),
        *_holder_findings(lab, task, runs),
    ]


def _error(runs: list[Observed]) -> intervals.Interval:
    return intervals.mean([error_on_fresh_samples(one.network, one.settings) for one in runs])


def _features(one: Observed) -> Features:
    return features(one.settings.task, one.settings.d)


def _boundaries(one: Observed) -> dict[str, Boundary]:
    return {b.name: b for b in acquisitions(one.history, _features(one))}


def _step(one: Observed, feature: str) -> float:
    found = _boundaries(one).get(feature)
    return found.onset if found else math.nan


def _share(runs: list[Observed]) -> intervals.Interval:
    heavy = sum(math.isfinite(one.boundary("signal_heavy")) for one in runs)
    return intervals.share(heavy, len(runs))


def _acquired(task: str, feature: str, runs: list[Observed]) -> list[Finding]:
    """When, by which share of the runs, and by how many neurons a feature was acquired."""
    found = [(one, b[feature]) for one in runs if feature in (b := _boundaries(one))]
    share = intervals.share(len(found), len(runs))
    acquiring = Finding(f"{task}: runs that acquire {feature}", share)
    if not found:
        return [acquiring]
    counts = [one.at(f"acquisition/{feature}/neurons", b.detected) for one, b in found]
    steps = [b.onset for _, b in found]
    return [
        *([acquiring] if len(found) < len(runs) else ()),
        Finding(f"{task}: {feature} acquired at step", intervals.mean(steps)),
        Finding(f"{task}: neurons that hold {feature} then", intervals.mean(counts)),
    ]


def _holder_findings(lab: Lab, task: str, runs: list[Observed]) -> list[Finding]:
    """Who holds the second of two XORs when it is acquired, and what they held when the first was."""
    known = [(one, _boundaries(one)) for one in runs if len(_boundaries(one)) == 2]
    moments = [
        (replace(one.settings, steps=max(found[name].detected, 1)), "acquiring")
        for one, found in known
        for name in (STRONG, WEAK)
    ]
    made = iter(lab.all(moments))
    shared, moved = [], []
    for _ in known:
        first, second = _holders(next(made)), _holders(next(made))
        both = (second[:, 0] & second[:, 1]).sum()
        shared.append(float(both / second[:, 1].sum()))
        moved.append(float((first[:, 0] & second[:, 1]).sum() / second[:, 1].sum()))
    return [
        Finding(f"{task}: holders of {WEAK} that hold {STRONG} too", intervals.mean(shared)),
        Finding(f"{task}: ... that held {STRONG} when it was acquired", intervals.mean(moved)),
    ]


def _holders(one: Observed) -> Tensor:
    task = make_task(one.settings.task, one.settings.d)
    W, a = one.network.first.weight.detach(), one.network.second.weight.detach()[0]
    neurons = Neurons.of(W.double(), a.double(), task.geometry)
    return holders(contributions(neurons, _features(one)))


def _chart(name: str, one: Observed) -> Chart:
    series = [one.series(name, f"acquisition/{name}") for name in _features(one).names]
    marks = [(b.onset, b.name) for b in acquisitions(one.history, _features(one))]
    return Chart(f"{name}, seed 0", "step", "gain of each feature", series, marks=marks)
