"""What each probe costs: one reading of a recorded state, and that of many states in one block.

    python benchmarks/probes.py [--rounds 30]

Every built-in probe reads snapshots of a real training, taken before the clock starts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from _timing import milliseconds, publish, take_turns

from phasetrack import LogisticLoss, RunSettings, TwoLayerNet, attach
from phasetrack.probes import Measurement, Probe, Snapshot, default_probes
from phasetrack.tasks import XOR

SIZES = [(64, 128, 256), (512, 512, 2048), (512, 512, 8192)]
STATES = 33  # the first has nothing before it


class Keeper(Probe):
    """A probe that keeps what it is shown."""

    name = "keeper"
    needs = frozenset({"batch"})

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []

    def measure(self, snapshot: Snapshot) -> Measurement:
        self.seen.append(snapshot)
        return {}


def snapshots(settings: RunSettings) -> list[Snapshot]:
    """Snapshots of the first steps of a run."""
    task, loss, keeper = XOR(settings.d), LogisticLoss(), Keeper()
    net = TwoLayerNet(settings.d, settings.width)
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.eta * settings.width)
    with attach(net, optimizer, loss=loss, geometry=task.geometry, probes=[keeper], block=1):
        for step in range(STATES):
            x, y = task.sample(settings.batch_size, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    return keeper.seen


def fresh(snapshot: Snapshot, before: Snapshot, first: Snapshot) -> Snapshot:
    """A copy without what was already computed of it, linked to the states before."""
    return replace(snapshot, before=before, first=first)


def measure(d: int, width: int, batch: int, rounds: int) -> list[dict[str, object]]:
    first, *states = snapshots(RunSettings(d=d, width=width, batch=batch))
    first, stack = replace(first, before=None), Snapshot.stack(states)
    cases = {}
    for probe in default_probes():
        cases[probe.name] = lambda probe=probe: probe.measure(
            fresh(states[-1], replace(states[-2], before=None), first)
        )
        cases[f"{probe.name}, stack"] = lambda probe=probe: probe.measure(
            fresh(stack, first, first)
        )
    seconds = take_turns(cases, rounds=rounds)
    rows = [
        {
            "d": d,
            "p": width,
            "m": batch,
            "probe": probe.name,
            "ms alone": milliseconds(seconds[probe.name]),
            "ms in a stack": milliseconds(seconds[f"{probe.name}, stack"]) / len(states),
        }
        for probe in default_probes()
    ]
    total = {
        name: sum(float(str(row[name])) for row in rows) for name in ("ms alone", "ms in a stack")
    }
    return [*rows, {**rows[0], "probe": "all", **total}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/probes.json"))
    asked = parser.parse_args()
    rows = [row for size in SIZES for row in measure(*size, asked.rounds)]
    publish(rows, asked.json, rounds=asked.rounds, stack=STATES - 1)


if __name__ == "__main__":
    main()
