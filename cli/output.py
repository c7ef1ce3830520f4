"""What every command prints: summaries on the screen or as JSON, and one line per mistake."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from phasetrack.errors import printable
from phasetrack.training.launcher_env import Place, place

from .exit_codes import BAD_USAGE

if TYPE_CHECKING:
    from rich.console import Console

# Seconds by which the process that prints may come after the others: all start together.
LAGGING = 5.0


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, which prints names as they are: no markup, no emoji codes."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False)


def show_summary(summary: dict[str, Any], as_json: bool, title: str) -> None:
    """Print a summary, as JSON or for people."""
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_summary(console(), summary, title)


def print_summary(screen: Console, summary: dict[str, Any], title: str) -> None:
    """Print a summary for people."""
    from .panels import print_summary as print_panels

    print_panels(screen, summary, title)


def complain(name: str, message: str) -> int:
    """Print a mistake as one line, whatever the message quotes; of several processes one prints."""
    if own_place().leads:
        typer.echo(printable(f"{name}: {' '.join(message.split())}"), err=True)
    else:  # torchrun ends all processes once one has failed: the one that prints comes first
        with suppress(KeyboardInterrupt):
            time.sleep(LAGGING)
    return BAD_USAGE


def own_place() -> Place:
    """Return which of several processes this one is; every process prints if nothing says so."""
    try:
        return place()
    except ValueError:
        return Place()
