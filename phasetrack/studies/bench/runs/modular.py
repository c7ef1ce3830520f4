"""Addition of residues by a two-layer network, which groks: Gromov, arXiv 2301.02679."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
from phasetrack.tasks import ModularAddition
from phasetrack.tracking.probes.optional.fourier import FourierProbe
from phasetrack.tracking.probes.optional.generalisation import GeneralisationProbe

MODULUS = 23


def modular(seed: int, *, steps: int, shuffled: bool = False) -> Played:
    """Train on a share of the pairs with weight decay; errors of the raw weights at every step."""
    task, source = ModularAddition(MODULUS, share=0.7, seed=seed), generator(seed)
    (x, y), (x_test, y_test) = task.train, task.held_out
    if shuffled:
        y = y[torch.randperm(len(y), generator=source, device="cpu")]
    x, x_test, inputs = x.double(), x_test.double(), 2 * MODULUS
    net = Net(
        normal(128, inputs, source=source, scale=inputs**-0.5),
        normal(MODULUS, 128, source=source, scale=128**-0.5),
        nn.ReLU(),
    )
    memorised = Crossing("memorised", 0.1, 0.2, rising=False)
    generalised = Crossing("generalised", 0.2, 0.5, rising=False)

    def share(inputs: Tensor, classes: Tensor) -> float:
        first, second = net.first.weight, net.second.weight
        found = ((inputs @ first.T).clamp_min(0) @ second.T).argmax(dim=1)
        constant = 1 - float(torch.bincount(classes).max()) / len(classes)
        return float((found != classes).double().mean()) / constant

    def look(step: int) -> None:
        with torch.no_grad():
            memorised.add(step, share(x, y))
            generalised.add(step, share(x_test, y_test))

    rows, seconds = followed(
        net,
        torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=1.0),
        nn.CrossEntropyLoss(),
        repeated(x, y),
        steps=steps,
        geometry=any_geometry(inputs, MODULUS),
        probes=[LOSS, GeneralisationProbe((x, y), (x_test, y_test)), FourierProbe(MODULUS)],
        look=look,
    )
    return Played(rows, memorised.events + generalised.events, steps, seconds)


RUNS = (
    KnownRun(
        "modular addition",
        "sums modulo 23 from 70 percent of the pairs, AdamW; errors of the raw weights at every step",
        frozenset({"memorised", "generalised"}),
        lambda seed: modular(seed, steps=2000),
    ),
    KnownRun(
        "modular addition, shuffled",
        "the same pairs with shuffled classes",
        frozenset({"generalised"}),
        lambda seed: modular(seed, steps=500, shuffled=True),
        control=True,
    ),
)
