"""The directory of an attached run: an earlier run in it is refused, replaced, or stays beside the new one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from phasetrack.display.tensorboard.event_file import event_files
from phasetrack.errors import ExpectedError
from phasetrack.storage.checkpoint import CHECKPOINT, PREVIOUS
from phasetrack.storage.clock_sink import CLOCK
from phasetrack.storage.directory import absolute
from phasetrack.storage.file_names import CONFIG, HINDSIGHT, HISTORY, SUMMARY
from phasetrack.storage.found_runs import numbered
from phasetrack.storage.neuron_sink import FOLDER as NEURONS
from phasetrack.storage.weight_store import FOLDER as WEIGHTS

# The files of a run that a new one must not mix with its own.
RECORDS = (HISTORY, CLOCK, SUMMARY)


def in_cells() -> bool:
    """Whether a person types: a notebook or a prompt, where the same cell is run again and again."""
    return hasattr(sys, "ps1")


def free_folder(logdir: str | os.PathLike[str], *, number: bool) -> Path:
    """Return the directory to write to: `logdir`, or with `number` the first of logdir-2, ... without a run."""
    folder = absolute(logdir)
    if not number:
        return folder
    return next(path for path in numbered(folder) if taken_by(path) is None)


def taken_by(folder: Path) -> Path | None:
    """Return a file of the run that a directory holds, or None."""
    return next((folder / name for name in RECORDS if (folder / name).exists()), None)


def refusal(folder: Path) -> ExpectedError:
    """Return the error about a directory that holds a run, with every way out."""
    free = next(path for path in numbered(folder) if taken_by(path) is None)
    return ExpectedError(
        "logdir",
        f"{str(folder)!r} already holds a run.",
        f"Pass overwrite=True to replace it, number=True to write to {free.name!r}, resume=True to "
        "continue it, or another directory.",
    )


def clear(folder: Path) -> None:
    """Delete the run in a directory: the files that phasetrack writes, and no others.

    Raises:
        OSError: if a file cannot be deleted.
    """
    if taken_by(folder) is None:
        return
    for name in (*RECORDS, CONFIG, CHECKPOINT, PREVIOUS, HINDSIGHT):
        (folder / name).unlink(missing_ok=True)
    for path in event_files(folder):
        path.unlink()
    for name in (NEURONS, WEIGHTS):
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name)
