"""Features that are collapsed by hand: the first layer holds a feature per sample, and each step draws them together."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from phasetrack.studies.bench.known_run import (
    Crossing,
    KnownRun,
    Net,
    Played,
    any_geometry,
    followed,
    generator,
    normal,
    repeated,
)
from phasetrack.studies.bench.runs.linear import LOSS
from phasetrack.tracking.probes.optional.neural_collapse import NeuralCollapseProbe

CLASSES, PER_CLASS, WIDTH = 4, 15, 8


def collapsed(seed: int, *, decades: float, steps: int = 400) -> Played:
    """Put features at a simplex plus noise that falls by a power of ten per 100 / decades steps.

    The truth takes NC1 to NC4 as their source writes them, with a pseudo-inverse, at every step.

    Args:
        seed: of the noise.
        decades: powers of ten by which the noise falls in 100 steps; 0 leaves it at its start.
        steps: of the run.
    """
    source = generator(seed)
    classes = torch.arange(CLASSES, device="cpu").repeat_interleave(PER_CLASS)
    corners = torch.eye(CLASSES, WIDTH, dtype=torch.float64, device="cpu")
    noise = normal(len(classes), WIDTH, source=source, scale=2.0)
    x = torch.eye(len(classes), dtype=torch.float64, device="cpu")
    net = Net(
        torch.zeros(WIDTH, len(classes), dtype=torch.float64, device="cpu"),
        corners - corners.mean(dim=0),
        nn.ReLU(),
    )
    terminal = Crossing("terminal", 0.0, 0.01, rising=False)
    collapse = Crossing("collapsed", 1.0, 2.0, rising=False)

    def look(step: int) -> None:
        size = 10 ** (-decades * step / 100)
        with torch.no_grad():
            net.first.weight.copy_((2 * corners[classes] + size * noise).T)
        features = np.maximum(net.first.weight.detach().numpy().T, 0)
        error, readings = _readings(features, net.second.weight.detach().numpy(), classes.numpy())
        terminal.add(step, error)
        levels = (0.1, 0.1, 0.1, 0.1, 0.01)
        collapse.add(
            step, max(value / level for value, level in zip(readings, levels, strict=True))
        )

    rows, seconds = followed(
        net,
        torch.optim.SGD(net.parameters(), lr=0.0),
        nn.CrossEntropyLoss(),
        repeated(x, classes),
        steps=steps,
        geometry=any_geometry(len(classes), CLASSES),
        probes=[LOSS, NeuralCollapseProbe(x, classes)],
        look=look,
    )
    return Played(rows, terminal.events + collapse.events, steps, seconds)


Table = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _readings(features: Table, A: Table, classes: Table) -> tuple[float, tuple[float, ...]]:
    """Return the training error, and NC1 to NC4."""
    K = len(A)
    means = np.stack([features[classes == c].mean(axis=0) for c in range(K)])
    centred = means - means.mean(axis=0)
    apart = features - means[classes]
    within, between = apart.T @ apart / len(features), centred.T @ centred / K
    lengths = np.linalg.norm(centred, axis=1)
    cosines = (centred @ centred.T / np.outer(lengths, lengths))[np.triu_indices(K, 1)]
    gap = A / np.linalg.norm(A) - centred / np.linalg.norm(centred)
    decided = (features @ A.T).argmax(axis=1)
    nearest = np.linalg.norm(features[:, None] - means, axis=2).argmin(axis=1)
    return float((decided != classes).mean()), (
        float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / K),
        float(lengths.std() / lengths.mean()),
        float(np.abs(cosines + 1 / (K - 1)).mean()),
        float((gap**2).sum()),
        float((decided != nearest).mean()),
    )


NAMES = frozenset({"terminal", "collapsed"})
RUNS = (
    KnownRun(
        "features collapsed by hand",
        "features at a simplex plus noise that falls tenfold in 120 to 200 steps; NC1 to NC4 by their source's formulas",
        NAMES,
        lambda seed: collapsed(seed, decades=0.5 + (seed % 10) / 30),
    ),
    KnownRun(
        "features left apart",
        "the same with noise that stays",
        NAMES,
        lambda seed: collapsed(seed, decades=0.0, steps=100),
        control=True,
    ),
)
