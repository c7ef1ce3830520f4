"""The directory of a run that begins: locked before its first byte, taken back if the run cannot begin."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.storage.directory import (
    check_unused,
    create_numbered_directory,
    create_run_directory,
    write_json,
)
from phasetrack.storage.file_names import CONFIG, LOCK
from phasetrack.storage.lock import RunLock


def new_run(out: Path, name: str | None, config: Mapping[str, Any], default: str) -> RunLock:
    """Create and lock the directory OUT/NAME of a run, and write its first file.

    Without a name it is `default`, numbered where that is taken.

    Raises:
        ExpectedError: naming `out` or `name`: the directory is not empty, another process writes there, or
            it cannot be written. Nothing of ours is left then.
    """
    directory = (
        create_numbered_directory(out, default) if name is None else create_run_directory(out, name)
    )
    try:
        lock = RunLock(directory, "name")
    except OSError as error:
        with suppress(OSError):
            directory.rmdir()
        raise _unwritable(directory, error) from None
    try:
        check_unused(directory)  # another run may have begun and ended meanwhile
        write_json(directory / CONFIG, config)
    except ExpectedError:
        lock.release()
        raise
    except OSError as error:
        take_back(directory, lock)
        raise _unwritable(directory, error) from None
    return lock


def locked_run(directory: Path) -> RunLock:
    """Lock the directory of a run that resumes.

    Raises:
        ExpectedError: if another process writes there, or it cannot be written.
    """
    try:
        return RunLock(directory, "run")
    except OSError as error:
        problem = f"{str(directory)!r} cannot be written to ({error.strerror})."
        raise ExpectedError("run", problem, "Choose a directory that you may write to.") from None


def take_back(directory: Path, *locks: RunLock) -> None:
    """Remove the directory of a run that could not begin, unless it holds anything else."""
    for lock in locks:
        with suppress(OSError):
            if {path.name for path in directory.iterdir()} <= {CONFIG, LOCK}:
                (directory / CONFIG).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            directory.rmdir()


def _unwritable(directory: Path, error: OSError) -> ExpectedError:
    problem = f"{str(directory)!r} cannot be written ({error.strerror})."
    return ExpectedError("out", problem, "Choose a folder that can be written.")
