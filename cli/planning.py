"""`phasetrack plan`: what a run would take, before it is begun."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from phasetrack.theory.settings import RunSettings

from . import options as opt
from .output import console
from .tables import open_table

if TYPE_CHECKING:
    from phasetrack.training.cost_estimate import Plan

A100 = "data sheet of NVIDIA's A100 SXM 80 GB"
UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


@opt.settings_options(*opt.PLAN)
def plan(
    *,
    task: Annotated[
        str,
        typer.Argument(
            help="The distribution to learn, as for `phasetrack run`.", metavar="[TASK]"
        ),
    ] = "xor",
    options: dict[str, Any],
    gpus: Annotated[
        int, typer.Option(help="GPUs in the last column, at least 1 (8: one server).")
    ] = 8,
    gpu_tflops: Annotated[
        float, typer.Option(help=f"Peak float32 rate of a GPU, 10^12 FLOP/s (19.5: {A100}).")
    ] = 19.5,
    gpu_share: Annotated[
        float,
        typer.Option(
            help="Share of that rate that matrix products reach, 0 to 1 (0.6: a careful guess)."
        ),
    ] = 0.6,
    gpu_bandwidth: Annotated[
        float, typer.Option(help=f"Bandwidth of a GPU's memory, GB/s (2039: {A100}).")
    ] = 2039.0,
    gpu_memory: Annotated[float, typer.Option(help=f"Memory of a GPU, GB (80: {A100}).")] = 80.0,
    gpu_link: Annotated[
        float, typer.Option(help=f"Rate between two GPUs, GB/s in one direction (300: {A100}).")
    ] = 300.0,
    as_json: opt.Json = False,
) -> None:
    """Predict boundaries, samples, memory, FLOPs and time of a run, on a core and on GPUs.

    Trains nothing: the command forecasts the steps, measures this machine's pace in about a second, and
    computes that of GPUs from the figures given.
    """
    settings = RunSettings(task=task, **options)
    from phasetrack.training.cost_estimate import Gpu
    from phasetrack.training.cost_estimate import plan as planned

    gpu = Gpu(gpu_tflops, gpu_share, gpu_bandwidth, gpu_memory, gpu_link, gpus)
    made = planned(settings, gpu=gpu)
    if as_json:
        typer.echo(json.dumps(made.as_json(), indent=2))
        return
    content = Group(_boundaries(made), Text(), _cost(made), Text(), _time(made), *_notes(made))
    title = Text(
        f"plan of {task}, d = {settings.d}, width {settings.width}, m = {settings.batch_size}"
    )
    screen = console()
    screen.print(
        Panel(content, title=title, width=min(78, screen.width))
        if screen.is_terminal
        else Group(title, content),
        highlight=False,
    )


def duration(seconds: float) -> str:
    """Seconds for people, in the largest unit of which there are two.

    >>> duration(90.0), duration(7200.0), duration(0.5)
    ('90 s', '2 h', '0.5 s')
    """
    if math.isnan(seconds):
        return "-"
    unit, size = next((u for u in UNITS if seconds >= 2 * u[1]), UNITS[-1])
    return f"{_three(seconds / size)} {unit}"


def amount(value: float, unit: str = "") -> str:
    """A large number for people, with an SI prefix.

    >>> amount(1_500_000.0, "B"), amount(12.0)
    ('1.5 MB', '12')
    """
    power = min(int(math.log10(value) // 3), len(PREFIXES) - 1) if value >= 1 else 0
    return f"{_three(value / 1000**power)} {PREFIXES[power]}{unit}".rstrip()


def _three(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _boundaries(plan: Plan) -> Table:
    table = open_table("predicted boundary", "step", "10 to 90 %", "samples")
    names = {
        "signal_heavy_onset": "onset of signal-heaviness",
        "linear_exit": "exit from the linear regime",
        "loss_halving_step": "loss halved",
        "fitted": "loss target met",
    }
    for name, band in plan.forecast.bands().items():
        value, low, high = band["value"], band["low"], band["high"]
        if math.isnan(value):
            table.add_row(names[name], "-", "-", "-")
            continue
        samples = amount(value * plan.settings.batch_size)
        last = "never" if math.isnan(high) else f"{high:.1f}"
        table.add_row(names[name], f"{value:.1f}", f"{low:.1f} to {last}", samples)
    return table


def _cost(plan: Plan) -> Table:
    table = open_table("in all", "")
    micro = plan.micro_batch
    rows = {
        "steps": str(plan.steps),
        "samples": amount(plan.samples),
        "arithmetic": amount(plan.flops, "FLOP"),
        "memory, the whole batch at once": amount(plan.memory(plan.settings.batch_size), "B"),
        f"memory, {micro} samples at once (as run does)": amount(plan.memory(micro), "B"),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _time(plan: Plan) -> Table:
    gpus = plan.gpu.count
    table = open_table("time", "1 core, measured", "1 GPU", f"{gpus} GPUs" if gpus > 1 else "")
    seconds = [plan.core_seconds(), plan.gpu_seconds(1)]
    seconds += [plan.gpu_seconds(gpus)] if gpus > 1 else []
    table.add_row("the run", *map(duration, seconds))
    table.add_row("a step", *(duration(value / plan.steps) for value in seconds))
    return table


def _notes(plan: Plan) -> list[Text]:
    pace, gpu = plan.throughput, plan.gpu
    notes = [
        f"a core here: {amount(pace.flops, 'FLOP/s')} in training, {amount(pace.signs)} "
        "coordinates/s drawn",
        f"a GPU: {gpu.tflops:g} TFLOP/s x {gpu.share:g}, {gpu.bandwidth:g} GB/s; its random bits "
        f"come from a core here, {amount(pace.bits, 'bit/s')}",
    ]
    if plan.forecast.reason:
        notes.insert(0, f"no forecast, the steps are a limit: {plan.forecast.reason}")
    lines = [Text(), *(Text(note, "dim") for note in notes)]
    if not plan.fits_gpu:
        needed = amount(plan.memory(plan.micro_batch), "B")
        lines.append(Text(f"a GPU of {gpu.memory:g} GB is too small: {needed} needed", "bold red"))
    return lines
