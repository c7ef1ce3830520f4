"""The runs of a folder as a table, and their alerts as sentences: without numpy, for a list of a thousand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasetrack.errors import printable
from phasetrack.phases.labels import others_told
from phasetrack.phases.verdict import ENDINGS
from phasetrack.phases.words import alert_advice, alert_sentence

from .tables import open_table, step_text

if TYPE_CHECKING:
    from phasetrack.storage.results import Results

# Header of a column to the boundary whose onset it shows.
BOUNDARIES = {"onset": "signal_heavy", "linear exit": "linear_exit", "fitted": "fitted"}


class Listed(NamedTuple):
    """What a list shows of one run: a thousand of them take little memory, unlike a thousand summaries.

    Attributes:
        name: the directory's name.
        cells: one text per column of `run_table`.
        alerts: the run's alerts.
    """

    name: str
    cells: tuple[str, ...]
    alerts: Sequence[Mapping[str, Any]]


def listed(run: Results) -> Listed:
    """Return what a list shows of a run; dashes where it has no summary yet."""
    summary = run.summary
    onsets = {b["name"]: b["onset"] for b in summary.get("boundaries", ())}
    alerts = summary.get("alerts", ())
    cells = (
        printable(run.path),
        summary.get("phase", "-"),
        str(summary.get("steps", "-")),
        *(step_text(onsets.get(name, math.nan)) for name in BOUNDARIES.values()),
        _state(run),
        ", ".join(f"{name} {told['phase']}" for name, told in others_told(summary).items()),
        ", ".join(alert["name"] for alert in alerts),
    )
    return Listed(run.name, cells, alerts)


def _state(run: Results) -> str:
    """Return how a run ended, or that it lasts."""
    ending = run.summary.get("stopped", "")
    return ending if run.finished and ending in ENDINGS else run.state


def run_table(runs: Sequence[Listed]) -> Table:
    """One row per run: name, phase, steps, boundaries, state, alerts."""
    table = open_table()
    table.add_column("run", overflow="fold")
    for header in ("phase", "steps", *BOUNDARIES, "state"):
        table.add_column(header, justify="left" if header in ("phase", "state") else "right")
    table.add_column("other vocabularies")
    table.add_column("alerts", style="red")
    for run in runs:
        table.add_row(*run.cells)
    return table


def list_alerts(console: Console, runs: Sequence[Listed]) -> None:
    """Print each alert of some runs as a sentence, and the advice on each kind of alert once."""
    advised: set[str] = set()
    for run in runs:
        for alert in run.alerts:
            sentence = alert_sentence(alert["name"], alert["step"], alert["evidence"])
            line = Text(f"{printable(run.name)}: ", "bold").append(sentence, "red")
            if alert["name"] not in advised and (advice := alert_advice(alert["name"])):
                line.append(f" {advice}", "dim")
            advised.add(alert["name"])
            console.print(line, highlight=False, soft_wrap=not console.is_terminal)
