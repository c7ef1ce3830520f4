"""What a run says at its end, as one panel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from phasetrack.phases import Phase
from phasetrack.sinks.console import PHASE_STYLES, number

TIMELINE_WIDTH = 60
# Boundary (or reading) for people, its name in `boundaries`, its name in `forecast`.
STEPS = (
    ("onset of signal-heaviness", "signal_heavy", "signal_heavy_onset"),
    ("exit from the linear regime", "linear_exit", "linear_exit"),
    ("loss halved", "loss_halving_step", "loss_halving_step"),
    ("loss target met", "fitted", "fitted"),
)


def print_summary(console: Console, summary: Mapping[str, Any], title: str) -> None:
    """The panel of one run or forecast: timeline, boundaries beside the forecast, alerts.

    Args:
        console: where to print.
        summary: what ``summary.json`` holds.
        title: the run's name.
    """
    parts: list[RenderableType] = [_phase(summary)]
    if summary.get("timeline"):
        parts.append(_timeline(summary["timeline"], min(TIMELINE_WIDTH, console.width - 8)))
    parts += [Text(), _steps(summary)]
    if summary.get("growth"):
        parts += [Text(), _growth(summary["growth"])]
    for alert in summary.get("alerts", ()):
        numbers = ", ".join(f"{name} {number(v)}" for name, v in alert["evidence"].items())
        parts.append(
            Text(f"{alert['name']} at step {alert['step']}: ", "bold red").append(numbers, "red")
        )
    if "directory" in summary:
        parts += [Text(), Text(summary["directory"], "dim", overflow="fold")]
    width = min(78, console.width)
    console.print(Panel(Group(*parts), title=Text(title), width=width), highlight=False)


def _phase(summary: Mapping[str, Any]) -> Text:
    name = str(summary.get("phase"))
    line = Text(f" {name} ", PHASE_STYLES[Phase[name]])
    if summary.get("steps"):
        line.append(f"  {summary['steps']} steps")
    if "seconds" in summary:
        line.append(f" in {summary['seconds']:.1f} s")
    if summary.get("stopped") == "interrupted":
        line.append(", interrupted", "bold red")
    if summary.get("reason"):
        line.append(f"\n{summary['reason']}", "dim")
    return line


def _timeline(stretches: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """A bar with one coloured stretch a label, and their steps under it."""
    last = stretches[-1]["end"] + 1
    bar, legend = Text(), Text()
    drawn = 0
    for stretch, following in zip(stretches, [*stretches[1:], {"start": last}], strict=True):
        phase = Phase[stretch["phase"]]
        edge = max(drawn + 1, round(width * following["start"] / last))
        bar.append(" " * (edge - drawn), PHASE_STYLES[phase])
        drawn = edge
        span = f"{stretch['start']}-{stretch['end']}"
        legend.append(" ", PHASE_STYLES[phase]).append(f" {phase.name} {span}  ", "dim")
    return Group(Text(), bar, legend)


def _steps(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("boundary")
    measured = {b["name"]: (b["onset"], b["detected"]) for b in summary.get("boundaries", ())}
    if "loss_halving_step" in summary:
        measured["loss_halving_step"] = (summary["loss_halving_step"], None)
    forecast = summary.get("forecast", {})
    for header in ("step", "detected", "forecast", "band"):
        table.add_column(header, justify="right")
    for label, name, predicted in STEPS:
        onset, detected = measured.get(name, (math.nan, None))
        band = forecast.get(predicted, {"value": math.nan, "low": math.nan, "high": math.nan})
        table.add_row(
            label,
            _step(onset),
            "" if detected is None else str(detected),
            _step(band["value"]),
            f"{_step(band['low'])} to {_step(band['high'])}",
        )
    return table


def _growth(rates: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("signal growth per unit time")
    for header in ("measured", "predicted"):
        table.add_column(header, justify="right")
    for phase, pair in rates.items():
        table.add_row(phase.upper(), f"{pair['measured']:.3f}", f"{pair['predicted']:.3f}")
    return table


def _step(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
