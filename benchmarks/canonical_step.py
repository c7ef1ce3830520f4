"""The canonical step, probed, against the loop that people write by hand and against its floor.

    python benchmarks/canonical_step.py [--d 512] [--width 512] [--batch 8192 2048] [--rounds 30]

All in one process, taking turns. `bare` is the loop as one writes it, without probes. `floor` is the
two matrix products alone on the fastest float32 path for any inputs. `plain` and `fused` are phasetrack's
step without probes, by autograd and written out. `probed` is what `phasetrack run` does: every default
probe, history and TensorBoard at every step. Its inputs are signs, which some processors multiply faster
than any others (`digits`): it may take less than the floor.
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

from phasetrack import LogisticLoss, RunSettings, TwoLayerNet, attach
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.training.matmul import AUTO, DEFAULT, Matmul, chosen_matmul
from phasetrack.training.placement import resolve_settings, with_micro_batch
from phasetrack.training.step import stepper

CPU = torch.device("cpu")
ETA = 1e-6  # the network stays where it starts, so that every round does the same work
BLOCK = 128  # steps in a turn: a whole number of the tracker's blocks, or nearly


def bare(d: int, width: int, batch: int, device: torch.device = CPU) -> Callable[[], None]:
    """The loop as people write it."""
    first, second = nn.Linear(d, width, bias=False), nn.Linear(width, 1, bias=False)
    net = nn.Sequential(first, nn.ReLU(), second).to(device)
    with torch.no_grad():
        first.weight.copy_(TwoLayerNet(d, width).first.weight)
        second.weight.copy_(TwoLayerNet(d, width).second.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=ETA * width)

    def step() -> None:
        x = torch.randint(0, 2, (batch, d), device=device).float() * 2 - 1
        y = -x[:, 0] * x[:, 1]
        f = net(x).squeeze(-1) / width
        loss = 2 * nn.functional.softplus(-y * f).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def floor(d: int, width: int, batch: int, matmul: Matmul) -> Callable[[], None]:
    """Forward W x and the gradient's product, nothing else, in place."""
    x = torch.randint(0, 2, (batch, d)).float() * 2 - 1
    W, sent = TwoLayerNet(d, width).first.weight.detach(), torch.randn(batch, width)
    active, gradient = torch.empty(batch, width), torch.empty(width, d)

    def step() -> None:
        with matmul.used():
            torch.mm(x, W.T, out=active)
            torch.mm(sent.T, x, out=gradient)

    return step


def canonical(
    settings: RunSettings,
    kind: type[TwoLayerNet],
    matmul: Matmul,
    until: ExitStack,
    logdir: Path | None = None,
    device: torch.device = CPU,
    taken: Callable[..., Callable[[int], object]] = stepper,
) -> Callable[[], object]:
    """phasetrack's own step; with probes, until the stack is left, where there is a directory."""
    task, loss = XOR(settings.d), LogisticLoss()
    net = kind(settings.d, settings.width).to(device)
    if isinstance(net, FusedTwoLayerNet):
        net.passes = matmul.passes
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.eta * settings.width)
    if logdir is not None:
        tracker = attach(
            net,
            optimizer,
            loss=loss,
            geometry=task.geometry,
            logdir=logdir,
            every=settings.every,
        )
        until.enter_context(tracker)
    take_step = taken(settings, task, net, optimizer, loss, device=device, matmul=matmul)
    steps = iter(range(2**62))
    return lambda: take_step(next(steps))


def measure(d: int, width: int, batch: int, rounds: int, logdir: Path) -> list[Row]:
    given = RunSettings(d=d, width=width, batch=batch, eta=ETA)
    settings, matmul = resolve_settings(given, CPU)
    floats = with_micro_batch(given, CPU)
    anything = chosen_matmul(AUTO, floats.piece, width, d)  # for inputs that are no signs, too
    paths = dict.fromkeys(("floor", "plain"), anything.path)
    paths |= dict.fromkeys(("fused", "probed"), matmul.path) | {"bare": DEFAULT}
    with ExitStack() as until:
        cases = {
            "bare": bare(d, width, batch),
            "floor": floor(d, width, batch, anything),
            "plain": canonical(floats, TwoLayerNet, anything, until),
            "fused": canonical(settings, FusedTwoLayerNet, matmul, until),
            "probed": canonical(settings, FusedTwoLayerNet, matmul, until, logdir),
        }
        large = d * width * batch > 2**28  # of which the tracker measures fewer at once
        calls = dict.fromkeys(cases, 1 if large else BLOCK)
        calls["probed"] = BLOCK // 2 if large else BLOCK
        seconds = take_turns(cases, rounds=rounds, calls=calls)
    return [
        {
            "d": d,
            "p": width,
            "m": batch,
            "case": name,
            "ms": milliseconds(times),
            "of bare": ratio(times, seconds["bare"]),
            "of floor": ratio(times, seconds["floor"]),
            "matmul": paths[name],
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, nargs="+", default=[8192, 2048])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/canonical_step.json"))
    given = parser.parse_args()
    rows: list[Row] = []
    for batch in given.batch:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(given.d, given.width, batch, given.rounds, Path(folder))
    publish(rows, given.json, rounds=given.rounds)


if __name__ == "__main__":
    main()
