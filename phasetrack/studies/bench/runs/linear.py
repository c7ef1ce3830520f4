"""Runs in closed form: linear modes, a product of two weights, and a regression whose test error falls late."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from phasetrack.studies.bench.known_run import (
    Crossing,
    Event,
    KnownRun,
    Net,
    Played,
    any_geometry,
    followed,
    generator,
    normal,
    repeated,
)
from phasetrack.tracking.probes.base import Probe, StackProbe
from phasetrack.tracking.probes.loss import loss as loss_reading
from phasetrack.tracking.probes.optional.generalisation import GeneralisationProbe
from phasetrack.tracking.probes.optional.plateau import PlateauProbe
from phasetrack.tracking.probes.optional.rank import RankProbe
from phasetrack.tracking.probes.optional.sharpness import SharpnessProbe

LOSS: Probe = StackProbe(loss_reading, frozenset({"batch"}))


# --- saddle to saddle: Saxe, McClelland and Ganguli, arXiv 1312.6120 ---------------------------


def half_way(strength: float, start: float, eta: float) -> float:
    """Return the step at which a linear mode of a balanced start is half of its singular value.

    >>> [round(half_way(s, 0.001, 0.01), 1) for s in (4.0, 2.0, 1.0)]
    [103.7, 190.0, 345.3]
    """
    return math.log(strength / start - 1) / (2 * strength * eta)


def linear_modes(strengths: tuple[float, ...], start: float, *, eta: float, steps: int) -> Played:
    """Train A W on whitened inputs to a map of given singular values, from start * identity."""
    k = len(strengths)
    x = math.sqrt(k) * torch.eye(k, dtype=torch.float64, device="cpu")
    y = x * torch.tensor(strengths, dtype=torch.float64, device="cpu")
    root = math.sqrt(start) * torch.eye(k, dtype=torch.float64, device="cpu")
    net = Net(root, root)
    # the loss |A W - diag(s)|^2 / 2 is k / 2 times the mean over samples and outputs
    optimizer = torch.optim.SGD(net.parameters(), lr=eta * k / 2)
    rows, seconds = followed(
        net,
        optimizer,
        nn.MSELoss(),
        repeated(x, y),
        steps=steps,
        geometry=any_geometry(k, k),
        probes=[LOSS, PlateauProbe(), RankProbe()],
    )
    return Played(rows, [Event("drop", half_way(s, start, eta)) for s in strengths], steps, seconds)


def _apart(seed: int) -> Played:
    a, b, c = _uniform(seed, 3)
    strong, weak = 3 + 2 * a, 0.6 + 0.4 * b
    start = 10.0 ** (-7 + 2 * c)
    last = half_way(weak, start, 0.01)
    return linear_modes((strong, weak), start, eta=0.01, steps=int(1.5 * last))


def _close(seed: int) -> Played:
    (c,) = _uniform(seed, 1)
    return linear_modes((4.0, 2.0, 1.0), 0.001 * 4 ** (c - 0.5), eta=0.01, steps=500)


def noisy_mode(strength: float, noise: float, start: float, *, seed: int, eta: float) -> Played:
    """Train A W on 16 whitened inputs to a map of rank one, with fresh noise on the targets at each step.

    The truth is the step at which the raw weights have half of the singular value.
    """
    source = generator(seed)
    x = math.sqrt(2) * torch.eye(2, dtype=torch.float64, device="cpu").repeat(8, 1)
    y = x * torch.tensor([strength, 0.0], dtype=torch.float64, device="cpu")
    root = math.sqrt(start) * torch.eye(2, dtype=torch.float64, device="cpu")
    net, half = Net(root, root), strength / 2
    drop = Crossing("drop", half, half, rising=True)
    steps = int(4 * half_way(strength, start, eta))

    def look(step: int) -> None:
        with torch.no_grad():
            drop.add(step, float((net.second.weight @ net.first.weight)[0, 0]))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield x, y + normal(*y.shape, source=source, scale=noise)

    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=eta),
        nn.MSELoss(),
        batches(),
        steps=steps,
        geometry=any_geometry(2, 2),
        probes=[LOSS, PlateauProbe(), RankProbe()],
        look=look,
    )
    return Played(rows, drop.events, steps, seconds)


def _noisy(seed: int) -> Played:
    a, b, c = _uniform(seed, 3)
    strength = 1 + 3 * a
    noise = strength * 10 ** (-1.5 + 1.25 * b)
    return noisy_mode(strength, noise, 10.0 ** (-6 + 3 * c), seed=seed, eta=0.01)


# --- edge of stability: f = u v, Lewkowycz et al., arXiv 2003.02218 -----------------------------


def product(u: float, v: float, target: float, eta: float, steps: int) -> Played:
    """Train f = u v on (f - target)^2 / 2, beside the same iteration in plain numbers."""
    edge = Crossing("edge", 2.0, 1.5, rising=True)
    catapult = Crossing("catapult", 1.8, 2.0, rising=False)
    first, risen, diverged = 0.0, False, []
    began = eta * _largest(u, v, target) >= 2
    a, b = u, v
    for step in range(steps):
        loss = (a * b - target) ** 2 / 2
        first = first if step else loss
        risen = risen or loss >= 2 * first
        at = eta * _largest(a, b, target)
        edge.add(step, at)
        if began and (at >= 2 or risen):
            catapult.add(step, at)
        if loss >= 1e6 * first:
            diverged = [Event("DIVERGED", float(step))]
            break
        a, b = a - eta * (a * b - target) * b, b - eta * (a * b - target) * a
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64, device="cpu")
    y = torch.full((2,), target, dtype=torch.float64, device="cpu")
    net = Net(x[:1] * v, torch.full((1, 1), u, dtype=torch.float64, device="cpu"))
    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=eta / 2),
        nn.MSELoss(),
        repeated(x, y),
        steps=steps,
        geometry=any_geometry(2),
        probes=[LOSS, SharpnessProbe(x, y)],
    )
    return Played(rows, edge.events + catapult.events + diverged, steps, seconds)


def _largest(u: float, v: float, target: float) -> float:
    """Return the larger eigenvalue of the Hessian [[v^2, 2 u v - y], [2 u v - y, u^2]]."""
    mean, half, cross = (u * u + v * v) / 2, (u * u - v * v) / 2, 2 * u * v - target
    return mean + math.hypot(half, cross)


def _thrown(low: float, high: float, seed: int) -> Played:
    a, b = _uniform(seed, 2)
    v = 0.05 + 0.2 * b
    u = math.sqrt(4.0 - v * v)
    return product(u, v, 0.0, (low + (high - low) * a) / 4.0, 100)


def _sharpened(seed: int) -> Played:
    a, b = _uniform(seed, 2)
    return product(0.01 + 0.05 * b, 0.02, 1.0, 1.01 + 0.01 * a, 200)


# --- grokking: linear regression, after Levi, Beck and Bar-Sinai, arXiv 2310.16441 ---------------


def late_regression(slow: float, distance: float, *, eta: float, steps: int) -> Played:
    """Train w . x where the training inputs hardly show a direction that the held-out inputs show.

    With the training covariance diag(1, slow), the held-out one the identity, and w - w* = (1, distance) at the start,
    the two losses are (1 - eta)^2t + slow distance^2 (1 - eta slow)^2t and the same without the factor slow.
    """
    variances = torch.tensor([1.0, slow], dtype=torch.float64, device="cpu")
    teacher = -torch.tensor([1.0, distance], dtype=torch.float64, device="cpu")
    corners = torch.tensor(
        [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64, device="cpu"
    ).repeat(16, 1)
    x = corners * variances.sqrt()
    train, held_out = (x, x @ teacher), (corners, corners @ teacher)
    train_share = Crossing("memorised", 0.1, 0.2, rising=False)
    test_share = Crossing("generalised", 0.2, 0.5, rising=False)
    for step in range(steps):
        fast, late = (1 - eta) ** (2 * step), distance**2 * (1 - eta * slow) ** (2 * step)
        # a constant fitted to 64 samples does better on them by 64 / 63
        at_start = 64 / 63 * (1 + slow * distance**2), 64 / 63 * (1 + distance**2)
        train_share.add(step, (fast + slow * late) / at_start[0])
        test_share.add(step, (fast + late) / at_start[1])
    net = Net(
        torch.zeros(1, 2, dtype=torch.float64, device="cpu"),
        torch.ones(1, 1, dtype=torch.float64, device="cpu"),
    )
    net.second.weight.requires_grad_(False)
    rows, seconds = followed(
        net,
        torch.optim.SGD(net.first.parameters(), lr=eta / 2),
        nn.MSELoss(),
        repeated(*train),
        steps=steps,
        geometry=any_geometry(2),
        probes=[LOSS, GeneralisationProbe(train, held_out)],
    )
    return Played(rows, train_share.events + test_share.events, steps, seconds)


def _late(seed: int) -> Played:
    a, b = _uniform(seed, 2)
    return late_regression(0.003 + 0.004 * a, 1.5 + b, eta=0.3, steps=2000)


def _uniform(seed: int, count: int) -> list[float]:
    drawn: Tensor = torch.rand(count, generator=generator(seed), dtype=torch.float64, device="cpu")
    return [float(value) for value in drawn]


EDGE_NAMES = frozenset({"edge", "catapult", "DIVERGED"})
RUNS = (
    KnownRun(
        "linear modes apart",
        "two singular values whose half-way times differ by more than a factor of three, from a start of 1e-7 to 1e-5",
        frozenset({"drop"}),
        _apart,
    ),
    KnownRun(
        "linear modes close",
        "singular values 4, 2 and 1 from a start of about 0.001, whose drops run into each other",
        frozenset({"drop"}),
        _close,
    ),
    KnownRun(
        "linear mode under noise",
        "one singular value, and targets with noise of 3 to 56 percent of it; half-way by the raw weights at every step",
        frozenset({"drop"}),
        _noisy,
    ),
    KnownRun(
        "f = u v, stable",
        "the step times the sharpness from 0.6 to 1.75 at the start",
        EDGE_NAMES,
        lambda seed: _thrown(0.6, 1.75, seed),
        control=True,
    ),
    KnownRun(
        "f = u v, catapult",
        "the same from 2.2 to 3.6; crossings by the exact two by two Hessian at every step",
        EDGE_NAMES,
        lambda seed: _thrown(2.2, 3.6, seed),
    ),
    KnownRun(
        "f = u v, diverged",
        "the same from 4.4 to 5",
        EDGE_NAMES,
        lambda seed: _thrown(4.4, 5.0, seed),
    ),
    KnownRun(
        "f = u v, sharpened",
        "a small start whose sharpness doubles on its way, to just beyond the edge",
        EDGE_NAMES,
        _sharpened,
    ),
    KnownRun(
        "late regression",
        "a linear regression whose test error falls 100 times later than its training error; closed form",
        frozenset({"memorised", "generalised"}),
        _late,
    ),
)
