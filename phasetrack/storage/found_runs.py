"""Runs by name: the newest, a name, the beginning of a name, or a path; and names that are free."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from phasetrack.errors import ExpectedError, printable
from phasetrack.storage.results import find_runs, is_run, no_run

# Most names of runs that an error lists.
MOST_NAMES = 5


def find_run(given: str | Path | None, out: Path) -> Path:
    """Return the directory of a run.

    Args:
        given: a path, the name of a run in `out`, or the beginning of the names of exactly one;
            None is the newest run in `out`.
        out: the folder of runs.

    Raises:
        ExpectedError: naming `run`: there is no such run, or there are several.
    """
    if given is None:
        return newest_runs(out, 1)[-1]
    path = Path(given)
    if is_run(path):
        return path
    # a name alone is looked up among the runs; a path in its own folder
    folder = out if len(path.parts) < 2 and not path.is_absolute() else path.parent
    runs = find_runs(folder)
    if path.name:
        if is_run(folder / path.name):
            return folder / path.name
        begun = [run for run in runs if run.name.startswith(path.name)]
        if len(begun) == 1:
            return begun[0]
        if begun:
            problem = f"{printable(path)!r} begins the names of {len(begun)} runs."
            raise ExpectedError("run", problem, f"Name one of them: {_listed(begun)}.")
    raise ExpectedError("run", no_run(path), _advice(path, runs))


def newest_runs(out: Path, count: int) -> list[Path]:
    """Return the last runs in a folder, oldest first.

    Raises:
        ExpectedError: naming `run`, if there are fewer.
    """
    runs = find_runs(out)
    if len(runs) < count:
        problem = f"No run is named, and {printable(out)!r} holds {len(runs) or 'none'}."
        fix = (
            f"Name {'a run' if count == 1 else f'{count} runs'}, or the folder of runs with --out."
        )
        raise ExpectedError("run", problem, fix)
    return runs[-count:]


def numbered(path: Path) -> Iterator[Path]:
    """Return a path and, after it, the same with -2, -3, ... behind its name."""
    return itertools.chain(
        [path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    )


def _advice(path: Path, runs: Sequence[Path]) -> str:
    """Return the sentence that leads on from a name which is not a run's."""
    if inside := find_runs(path):
        return f"It is a folder of runs: name one, such as {printable(inside[-1])!r}."
    names = {run.name: run for run in runs}
    if close := get_close_matches(path.name, names, 1):
        return f"Did you mean {printable(names[close[0]])!r}?"
    return "`phasetrack list` shows the runs."


def _listed(runs: Sequence[Path]) -> str:
    shown = [printable(run.name) for run in runs[-MOST_NAMES:]]
    return ", ".join([*shown, "..."] if len(runs) > MOST_NAMES else shown)
