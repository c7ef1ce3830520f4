"""What attach() adds to a user's own loop, all default probes, at every step, every 16 and every 256.

    python benchmarks/attach.py [--sizes 64,128,256 512,512,8192] [--rounds 30]

All in one process, taking turns: the same `nn.Sequential` and loop without a tracker, with one, and with
one that writes history and TensorBoard (`files`). Data are drawn as users draw them, by torch.randint.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from _timing import Row, milliseconds, publish, ratio, take_turns
from torch import nn

from phasetrack import attach
from phasetrack.tasks import XOR

EVERY = (1, 16, 256)
# Steps in a turn: whole blocks of the tracker. Where steps are quick a turn is longer than the tracker lets
# snapshots wait (`tracker.LATEST`), so that most blocks are as full as in a training of its own.
QUICK, SLOW = 2048, 16
QUICK_WORK = 2**24  # multiplications in one product


def loop(
    d: int,
    width: int,
    batch: int,
    every: int | None,
    logdir: Path | None,
    until: ExitStack,
) -> Callable[[], None]:
    """One step of a user's loop; `every` None leaves it alone. Tracked until the stack is left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)  # stays where it starts
    criterion = nn.BCEWithLogitsLoss()
    if every is not None:
        geometry = XOR(d).geometry
        options = {"loss": criterion, "geometry": geometry, "every": every, "logdir": logdir}
        until.enter_context(attach(net, optimizer, **options))

    def step() -> None:
        x = torch.randint(0, 2, (batch, d)).float() * 2 - 1
        y = (x[:, 0] * x[:, 1] < 0).float()
        optimizer.zero_grad()
        criterion(net(x).squeeze(-1), y).backward()
        optimizer.step()

    return step


def measure(d: int, width: int, batch: int, rounds: int, folder: Path) -> list[Row]:
    with ExitStack() as until:
        cases = {"bare": loop(d, width, batch, None, None, until)}
        calls = QUICK if d * width * batch <= QUICK_WORK else SLOW
        for every in EVERY:
            if every > calls:  # too few steps a turn to record one
                continue
            logdir = folder / str(every)
            cases[f"every {every}"] = loop(d, width, batch, every, None, until)
            cases[f"every {every}, files"] = loop(d, width, batch, every, logdir, until)
        seconds = take_turns(cases, rounds=rounds, calls=calls)
    return [
        {
            "d": d,
            "p": width,
            "m": batch,
            "case": name,
            "ms": milliseconds(times),
            "of bare": ratio(times, seconds["bare"]),
        }
        for name, times in seconds.items()
    ]


def size(text: str) -> tuple[int, int, int]:
    d, width, batch = map(int, text.split(","))
    return d, width, batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = [(64, 128, 256), (512, 512, 8192)]
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="d,p,m")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/attach.json"))
    given = parser.parse_args()
    rows: list[Row] = []
    for d, width, batch in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(d, width, batch, given.rounds, Path(folder))
    publish(rows, given.json, rounds=given.rounds)


if __name__ == "__main__":
    main()
