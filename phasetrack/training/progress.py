"""A run that is shown while it trains, and its verdict at the end: ``train(progress=True)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from phasetrack.display.console_sink import ConsoleSink
from phasetrack.phases.card import as_text
from phasetrack.storage.sink import Sink
from phasetrack.theory.settings import RunSettings


@contextmanager
def shown(settings: RunSettings, *, wanted: bool) -> Iterator[list[Sink]]:
    """Show a run inside: on a terminal as a panel, in a notebook and elsewhere as lines.

    Args:
        settings: the run.
        wanted: whether it is shown at all.
    """
    if not wanted:
        yield []
        return
    title = f"{settings.task}, d = {settings.d}, seed {settings.seed}"
    expected = settings.steps or settings.predicted_steps
    with ConsoleSink(Console(markup=False, emoji=False), title=title, expected=expected) as sink:
        yield [sink]


def tell(summary: Mapping[str, Any]) -> None:
    """Print the verdict of a run."""
    text = as_text(f"Run {Path(summary['directory']).name!r}", summary)
    Console(markup=False, emoji=False).print(text, highlight=False, soft_wrap=True)
