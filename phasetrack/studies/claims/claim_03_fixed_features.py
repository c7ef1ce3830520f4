"""Methods with fixed features need about d^2 samples.

Statement: the d polylog(d) samples of arXiv 2309.15111 are near-optimal, while methods with fixed features
need about d^2 (from memory of the literature, theory.md 7). Required: the samples to 10 percent error grow
as a power of d between 1.6 and 2.4, both for the two-layer network's tangent kernel in closed form and for a
frozen random first layer with a ridge-fitted second layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from phasetrack.model.seeds import seeded
from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import TEST_STEP, Lab
from phasetrack.tasks import XOR

ERROR = 0.1
RIDGE = 1e-6  # share of the kernel's diagonal; it only counters rounding
GROWTH = 1.3  # factor between sample sizes that are tried
# Random features over d^2, about eleven per sample that is needed; twice as many change the samples by 5
# percent, infinitely many by 10 (d = 12 to 48). A number proportional to d would change the measured power.
FEATURES_PER_SQUARE = 4
TESTED = 2000

Kernel = Callable[[Tensor, Tensor], Tensor]


def evaluate(lab: Lab) -> ClaimResult:
    """Measure the samples to 10 percent error over d for each method."""
    dims = (10, 14, 20, 28) if lab.quick else (12, 16, 24, 32, 48, 64)
    seeds = 3
    findings, series = [], []
    for name, make in {"tangent kernel": _tangent, "random features": _random_features}.items():
        each = [(d, lab.seed + i, make) for d in dims for i in range(seeds)]
        needed = iter(lab.map(_needed_samples, each, lambda arguments: float(arguments[0] ** 6)))
        found = {d: [next(needed) for _ in range(seeds)] for d in dims}
        power = confidence.power(found)
        findings.append(Finding(f"power of d, {name}", power, low=1.6, high=2.4))
        series.append(Series.of(name, dims, (confidence.mean(found[d]) for d in dims)))
    series.append(Series("d^2", dims, [float(d * d) for d in dims], predicted=True))
    title = "samples to 10 percent error"
    chart = ClaimChart(title, "d", "samples", series, log_x=True, log_y=True)
    return ClaimResult(findings, [chart], f"d = {dims[0]} to {dims[-1]}, {seeds} seeds")


def _needed_samples(d: int, seed: int, make: Callable[[int, int], Kernel]) -> float:
    """Return the interpolated number of samples at which the test error passes ERROR."""
    task, kernel = XOR(d), make(d, seed)
    x_test, y_test = task.sample(TESTED, seed=seed, step=TEST_STEP, dtype=torch.float64)
    before, count = (math.nan, math.nan), float(d)
    while True:
        x, y = task.sample(int(count), seed=seed, step=0, dtype=torch.float64)
        error = _error(kernel, x, y, x_test, y_test)
        if error <= ERROR:
            break
        before, count = (count, error), count * GROWTH
    if math.isnan(before[0]):
        return count
    return float(np.interp(-ERROR, [-before[1], -error], [before[0], count]))


def _error(kernel: Kernel, x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    gram = kernel(x, x)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    outputs = kernel(x_test, x) @ torch.linalg.solve(gram, y)
    return float((outputs * y_test <= 0).double().mean())


def _tangent(d: int, _: int) -> Kernel:
    """Return the tangent kernel of a two-layer ReLU network (Jacot et al. 2018; Cho, Saul 2009)."""

    def kernel(x: Tensor, z: Tensor) -> Tensor:
        cosine = (x @ z.T / d).clamp(-1, 1)
        angle = cosine.arccos()
        first = (math.pi - angle) / (2 * math.pi)
        second = (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi)
        return cosine * first + second

    return kernel


def _random_features(d: int, seed: int) -> Kernel:
    """Return the kernel of a frozen random first layer."""
    generator = seeded(seed)
    count = FEATURES_PER_SQUARE * d * d
    W = torch.randn(d, count, generator=generator, dtype=torch.float64, device="cpu") / math.sqrt(d)

    def kernel(x: Tensor, z: Tensor) -> Tensor:
        return torch.relu(x @ W) @ torch.relu(z @ W).T / count

    return kernel
