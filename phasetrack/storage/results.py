"""The configuration and the results of a run, and the runs in a folder: read without their histories.

Enough for a list of a thousand runs, which waits neither for numpy nor for torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError, printable
from phasetrack.storage.atomic_files import check_plain
from phasetrack.storage.file_names import CONFIG, HISTORY, SUMMARY
from phasetrack.storage.json_schema import check_config, check_summary, check_text, read_object
from phasetrack.storage.run_state import State, run_state


@dataclass(frozen=True, repr=False)
class Results:
    """The small files of a run.

    Attributes:
        path: its directory.
        config: the content of ``config.json``; empty where an early version wrote none.
        summary: the content of ``summary.json``; empty while the run lasts or if it was killed.
    """

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """The directory's name."""
        return printable(self.path.name)

    @property
    def finished(self) -> bool:
        """Whether the run ended and wrote a summary."""
        return bool(self.summary)

    @property
    def state(self) -> State:
        """Whether the run is ``finished``, ``running``, or was ``stopped`` before its end."""
        return run_state(self.path, finished=self.finished)

    @property
    def told(self) -> dict[str, Any]:
        """The summary; of a run without one its state alone, under ``stopped``."""
        return self.summary or {"stopped": self.state}


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a run's configuration and summary, and leave its history out.

    Raises:
        ExpectedError: naming the file if the path is not a run directory, or one of the two is damaged.
    """
    directory = Path(path)
    return Results(directory, read_config(directory), read_summary(directory))


def read_config(directory: Path) -> dict[str, Any]:
    """Read a run's ``config.json``.

    A run of a model of the user's own that version 0.1.0 wrote has none: nothing is known of it then.

    Raises:
        ExpectedError: if the path is not a run directory, or the file is damaged.
    """
    path = directory / CONFIG
    with readable(directory):
        try:
            content = read_object(check_plain(path))
        except FileNotFoundError:
            if is_run(directory):
                return {}
            fix = "`phasetrack list` shows the runs."
            raise ExpectedError("run", no_run(directory), fix) from None
        return check_config(check_text(content, path), path)


def read_summary(directory: Path) -> dict[str, Any]:
    """Read a run's ``summary.json``; empty where it has none.

    Raises:
        ExpectedError: if the file is damaged.
    """
    path = directory / SUMMARY
    with readable(directory):
        try:
            content = read_object(check_plain(path))
        except FileNotFoundError:
            return {}
        return check_summary(check_text(content, path), path)


@contextmanager
def readable(directory: Path) -> Iterator[None]:
    """Make one expected error of whatever the system refuses in a directory of somebody else's."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no such directory can exist
            raise
        problem = f"{str(error.filename or directory)!r} cannot be read ({error.strerror})."
        raise ExpectedError("run", problem) from None


def is_run(folder: Path) -> bool:
    """Whether a directory holds a run: its configuration or its history."""
    return any((folder / file).is_file() for file in (CONFIG, HISTORY))


def no_run(folder: Path) -> str:
    """Return the sentence about a path that is not a run."""
    return f"{str(folder)!r} is not a run directory: it has no {CONFIG}."


def find_runs(out: Path) -> list[Path]:
    """List the run directories directly in `out`, oldest first."""
    if not out.is_dir():
        return []
    with readable(out):
        begun = {folder: _begun(folder) for folder in out.iterdir()}
    found = [(time, folder.name, folder) for folder, time in begun.items() if time is not None]
    return [folder for *_, folder in sorted(found)]


def _begun(folder: Path) -> float | None:
    """Return when a run began, or was last written where it has no configuration, in seconds.

    0 if that may not be read; None where there is no run.
    """
    try:
        for file in (folder / CONFIG, folder / HISTORY):
            if file.is_file():
                return file.stat().st_mtime
    except OSError:
        return 0.0
    return None
