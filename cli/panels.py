"""What a run says at its end, as one panel."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from phasetrack.display.lanes import lanes
from phasetrack.display.style import PHASE_STYLES
from phasetrack.errors import printable
from phasetrack.phases.classifier import Phase
from phasetrack.phases.verdict import ENDINGS, Story, commands, story
from phasetrack.phases.words import ONSET_AND_DETECTION, alert_advice, alert_sentence, alert_title

from .lanes import drawn, in_words
from .tables import open_table, step_text

if TYPE_CHECKING:
    from phasetrack.display.run_comparison import Row

WIDTH = 78  # of the panel at most
DEFAULT = "default"  # torch's own matrix products
# Boundary (or reading) for people, its name in `boundaries`, its name in `forecast`.
STEPS = (
    ("onset of signal-heaviness", "signal_heavy", "signal_heavy_onset"),
    ("exit from the linear regime", "linear_exit", "linear_exit"),
    ("loss halved", "loss_halving_step", "loss_halving_step"),
    ("loss target met", "fitted", "fitted"),
)


def print_summary(console: Console, summary: Mapping[str, Any], title: str) -> None:
    """One run or forecast: timeline, boundaries beside the forecast, verdict, alerts, what to do next.

    A panel on a terminal; elsewhere a line for each fact, easy to search.

    Args:
        console: where to print.
        summary: what ``summary.json`` holds.
        title: the run's name.
    """
    predicted_only = "directory" not in summary  # a forecast
    if not predicted_only:  # a stranger's name of it reaches no terminal raw
        summary = {**summary, "directory": printable(summary["directory"])}
    following = _commands(summary)
    parts: list[RenderableType] = [_phase(summary)]
    if found := lanes(summary):
        parts.append(drawn(found, min(WIDTH, console.width) - 4, plain=console.options.ascii_only))
    parts += [Text(), _steps(summary)]
    if reason := _unforecast(summary):
        parts.append(Text(f"no forecast: {reason}", "dim"))
    if summary.get("boundaries") and not predicted_only:
        parts.append(Text(ONSET_AND_DETECTION, "dim italic"))
    if summary.get("growth"):
        parts += [Text(), _growth(summary["growth"])]
    if not predicted_only:
        parts += [Text(), _story(summary)]
    for alert in summary.get("alerts", ()):
        parts += [Text(), _alert(alert)]
    if following:
        parts += [Text(), _next(following)]
    if "directory" in summary:
        parts += [Text(), Text(summary["directory"], "dim", overflow="fold")]
    if not _usual(summary):
        parts.append(Text(_matmul(summary["matmul"]), "dim"))
    if not console.is_terminal:
        _print_lines(console, summary)
        return
    width = min(WIDTH, console.width)
    console.print(Panel(Group(*parts), title=Text(printable(title)), width=width), highlight=False)


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
    if "directory" in summary:
        lines += [f"lane      {in_words(lane)}" for lane in lanes(summary)]
    # a forecast alone has the same steps in its bands
    measured = "directory" in summary or not summary.get("forecast")
    for boundary in summary.get("boundaries", ()) if measured else ():
        onset = f"onset {step_text(boundary['onset'])}"
        lines.append(
            f"boundary  {boundary['name']}: {onset}, detected at step {boundary['detected']}"
        )
    for boundary in _in_hindsight(summary):
        onset = f"onset {step_text(boundary['onset'])} in hindsight"
        lines.append(f"boundary  {boundary['name']}: {onset}")
    if measured and not math.isnan(summary.get("loss_halving_step", math.nan)):
        lines.append(f"loss      halved at step {step_text(summary['loss_halving_step'])}")
    for name, band in summary.get("forecast", {}).items():
        if math.isnan(band["value"]):
            continue
        low, value, high = (step_text(band[key]) for key in ("low", "value", "high"))
        lines.append(f"forecast  {name} {value} [{low}..{high}, 10 to 90 %]")
    if reason := _unforecast(summary):
        lines.append(f"forecast  none: {reason}")
    for phase, rates in summary.get("growth", {}).items():
        pair = f"measured {rates['measured']:.3f}, predicted {rates['predicted']:.3f}"
        lines.append(f"growth    {phase}: {pair}")
    if "directory" in summary:
        lines += [f"{name:<10}{text}" for name, text in _named(story(summary)) if text]
    for alert in summary.get("alerts", ()):
        sentence = alert_sentence(alert["name"], alert["step"], alert["evidence"])
        lines.append(f"alert     {sentence} {alert_advice(alert['name'])}".rstrip())
    lines += [f"next      {command}" for command in _commands(summary)]
    if not _usual(summary):
        lines.append(f"matmul    {_matmul(summary['matmul']).removeprefix('matrix products: ')}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _named(told: Story) -> list[tuple[str, str]]:
    return [("verdict", told.verdict), ("why", told.why), ("advice", told.advice)]


def _story(summary: Mapping[str, Any]) -> Text:
    told = story(summary)
    text = Text(told.verdict, "bold")
    for part in (told.why, told.advice):
        if part:
            text.append(f" {part}", "not bold")
    return text


def _alert(alert: Mapping[str, Any]) -> Text:
    sentence = alert_sentence(alert["name"], alert["step"], alert["evidence"])
    name, colon, rest = sentence.partition(":")
    text = Text(name + colon, "bold red").append(rest, "red")
    return (
        text.append(f" {alert_advice(alert['name'])}", "dim")
        if alert_title(alert["name"])
        else text
    )


def _next(following: Sequence[str]) -> Text:
    text = Text("next: ", "dim")
    for place, command in enumerate(following):
        text.append(("\n      " if place else "") + command, "cyan")
    return text


def _commands(summary: Mapping[str, Any]) -> list[str]:
    """Return the commands that show more of a run; none for a forecast."""
    if "directory" not in summary:
        return []
    folder = Path(summary["directory"])
    with suppress(
        ValueError, FileNotFoundError
    ):  # it lies elsewhere; the current directory was deleted
        folder = folder.relative_to(Path.cwd())
    return [*commands(quoted(folder), quoted(folder.parent))]


def quoted(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(printable(path))


def _phase(summary: Mapping[str, Any]) -> Text:
    name = summary.get("phase", Phase.UNDETERMINED.name)
    line = Text(f" {name} ", PHASE_STYLES[Phase[name]])
    if summary.get("steps"):
        line.append(f"  {summary['steps']} steps")
    if "seconds" in summary:
        line.append(f" in {summary['seconds']:.1f} s")
    if summary.get("stopped") in ENDINGS:
        line.append(f", {summary['stopped']}", "bold red")
    if summary.get("reason"):
        line.append(f"\n{summary['reason']}", "dim")
    return line


def _steps(summary: Mapping[str, Any]) -> Table:
    forecast = summary.get("forecast", {})
    predicted_columns = ("forecast", "10 to 90 %") if forecast else ()
    table = open_table("boundary", "onset", "detected", *predicted_columns)
    measured = {b["name"]: (b["onset"], b["detected"]) for b in summary.get("boundaries", ())}
    if "loss_halving_step" in summary:
        measured["loss_halving_step"] = (summary["loss_halving_step"], None)
    for label, name, predicted in STEPS:
        onset, detected = measured.get(name, (math.nan, None))
        band = forecast.get(predicted, {"value": math.nan, "low": math.nan, "high": math.nan})
        cells = [label, step_text(onset), "" if detected is None else str(detected)]
        table.add_row(*cells, *((step_text(band["value"]), _range(band)) if forecast else ()))
    titles = {name: label for label, name, _ in STEPS}
    for boundary in _in_hindsight(summary):
        title = f"{titles.get(boundary['name'], boundary['name'])}, in hindsight"
        table.add_row(title, step_text(boundary["onset"]))
    return table


def _in_hindsight(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the boundaries that only the look back on a run has met."""
    known = {b["name"] for b in summary.get("boundaries", ())}
    back = summary.get("hindsight", {}).get("boundaries", ())
    return [boundary for boundary in back if boundary["name"] not in known]


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


def _usual(summary: Mapping[str, Any]) -> bool:
    """Whether matrices were multiplied as torch does by itself, which needs no word."""
    return bool(summary.get("matmul", {}).get("path", DEFAULT) == DEFAULT)


def _matmul(chosen: Mapping[str, Any]) -> str:
    line = f"matrix products: {chosen['path']}"
    measured = []
    if chosen["error"] is not None:
        measured.append(f"error {chosen['error']:.1e}")
    if chosen["speed"] is not None:
        measured.append(f"{chosen['speed']:.1f} times the default's speed")
    return f"{line} ({', '.join(measured)})" if measured else line


def _range(band: Mapping[str, float]) -> str:
    """Return the ends of a band; empty where nothing is forecast."""
    if math.isnan(band["low"]) and math.isnan(band["high"]):
        return ""
    return f"{step_text(band['low'])} to {step_text(band['high'])}"
