"""What a run says at its end, as one panel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from phasetrack.display.style import PHASE_STYLES, number
from phasetrack.errors import printable
from phasetrack.phases.classifier import Phase

from .tables import open_table

if TYPE_CHECKING:
    from phasetrack.display.run_comparison import Row
    from phasetrack.storage.directory import Run

TIMELINE_WIDTH = 60
# Different marks, so that the timeline can be read without colours.
PHASE_MARKS = {
    Phase.UNDETERMINED: ("\u2591", "bright_black"),
    Phase.SIGNAL_FINDING: ("\u2592", "cyan"),
    Phase.SIGNAL_HEAVY: ("\u2593", "yellow"),
    Phase.FITTED: ("\u2588", "green"),
}
# For terminals whose encoding lacks these.
PLAIN_MARKS = {
    Phase.UNDETERMINED: ".",
    Phase.SIGNAL_FINDING: "-",
    Phase.SIGNAL_HEAVY: "=",
    Phase.FITTED: "#",
}
# Boundary (or reading) for people, its name in `boundaries`, its name in `forecast`.
STEPS = (
    ("onset of signal-heaviness", "signal_heavy", "signal_heavy_onset"),
    ("exit from the linear regime", "linear_exit", "linear_exit"),
    ("loss halved", "loss_halving_step", "loss_halving_step"),
    ("loss target met", "fitted", "fitted"),
)


def print_summary(console: Console, summary: Mapping[str, Any], title: str) -> None:
    """One run or forecast: timeline, boundaries beside the forecast, alerts.

    A panel on a terminal; elsewhere a line for each fact, easy to search.

    Args:
        console: where to print.
        summary: what ``summary.json`` holds.
        title: the run's name.
    """
    parts: list[RenderableType] = [_phase(summary)]
    if summary.get("timeline"):
        width, plain = min(TIMELINE_WIDTH, console.width - 8), console.options.ascii_only
        parts.append(_timeline(summary["timeline"], width, plain=plain))
    parts += [Text(), _steps(summary)]
    if reason := _unforecast(summary):
        parts.append(Text(f"no forecast: {reason}", "dim"))
    if summary.get("growth"):
        parts += [Text(), _growth(summary["growth"])]
    for alert in summary.get("alerts", ()):
        numbers = ", ".join(f"{name} {number(v)}" for name, v in alert["evidence"].items())
        parts.append(
            Text(f"{alert['name']} at step {alert['step']}: ", "bold red").append(numbers, "red")
        )
    if "directory" in summary:
        parts += [Text(), Text(summary["directory"], "dim", overflow="fold")]
    if "matmul" in summary:
        parts.append(Text(_matmul(summary["matmul"]), "dim"))
    if not console.is_terminal:
        _print_lines(console, summary)
        return
    width = min(78, console.width)
    console.print(Panel(Group(*parts), title=Text(title), width=width), highlight=False)


def run_table(runs: Sequence[Run]) -> Table:
    """One row a run: name, phase, steps, boundaries, alerts."""
    table = open_table()
    table.add_column("run", overflow="fold")
    for header in ("phase", "steps", "onset", "linear exit", "fitted"):
        table.add_column(header, justify="left" if header == "phase" else "right")
    table.add_column("alerts", style="red")
    for run in runs:
        summary = run.summary
        onsets = {b["name"]: b["onset"] for b in summary.get("boundaries", ())}
        table.add_row(
            printable(run.path),
            summary.get("phase", "not finished"),
            str(summary.get("steps", "-")),
            *(
                _step(onsets.get(name, math.nan))
                for name in ("signal_heavy", "linear_exit", "fitted")
            ),
            ", ".join(alert["name"] for alert in summary.get("alerts", ())),
        )
    return table


def comparison_table(names: Sequence[str], rows: Sequence[Row]) -> Table:
    """One column a run; settings first, results under a rule; what differs stands out."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        style = "" if row.differs else "dim"
        last = following is not None and following.kind != row.kind
        cells = [Text(_cell(value), style) for value in row.values]
        table.add_row(Text(row.name, style), *cells, end_section=last)
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_lines(console: Console, summary: Mapping[str, Any]) -> None:
    """Phase, boundaries, forecast and alerts, a line each."""
    lines = [f"run       {summary['directory']}"] if "directory" in summary else []
    lines.append(f"phase     {summary.get('phase')}  {summary.get('reason', '')}".rstrip())
    for boundary in summary.get("boundaries", ()):
        onset = f"onset {_step(boundary['onset'])}"
        lines.append(
            f"boundary  {boundary['name']}: {onset}, detected at step {boundary['detected']}"
        )
    if "loss_halving_step" in summary:
        lines.append(f"loss      halved at step {_step(summary['loss_halving_step'])}")
    for name, band in summary.get("forecast", {}).items():
        low, value, high = (_step(band[key]) for key in ("low", "value", "high"))
        lines.append(f"forecast  {name} {value} [{low}..{high}, 10 to 90 %]")
    if reason := _unforecast(summary):
        lines.append(f"forecast  none: {reason}")
    for phase, rates in summary.get("growth", {}).items():
        pair = f"measured {rates['measured']:.3f}, predicted {rates['predicted']:.3f}"
        lines.append(f"growth    {phase}: {pair}")
    for alert in summary.get("alerts", ()):
        numbers = ", ".join(f"{key} {number(value)}" for key, value in alert["evidence"].items())
        lines.append(f"alert     {alert['name']} at step {alert['step']} ({numbers})")
    if "matmul" in summary:
        lines.append(f"matmul    {_matmul(summary['matmul']).removeprefix('matrix products: ')}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _phase(summary: Mapping[str, Any]) -> Text:
    name = summary.get("phase", Phase.UNDETERMINED.name)
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


def _timeline(stretches: Sequence[Mapping[str, Any]], width: int, *, plain: bool) -> RenderableType:
    """A bar with one coloured stretch a label, and their steps under it."""
    last = max(stretches[-1]["end"] + 1, 1)
    bar, legend = Text(), Text()
    drawn = 0
    for stretch, following in zip(stretches, [*stretches[1:], {"start": last}], strict=True):
        phase = Phase[stretch["phase"]]
        edge = max(drawn + 1, round(width * min(max(following["start"], 0), last) / last))
        mark, colour = PHASE_MARKS[phase]
        mark = PLAIN_MARKS[phase] if plain else mark
        bar.append(mark * (edge - drawn), colour)
        drawn = edge
        span = f"{stretch['start']}-{stretch['end']}"
        legend.append(mark, colour).append(f" {phase.name} {span}  ", "dim")
    return Group(Text(), bar, legend)


def _steps(summary: Mapping[str, Any]) -> Table:
    table = open_table("boundary", "step", "detected", "forecast", "10 to 90 %")
    measured = {b["name"]: (b["onset"], b["detected"]) for b in summary.get("boundaries", ())}
    if "loss_halving_step" in summary:
        measured["loss_halving_step"] = (summary["loss_halving_step"], None)
    forecast = summary.get("forecast", {})
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


def _unforecast(summary: Mapping[str, Any]) -> str:
    """Return why no boundary was predicted, or an empty string."""
    bands = summary.get("forecast", {}).values()
    reasons = {band.get("reason", "") for band in bands if math.isnan(band["value"])}
    return reasons.pop() if len(reasons) == 1 and all(math.isnan(b["value"]) for b in bands) else ""


def _growth(rates: Mapping[str, Mapping[str, float]]) -> Table:
    table = open_table("signal growth per unit time", "measured", "predicted")
    for phase, pair in rates.items():
        table.add_row(phase.upper(), f"{pair['measured']:.3f}", f"{pair['predicted']:.3f}")
    return table


def _matmul(chosen: Mapping[str, Any]) -> str:
    line = f"matrix products: {chosen['path']}"
    measured = []
    if chosen["error"] is not None:
        measured.append(f"error {chosen['error']:.1e}")
    if chosen["speed"] is not None:
        measured.append(f"{chosen['speed']:.1f} times the default's speed")
    return f"{line} ({', '.join(measured)})" if measured else line


def _step(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
