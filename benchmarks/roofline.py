"""The canonical step's share of the roofline: the time that its least work takes, of the time it takes.

    python benchmarks/roofline.py [--device cpu|cuda] [--size 512,512,2048 ...] [--rounds 8]

The least work are two matrix products, and reading and writing what they are made of. The roof is the
faster of the device's rates of multiplication, on a large square and on the step's own shapes, and its
bandwidth in a large copy, all measured in turns with the steps. `bare` is the loop as one writes it;
`call by call` is phasetrack's step where a GPU is asked for each operation, in place of the graph that
`unprobed` plays. `probed` is with every default probe, history and TensorBoard. All multiply float32, as
the roof does, also where `phasetrack run` would multiply signs in bytes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _timing import Row, milliseconds, publish, take_turns
from canonical_step import BLOCK, ETA, bare, canonical

from phasetrack import RunSettings
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.training.matmul import AUTO, DEFAULT, Matmul, chosen_matmul
from phasetrack.training.memory import keep_freed
from phasetrack.training.placement import with_micro_batch
from phasetrack.training.step import stepper, take_step

SIZES = ["512,512,2048", "512,512,8192", "64,128,256"]
FLOAT, WORD_BITS = 4, 64
# Rows of the square product and floats of the copy: much more than any cache, by kind of device.
SQUARE, COPIED = {"cpu": 2048, "cuda": 8192}, {"cpu": 2**26, "cuda": 2**28}
SPARSE = 16  # of so many steps one is recorded, in the last case
SMALL = 2**24  # d p m of a step that takes about a millisecond
ROOF = ("square", "copy", "products")

Case = Callable[[], object]
Step = Callable[[int], object]


@dataclass(frozen=True)
class Work:
    """The least that a step of m samples in dimension d with p neurons has to do."""

    d: int
    p: int
    m: int

    @property
    def operations(self) -> int:
        """Floating point operations: a multiplication and an addition in each of two products."""
        return 2 * 2 * self.m * self.p * self.d

    @property
    def bytes(self) -> int:
        """Bytes moved: inputs read by both products, activations and weights written and read.

        W is read by the first product and, with its gradient, moved by the update. Samples arrive packed.
        """
        inputs, activations = 2 * self.m * self.d, 2 * self.m * self.p
        weights = 4 * self.p * self.d  # W and its gradient, each read and written
        packed = self.m * -(-self.d // WORD_BITS) * WORD_BITS // 8
        return FLOAT * (inputs + activations + weights) + packed


@dataclass(frozen=True)
class Roof:
    """What a device does at best: operations and bytes a second."""

    operations: float
    bandwidth: float

    def seconds(self, work: Work) -> float:
        """The least time that some work takes."""
        return max(work.operations / self.operations, work.bytes / self.bandwidth)

    def bound(self, work: Work) -> str:
        """What takes that time."""
        products = work.operations / self.operations >= work.bytes / self.bandwidth
        return "products" if products else "memory"

    def share(self, work: Work, seconds: float) -> float:
        """The least time as a share of the time that was measured."""
        return self.seconds(work) / seconds


def roof(work: Work, seconds: Mapping[str, float], rows: int, floats: int) -> Roof:
    """The roof, from the seconds of `ROOF`.

    Args:
        work: of the products.
        seconds: of the square product, the copy, and the step's products.
        rows: of the square.
        floats: that are copied: each is read and written.
    """
    rates = (2 * rows**3 / seconds["square"], work.operations / seconds["products"])
    return Roof(max(rates), 2 * FLOAT * floats / seconds["copy"])


def roof_cases(work: Work, piece: int, matmul: Matmul, device: torch.device) -> dict[str, Case]:
    """What the roof is measured with."""
    rows = SQUARE[device.type]
    left, right = (torch.randn(rows, rows, device=device) for _ in range(2))
    made, source = torch.empty_like(left), torch.ones(COPIED[device.type], device=device)
    target = torch.empty_like(source)
    x, W = torch.randn(work.m, work.d, device=device), torch.randn(work.p, work.d, device=device)
    active, gradient = torch.empty(work.m, work.p, device=device), torch.empty_like(W)

    def square() -> None:
        with matmul.used():
            torch.mm(left, right, out=made)

    def products() -> None:
        with matmul.used():
            pieces = zip(torch.split(x, piece), torch.split(active, piece), strict=True)
            for part, into in pieces:
                torch.mm(part, W.T, out=into)
                torch.mm(into.T, part, out=gradient)

    return {"square": square, "copy": lambda: target.copy_(source), "products": products}


def measure(work: Work, device: torch.device, rounds: int, folder: Path) -> list[Row]:
    """Rows of one size: the products, and the step without probes and with them."""
    plain = RunSettings(d=work.d, width=work.p, batch=work.m, eta=ETA)
    settings = with_micro_batch(plain, device)
    gpu = device.type == "cuda"
    path = DEFAULT if gpu else AUTO  # the choice is the processor's
    matmul = chosen_matmul(path, settings.piece, work.p, work.d)
    small = gpu or work.d * work.p * work.m <= SMALL
    sparse = replace(settings, every=SPARSE)
    with ExitStack() as until:

        def step(
            how: RunSettings, logdir: Path | None = None, taken: Callable[..., Step] = stepper
        ) -> Case:
            return canonical(how, FusedTwoLayerNet, matmul, until, logdir, device, taken)

        by_call = {"call by call": step(settings, taken=_by_call)} if gpu else {}
        cases: dict[str, Case] = {
            **roof_cases(work, settings.piece, matmul, device),
            "bare": bare(work.d, work.p, work.m, device),
            **by_call,
            "unprobed": step(settings),
            "probed": step(settings, folder / "each"),
            f"probed every {SPARSE}": step(sparse, folder / "sparse"),
        }
        # whole blocks of records, where steps are so short that there are blocks
        most = SPARSE * BLOCK if small else 4 * SPARSE
        calls = {**dict.fromkeys(cases, BLOCK if small else BLOCK // 4), "square": 1, "copy": 4}
        calls["probed"] = BLOCK
        calls[f"probed every {SPARSE}"] = most
        settle = torch.cuda.synchronize if gpu else lambda: None
        seconds = take_turns(cases, rounds=rounds, calls=calls, settle=settle)
    return list(_rows(work, seconds, device, matmul))


def _by_call(*run: Any, **how: Any) -> Step:
    """The step that a graph is made of."""
    return partial(take_step, *run, **how)


def _rows(
    work: Work, seconds: Mapping[str, Sequence[float]], device: torch.device, matmul: Matmul
) -> Iterable[Row]:
    """A row a case; roofs and shares are of each round, and of these the median is shown."""
    rows, floats = SQUARE[device.type], COPIED[device.type]
    turns = [dict(zip(seconds, turn, strict=True)) for turn in zip(*seconds.values(), strict=True)]
    roofs = [roof(work, turn, rows, floats) for turn in turns]
    middle = Roof(
        statistics.median(each.operations for each in roofs),
        statistics.median(each.bandwidth for each in roofs),
    )
    for name in ("products", *(name for name in seconds if name not in ROOF)):
        shares = [r.share(work, turn[name]) for r, turn in zip(roofs, turns, strict=True)]
        yield {
            "device": device.type,
            "d": work.d,
            "p": work.p,
            "m": work.m,
            "case": name,
            "ms": milliseconds(seconds[name]),
            "share": statistics.median(shares),
            "roof ms": 1e3 * middle.seconds(work),
            "bound": middle.bound(work),
            "GFLOP/s": middle.operations / 1e9,
            "GB/s": middle.bandwidth / 1e9,
            "matmul": matmul.path,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=found)
    parser.add_argument("--size", nargs="+", default=SIZES, help="d,p,m")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/roofline.json"))
    given = parser.parse_args()
    keep_freed()  # as `phasetrack run` does
    rows: list[Row] = []
    for size in given.size:
        with tempfile.TemporaryDirectory() as folder:
            work = Work(*map(int, size.split(",")))
            rows += measure(work, torch.device(given.device), given.rounds, Path(folder))
    publish(rows, given.json, rounds=given.rounds)


if __name__ == "__main__":
    main()
