"""Whether a run lasts, came to its end, or was stopped on the way."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from phasetrack.storage.file_names import HISTORY, LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

State = Literal["finished", "running", "stopped"]
Opener = Callable[[str, int], int]

# Seconds without a record after which a run counts as stopped where its lock tells nothing: a file
# system without locks. A heuristic of ours.
SILENCE = 60.0


def run_state(folder: Path, *, finished: bool, opener: Opener = os.open) -> State:
    """Return the state of a run: it is running while a process holds its lock.

    Args:
        folder: the run directory.
        finished: whether it has a summary.
        opener: as Python's `open` takes it.
    """
    if finished:
        return "finished"
    held = _held(folder / LOCK, opener)
    if held is None:
        held = _written_lately(folder / HISTORY)
    return "running" if held else "stopped"


def _held(path: Path, opener: Opener) -> bool | None:
    """Whether a process holds a lock; None where the file system does not say."""
    try:
        file = opener(str(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        # Windows does not open a file that is locked
        return True if fcntl is None and error.errno == errno.EACCES else None
    try:
        if fcntl is None:
            return _unreadable(file)
        # released by the close: a writer that comes in between waits longer than that
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False


def _unreadable(file: int) -> bool:
    """Whether reading is refused, as it is of a locked file on Windows."""
    try:
        os.read(file, 1)
    except PermissionError:
        return True
    return False


def _written_lately(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < SILENCE
    except OSError:
        return False
