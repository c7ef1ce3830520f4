"""What attach() adds to a user's own loop, all default probes, at every step, every 16 and every 256.

    python benchmarks/attach.py [--sizes 64,128,256 512,512,8192] [--rounds 5] [--processes 3] [--device cpu|cuda]

Taking turns in one process: the same `nn.Sequential` and loop without a tracker, with one, and with one
that writes history and TensorBoard (`files`), or is given no geometry (`nothing declared`). Data are drawn as users draw them, by torch.randint. Turns
are a tenth of a second, or one step: over seconds a shared machine drifts by more than a tracker costs. A round is
many turns, summed, so that what comes once a block is in it. `bare again` is the bare loop once more: how
far it is from 1 is how far the others may be off. Where steps are quick, a process is a fast or a slow one
from its start to its end: several are measured, and the middle and the ends of what they say are shown.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from _timing import Row, milliseconds, publish, ratio, take_turns
from torch import nn

from phasetrack import attach
from phasetrack.tasks import XOR
from phasetrack.tracking import snapshot_queue

CPU = torch.device("cpu")
EVERY = (1, 16, 256)
QUICK_WORK = 2**24  # multiplications in one product


class Pace(NamedTuple):
    """Steps in a turn, and turns in a round: of the tracker's whole blocks, where every 16th is recorded."""

    steps: int
    turns: int


QUICK, SLOW, ON_GPU = Pace(64, 32), Pace(1, 30), Pace(64, 8)


def loop(
    d: int,
    width: int,
    batch: int,
    every: int | None,
    logdir: Path | None,
    until: ExitStack,
    device: torch.device = CPU,
    *,
    declared: bool = True,
) -> Callable[[], None]:
    """One step of a user's loop; `every` None leaves it alone. Tracked until the stack is left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 1)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)  # stays where it starts
    criterion = nn.BCEWithLogitsLoss()
    if every is not None:
        geometry = XOR(d).geometry if declared else None
        tracker = attach(
            net, optimizer, loss=criterion, geometry=geometry, every=every, logdir=logdir
        )
        until.enter_context(tracker)

    def step() -> None:
        x = torch.randint(0, 2, (batch, d), device=device).float() * 2 - 1
        y = (x[:, 0] * x[:, 1] < 0).float()
        optimizer.zero_grad()
        criterion(net(x).squeeze(-1), y).backward()
        optimizer.step()

    return step


def measure(
    d: int, width: int, batch: int, rounds: int, device: torch.device = CPU
) -> dict[str, tuple[float, float]]:
    """Each case's milliseconds a step, and its share of the bare loop's."""
    gpu = device.type == "cuda"
    pace = ON_GPU if gpu else QUICK if d * width * batch <= QUICK_WORK else SLOW
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory()))
        cases = {
            name: loop(d, width, batch, None, None, until, device)
            for name in ("bare", "bare again")
        }
        for every in EVERY:
            if every > pace.steps * pace.turns:  # too few steps a round to record one
                continue
            logdir = folder / str(every)
            cases[f"every {every}"] = loop(d, width, batch, every, None, until, device)
            cases[f"every {every}, files"] = loop(d, width, batch, every, logdir, until, device)
            cases[f"every {every}, nothing declared"] = loop(
                d, width, batch, every, None, until, device, declared=False
            )
        # snapshots wait so many seconds at most, in which a loop by itself takes more steps than one of many
        until.enter_context(
            patch.object(snapshot_queue, "LATEST", snapshot_queue.LATEST * len(cases))
        )
        settle = torch.cuda.synchronize if gpu else lambda: None
        seconds = take_turns(
            cases, rounds=rounds * pace.turns, warm_up=4, calls=pace.steps, settle=settle
        )
    whole = {name: means(times, pace.turns) for name, times in seconds.items()}
    return {n: (milliseconds(s), ratio(s, whole["bare"])) for n, s in whole.items()}


def means(times: Sequence[float], turns: int) -> list[float]:
    """The mean of so many at a time."""
    return [statistics.fmean(times[n : n + turns]) for n in range(0, len(times), turns)]


def rows_of(
    shape: tuple[int, int, int], processes: Sequence[Mapping[str, tuple[float, float]]]
) -> Iterator[Row]:
    """A row for each case, from what the processes measured."""
    for case in processes[0]:
        times, ratios = zip(*(process[case] for process in processes), strict=True)
        yield {
            **dict(zip("dpm", shape, strict=True)),
            "case": case,
            "ms": statistics.median(times),
            "of bare": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
        }


def size(text: str) -> tuple[int, int, int]:
    d, width, batch = map(int, text.split(","))
    return d, width, batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = [(64, 128, 256), (512, 512, 8192)]
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="d,p,m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--processes", type=int, default=3, help="of small sizes; large ones take one"
    )
    parser.add_argument("--device", type=torch.device, default=CPU)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/attach.json"))
    given = parser.parse_args()
    rows: list[Row] = []
    apart = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with apart:
        shape: tuple[int, int, int]
        for shape in given.sizes:
            count = given.processes if math.prod(shape) <= QUICK_WORK else 1
            measured = [
                apart.submit(partial(measure, *shape, given.rounds, given.device))
                for _ in range(count)
            ]
            rows += rows_of(shape, [each.result() for each in measured])
    settings = {"rounds": given.rounds, "processes": given.processes, "device": str(given.device)}
    publish(rows, given.json, **settings)


if __name__ == "__main__":
    main()
