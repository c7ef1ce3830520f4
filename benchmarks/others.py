"""A probed run beside what people use: W&B's watch, TensorBoard's histograms, Cockpit.

    python benchmarks/others.py [--d 64 512 4096] [--rounds 10]

m = 4 d, p = 512. Each tool takes turns with the loop as one writes it, in a process of their own: some tools
bring threads that slow down everything beside them. A tool looks at every step of such a loop; `phasetrack` is
its own step with every default probe, history and TensorBoard at every step. A tool that is not installed, or
fails, is named and left out; RESULTS.md says how to install Cockpit.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import torch
from _timing import milliseconds, publish, ratio, take_turns
from canonical_step import BLOCK, CPU, ETA, bare, canonical
from torch import Tensor, nn

from phasetrack import RunSettings
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.training.placement import resolve_settings

WIDTH = 512
Step = Callable[[], object]


class Loop:
    """The loop of `canonical_step.bare`, with something called at every step."""

    def __init__(self, d: int, batch: int) -> None:
        self.net = nn.Sequential(
            nn.Linear(d, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False)
        )
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=ETA)
        self.shape, self.number = (batch, d), 0

    def loss(self) -> Tensor:
        x = torch.randint(0, 2, self.shape).float() * 2 - 1
        y = -x[:, 0] * x[:, 1]
        return 2 * nn.functional.softplus(-y * self.net(x).squeeze(-1) / WIDTH).mean()

    def step(self, look: Callable[[Tensor], object]) -> None:
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        look(loss)
        self.optimizer.step()
        self.number += 1


def wandb_watch(d: int, batch: int, folder: Path, stack: ExitStack) -> Step:
    os.environ |= {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "WANDB_CONSOLE": "off"}
    import wandb

    loop = Loop(d, batch)
    run = wandb.init(project="benchmark", dir=folder, mode="offline")
    stack.callback(run.finish)
    run.watch(loop.net, log="all", log_freq=1)
    return lambda: loop.step(lambda loss: run.log({"loss": loss.item()}))


def tensorboard_histograms(d: int, batch: int, folder: Path, stack: ExitStack) -> Step:
    from torch.utils.tensorboard import SummaryWriter

    loop = Loop(d, batch)
    writer = SummaryWriter(folder / "histograms")
    stack.callback(writer.close)

    def look(loss: Tensor) -> None:
        writer.add_scalar("loss", loss.item(), loop.number)
        for name, weight in loop.net.named_parameters():
            writer.add_histogram(name, weight, loop.number)
            writer.add_histogram(f"{name}.grad", weight.grad, loop.number)

    return lambda: loop.step(look)


def cockpit_economy(d: int, batch: int, _: Path, __: ExitStack) -> Step:
    import backpack
    from cockpit import Cockpit
    from cockpit.utils.configuration import configuration

    loop = Loop(d, batch)
    # Cockpit takes the loss as a module on the network's own outputs
    net, lossfunc = backpack.extend(loop.net), backpack.extend(nn.MSELoss())
    each = backpack.extend(nn.MSELoss(reduction="none"))
    cockpit = Cockpit(net.parameters(), quantities=configuration("economy"))

    def step() -> None:
        x = torch.randint(0, 2, loop.shape).float() * 2 - 1
        y = (-x[:, 0] * x[:, 1]).unsqueeze(1)
        loop.optimizer.zero_grad()
        outputs = net(x)
        loss = lossfunc(outputs, y)
        info = {
            "batch_size": len(x),
            "individual_losses": each(outputs, y),
            "loss": loss,
            "optimizer": loop.optimizer,
        }
        with cockpit(loop.number, info=info):
            loss.backward(create_graph=cockpit.create_graph(loop.number))
        loop.optimizer.step()
        loop.number += 1

    return step


def own_step(d: int, batch: int, folder: Path, until: ExitStack) -> Step:
    settings, matmul = resolve_settings(RunSettings(d=d, width=WIDTH, batch=batch, eta=ETA), CPU)
    return canonical(settings, FusedTwoLayerNet, matmul, until, folder / "phasetrack")


TOOLS = {
    "phasetrack": own_step,
    "W&B watch": wandb_watch,
    "TensorBoard histograms": tensorboard_histograms,
    "Cockpit economy": cockpit_economy,
}
# Cockpit keeps a gradient for each sample; above so many bytes of them it is not tried.
COCKPIT_BYTES = 2**32


def measure(tool: str, d: int, rounds: int) -> dict[str, object] | str:
    """A row of the table, or why there is none."""
    warnings.simplefilter("ignore")  # the tools' own
    batch = 4 * d
    if tool.startswith("Cockpit") and 4 * batch * d * WIDTH > COCKPIT_BYTES:
        return "its gradients of single samples would not fit"
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        try:
            step = TOOLS[tool](d, batch, Path(name), stack)
            step()
        except Exception as error:
            return repr(error)[:200]
        small = d * WIDTH * batch <= 2**28
        calls = dict.fromkeys(("bare", tool), 4 if small else 1)
        if tool == "phasetrack":  # whole blocks of the tracker
            calls[tool] = BLOCK if small else 4
        cases = {"bare": bare(d, WIDTH, batch), tool: step}
        seconds = take_turns(cases, rounds=rounds, calls=calls, warm_up=1)
    return {
        "d": d,
        "m": batch,
        "tool": tool,
        "ms": milliseconds(seconds[tool]),
        "bare ms": milliseconds(seconds["bare"]),
        "of bare": ratio(seconds[tool], seconds["bare"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--d", type=int, nargs="+", default=[64, 256, 512, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/others.json"))
    asked = parser.parse_args()
    rows, missing = [], {}
    apart = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with apart:
        for d in asked.d:
            # seconds a step there: as many rounds would take an hour
            rounds = asked.rounds if d < 2048 else max(3, asked.rounds // 3)
            for tool in TOOLS:
                row = apart.submit(measure, tool, d, rounds).result()
                if isinstance(row, str):
                    missing[f"{tool}, d = {d}"] = row
                else:
                    rows.append(row)
    publish(rows, asked.json, rounds=asked.rounds, width=WIDTH, missing=missing)
    for tool, why in missing.items():
        print(f"left out: {tool}: {why}")


if __name__ == "__main__":
    main()
