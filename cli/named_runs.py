"""The runs that a command is given: by path, by name, by the beginning of a name, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from phasetrack.errors import printable

if TYPE_CHECKING:
    from phasetrack.display.plotted_run import Run


def named_run(given: Path | None, out: Path) -> Path:
    """Return the directory of a run, and print which one is the newest where none is named.

    Raises:
        ExpectedError: if there is no such run.
    """
    from phasetrack.storage.found_runs import find_run

    path = find_run(given, out)
    if given is None:
        _say_newest([path])
    return path


def named_runs(given: list[Path] | None, out: Path, *, least: int) -> list[Path]:
    """Return the directories of runs; the newest `least` where none is named, which is printed.

    Raises:
        ExpectedError: if one of them is not a run.
    """
    from phasetrack.storage.found_runs import find_run, newest_runs

    if given:
        return [find_run(name, out) for name in given]
    paths = newest_runs(out, least)
    _say_newest(paths)
    return paths


def read_named(given: Path | None, out: Path) -> Run:
    """Read the run that a command is given."""
    from phasetrack.display.plotted_run import read_run

    return read_run(named_run(given, out))


def _say_newest(paths: list[Path]) -> None:
    names = ", ".join(printable(path) for path in paths)
    typer.echo(f"the newest: {names}", err=True)
