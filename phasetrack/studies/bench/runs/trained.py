"""Runs whose truth is read off the raw weights at every step, and controls in which nothing can be found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from phasetrack.measures.heaviness import certificate
from phasetrack.model.losses import LogisticLoss
from phasetrack.studies.bench.known_run import (
    Crossing,
    KnownRun,
    Net,
    Played,
    any_geometry,
    followed,
    generator,
    normal,
)
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.probes.optional.generalisation import GeneralisationProbe
from phasetrack.tracking.probes.optional.overlap import OverlapProbe
from phasetrack.tracking.probes.optional.plateau import PlateauProbe
from phasetrack.tracking.probes.optional.sharpness import SharpnessProbe

Sample = tuple[Tensor, Tensor]
DIM = 64


def probes(directions: Tensor, train: Sample, held_out: Sample) -> list[Probe]:
    """Return every probe that a vocabulary of this package reads."""
    return [
        *default_probes(),
        OverlapProbe(directions),
        PlateauProbe(),
        SharpnessProbe(*train, per_decade=5),
        GeneralisationProbe(train, held_out),
    ]


# --- planted directions: Ben Arous, Gheissari and Jagannath, arXiv 2003.10409 --------------------


def planted(index: int, seed: int, *, steps: int) -> Played:
    """Teach (u . x)^2 - 1, or (u . x)(v . x), of Gaussian inputs online to a ReLU network."""
    source = generator(seed)
    directions = torch.linalg.qr(normal(DIM, index, source=source))[0].T
    net = Net(
        normal(64, DIM, source=source, scale=0.3 / math.sqrt(DIM)),
        normal(1, 64, source=source, scale=0.3 / 8),
        nn.ReLU(),
    )

    def drawn(count: int) -> Sample:
        x = normal(count, DIM, source=source)
        along = x @ directions.T
        return x, along[:, 0].square() - 1 if index == 1 else along[:, 0] * along[:, 1]

    weak = Crossing("weak_recovery", 0.6, 0.45, rising=True)
    strong = Crossing("strong_recovery", 0.9, 0.8, rising=True)

    def look(step: int) -> None:
        W = net.first.weight.detach().numpy()
        leading = np.linalg.svd(W, full_matrices=False)[2][:index]
        overlap = float(np.linalg.norm(leading @ directions.numpy().T, axis=0).min())
        weak.add(step, overlap)
        strong.add(step, overlap)

    train, held_out = drawn(256), drawn(256)
    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=0.05),
        nn.MSELoss(),
        _endless(lambda: drawn(128)),
        steps=steps,
        geometry=any_geometry(DIM),
        probes=probes(directions, train, held_out),
        look=look,
    )
    return Played(rows, weak.events + strong.events, steps, seconds)


# --- XOR: the paper's phases ----------------------------------------------------------------------


def xor(seed: int, *, scale: float, steps: int) -> Played:
    """Train on XOR from a start of the default size times scale; zeta* of the raw weights at every step."""
    task, source = XOR(d=DIM), generator(seed)
    W = normal(DIM, DIM, source=source, scale=scale / math.sqrt(DIM))
    a = scale * torch.randint(0, 2, (1, DIM), generator=source, device="cpu").double().mul(2).sub(1)
    net = Net(W, a, nn.ReLU(), scale=1 / DIM)
    heavy = Crossing("signal_heavy", 0.8, 1.0, rising=False)

    def look(step: int) -> None:
        zeta = certificate(net.first.weight.detach(), net.second.weight.detach()[0], task.geometry)
        heavy.add(step, min(float(zeta), 1e6))

    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=0.2 * DIM),
        LogisticLoss(),
        (_double(task.sample(512, seed=seed, step=step)) for step in range(steps)),
        steps=steps,
        geometry=task.geometry,
        probes=None,
        look=look,
    )
    return Played(rows, heavy.events, steps, seconds)


# --- lazy to rich: the scale of the output, Chizat, Oyallon and Bach, arXiv 1812.07956 -------------


def scaled(seed: int, alpha: float, *, steps: int) -> Played:
    """Train alpha f with f = 0 at the start, and steps of 1 / alpha^2, on 64 samples of XOR."""
    task, source = XOR(d=16), generator(seed)
    W, a = normal(32, 16, source=source, scale=0.2), normal(1, 32, source=source, scale=0.1)
    net = Net(torch.cat([W, W]), torch.cat([a, -a], dim=1), nn.ReLU(), scale=alpha)
    x, y = _double(task.sample(64, seed=seed, step=0))
    rich = Crossing("rich", 0.3, 0.1, rising=True)
    start: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []

    def look(step: int) -> None:
        first, second = (p.detach().numpy() for p in net.parameters())
        pre = x.numpy() @ first.T
        gains, on = np.maximum(pre, 0), (pre > 0).astype(float)
        kernel = gains @ gains.T + (on * second**2) @ on.T * (x.numpy() @ x.numpy().T)
        start[:] = start or [kernel]
        rich.add(step, float(np.linalg.norm(kernel - start[0]) / np.linalg.norm(start[0])))

    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1 / alpha**2),
        nn.MSELoss(),
        _endless(lambda: (x, y)),
        steps=steps,
        geometry=task.geometry,
        probes=None,
        look=look,
    )
    return Played(rows, rich.events, steps, seconds)


# --- controls --------------------------------------------------------------------------------------


def control(kind: str, seed: int, *, steps: int = 600) -> Played:
    """Train on XOR of which one thing is taken away: its labels, its first layer, all signal, or all but one batch."""
    task, source = XOR(d=DIM), generator(seed)
    net = Net(
        normal(DIM, DIM, source=source, scale=0.5 / math.sqrt(DIM)),
        normal(1, DIM, source=source, scale=0.5),
        nn.ReLU(),
        scale=1 / DIM,
    )
    if kind == "frozen":
        net.first.weight.requires_grad_(False)

    def coins(count: int) -> Tensor:
        return torch.randint(0, 2, (count,), generator=source, device="cpu").double() * 2 - 1

    x, y = _double(task.sample(256, seed=seed, step=10**6))
    train = {"labels": (x, coins(256)), "batch": (x[:16], y[:16])}.get(kind, (x, y))
    held_out = _double(task.sample(512, seed=seed, step=10**6 + 1))
    count = iter(range(steps))

    def batch() -> Sample:
        if kind == "noise":
            return normal(256, DIM, source=source), coins(256)
        if kind == "frozen":
            return _double(task.sample(256, seed=seed, step=next(count)))
        return train

    trained = [p for p in net.parameters() if p.requires_grad]
    rows, seconds = followed(
        net,
        torch.optim.SGD(trained, lr=0.2 * DIM),
        LogisticLoss(),
        _endless(batch),
        steps=steps,
        geometry=task.geometry,
        probes=probes(task.geometry.basis.T, train, held_out),
    )
    return Played(rows, [], steps, seconds)


def _endless(draw: Callable[[], Sample]) -> Iterator[Sample]:
    while True:
        yield draw()


def _double(sample: Sample) -> Sample:
    return sample[0].double(), sample[1].double()


FOUND = frozenset({"weak_recovery", "strong_recovery", "generalised", "signal_heavy"})
RUNS = (
    KnownRun(
        "single index",
        "(u . x)^2 - 1 taught online; overlaps from singular values of the raw weights at every step",
        frozenset({"weak_recovery", "strong_recovery"}),
        lambda seed: planted(1, seed, steps=1500),
    ),
    KnownRun(
        "two indices",
        "(u . x)(v . x) taught online; the same truth",
        frozenset({"weak_recovery", "strong_recovery"}),
        lambda seed: planted(2, seed, steps=2500),
    ),
    KnownRun(
        "XOR, healthy",
        "the canonical task at d = 64 from a small start; zeta* of the raw weights at every step",
        frozenset({"signal_heavy"}),
        lambda seed: xor(seed, scale=0.3, steps=300),
    ),
    KnownRun(
        "XOR, large start",
        "the same from a start thirty times as large",
        frozenset({"signal_heavy"}),
        lambda seed: xor(seed, scale=10.0, steps=300),
    ),
    KnownRun(
        "rich scale",
        "outputs times 1; drift of the tangent kernel from the raw weights at every step",
        frozenset({"rich"}),
        lambda seed: scaled(seed, 1.0, steps=600),
    ),
    KnownRun(
        "lazy scale",
        "outputs times 100 and steps of 1 / 100^2: lazy by construction",
        frozenset({"rich"}),
        lambda seed: scaled(seed, 100.0, steps=600),
        control=True,
    ),
    KnownRun(
        "random labels",
        "256 samples with coin flips for labels",
        FOUND,
        lambda seed: control("labels", seed),
        control=True,
    ),
    KnownRun(
        "frozen layer",
        "XOR with a first layer that is not trained",
        FOUND,
        lambda seed: control("frozen", seed),
        control=True,
    ),
    KnownRun(
        "pure noise",
        "fresh Gaussian inputs and coin flips at every step",
        FOUND | {"memorised", "drop", "edge", "catapult", "DIVERGED"},
        lambda seed: control("noise", seed),
        control=True,
    ),
    KnownRun(
        "one batch",
        "the same 16 samples of XOR in 64 dimensions at every step",
        FOUND,
        lambda seed: control("batch", seed),
        control=True,
    ),
)
