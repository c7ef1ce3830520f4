"""Levels of LAZY: chosen on one set of seeds, judged on another (the protocol is in docs/phases.md).

python benchmarks/lazy_levels.py choose 80
python benchmarks/lazy_levels.py judge 120
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

import phasetrack
from phasetrack import LogisticLoss, Thresholds, TwoLayerNet
from phasetrack.phases.classifier import METRICS, Phase, relabel
from phasetrack.phases.vocabularies.lazy_rich import DRIFT, LazyRich
from phasetrack.studies import confidence
from phasetrack.tasks import make_task

FIRST_SEED = {"choose": 400_000, "judge": 420_000}
DRIFTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
LINEAR_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# The twin is the network linearised at its start, trained alike. Lazy: its error is at most so much above the
# network's, and its outputs on fresh samples are within this share of the network's way from its start.
AS_WELL, NEAR = 0.02, 0.3
# Not lazy: from here on. Runs in between are not scored.
WORSE, FAR = 0.1, 0.7
AFTER_FITTED = 20  # steps


class Case(NamedTuple):
    """A fitted run, and whether it is lazy in truth; None where its twin is in between."""

    name: str
    rows: list[tuple[int, dict[str, float]]]
    lazy: bool | None


def drawn(seed: int) -> Case | None:
    """Train a run of some settings and its twin; None if it does not become FITTED."""
    draw = np.random.default_rng(seed)
    task = make_task(
        str(draw.choice(["xor", "two-xors", "rotated", "majority", "and"])),
        int(draw.choice([12, 16, 24, 32, 48])),
    )
    d, width = task.geometry.dim, int(draw.choice([32, 64, 128, 256]))
    batch = int(d * draw.choice([2, 4, 8]))
    kind = str(draw.choice(["sphere", "paired", "uneven", "pytorch"]))
    least = float(draw.choice([0.05, 3.0]))
    theta = float(np.exp(draw.uniform(np.log(least), np.log(30))))
    ratio = float(draw.choice([0.1, 10]))
    torch.manual_seed(seed)
    optimizer: type[torch.optim.Optimizer]
    if kind == "pytorch":
        model: nn.Module = nn.Sequential(
            nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0)
        )
        optimizer, rate, steps = torch.optim.Adam, float(draw.choice([1e-3, 3e-3, 1e-2])), 400
        name = f"{kind} lr={rate:g}"
    else:
        model = TwoLayerNet(d, width, theta=theta, seed=seed)
        optimizer, rate, steps = torch.optim.SGD, 0.2 * width, 250
        name = f"{kind} theta={theta:.2g}"
        first, second = model.first.weight.data, model.second.weight.data
        if kind == "paired":  # the network starts at 0
            first[1::2], second[:, 1::2] = first[::2], -second[:, ::2]
        if kind == "uneven":
            first.div_(ratio**0.5), second.mul_(ratio**0.5)
            rate, name = rate / max(ratio, 1.0), f"{name} |a|/|w|={ratio:g}"
    start = {key: value.detach().clone() for key, value in model.named_parameters()}
    loss = LogisticLoss()
    trained = optimizer(model.parameters(), lr=rate)
    end = steps
    with phasetrack.attach(model, trained, loss=loss, geometry=task.geometry) as tracker:
        for step in range(steps):
            x, y = task.sample(batch, seed=seed, step=step)
            trained.zero_grad()
            loss(model(x), y).backward()
            trained.step()
            if end == steps and tracker.phase is Phase.FITTED:
                end = step + AFTER_FITTED
            if step >= end:
                break
    if end == steps:
        return None
    change = {key: torch.zeros_like(value, requires_grad=True) for key, value in start.items()}

    def twin(x: Tensor) -> Tensor:
        made = jvp(lambda given: functional_call(model, given, (x,)), (start,), (change,))
        value: Tensor = made[0] + made[1]
        return value

    trained = optimizer(list(change.values()), lr=rate)
    for step in range(end):
        x, y = task.sample(batch, seed=seed, step=step)
        trained.zero_grad()
        loss(twin(x), y).backward()
        trained.step()
    x, y = task.sample(4096, seed=seed, step=2**62)
    with torch.no_grad():
        began, ended, linear = functional_call(model, start, (x,)), model(x), twin(x)
    excess = float((linear * y <= 0).double().mean() - (ended * y <= 0).double().mean())
    distance = float((ended - linear).norm() / (ended - began).norm())
    is_lazy, is_not = excess <= AS_WELL and distance <= NEAR, excess >= WORSE or distance >= FAR
    lazy = True if is_lazy else False if is_not else None
    rows = [(step, dict(row)) for step, row in tracker.history.rows(names=METRICS)]
    readings = {
        key: value
        for _, row in rows
        for key, value in row.items()
        if key.startswith("kernel") and math.isfinite(value)
    }
    print(
        f"{seed} {task.geometry.dim:3d} {width:3d} {kind:8s} {name:32s} twin {excess:6.3f} {distance:5.2f}  "
        f"drift {readings.get('kernel/drift', math.nan):6.3f} linear {readings.get('kernel/linearisation_error', math.nan):6.3f}",
        flush=True,
    )
    return Case(kind, rows, lazy)


def called_lazy(case: Case, limits: Thresholds) -> bool:
    """Whether LAZY is raised under some levels."""
    verdicts = relabel(case.rows, limits)
    return any(alert.name == "LAZY" for _, verdict in verdicts for alert in verdict.alerts)


def _drift(case: Case) -> float:
    """The last kernel drift."""
    return [row[DRIFT] for _, row in case.rows if math.isfinite(row.get(DRIFT, math.nan))][-1]


def errors(cases: Sequence[Case], limits: Thresholds) -> tuple[int, int]:
    """Count the false alarms and the misses."""
    said = [(called_lazy(case, limits), case.lazy) for case in cases]
    false = sum(was and lazy is False for was, lazy in said)
    return false, sum(not was and lazy is True for was, lazy in said)


def main(part: str, count: int) -> None:
    """Draw runs and print the errors: of every pair of levels to choose, or of the defaults to judge."""
    torch.set_num_threads(1)
    seeds = range(FIRST_SEED[part], FIRST_SEED[part] + count)
    found = [case for case in map(drawn, seeds) if case is not None]
    cases = [case for case in found if case.lazy is not None]
    lazy = sum(case.lazy is True for case in cases)
    print(
        f"{count} runs, {len(found)} fitted, {len(cases)} scored: {lazy} lazy, {len(cases) - lazy} not"
    )
    for limit in (LazyRich().lazy_drift, LazyRich().rich_drift):
        beyond = [(_drift(case) > limit, case.lazy) for case in cases]
        print(
            f"kernel drift {limit:g}: {sum(is_beyond and lazy is True for is_beyond, lazy in beyond)} lazy runs above it, "
            f"{sum(not is_beyond and lazy is False for is_beyond, lazy in beyond)} others at or under it"
        )
    if part == "judge":
        false, missed = errors(cases, Thresholds())
        print("false alarms", false, confidence.share(false, len(cases) - lazy))
        print("misses", missed, confidence.share(missed, lazy))
        return
    table = {
        pair: errors(cases, replace(Thresholds(), lazy_drift=pair[0], lazy_linearisation=pair[1]))
        for pair in itertools.product(DRIFTS, LINEAR_SHARES)
    }
    for pair, (false, missed) in sorted(table.items(), key=lambda item: sum(item[1]))[:20]:
        print(f"drift {pair[0]:g}, linear share {pair[1]:g}: {false} false alarms, {missed} misses")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
