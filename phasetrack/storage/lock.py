"""One writer for a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import os
import weakref
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from phasetrack.errors import expected_error

if TYPE_CHECKING:
    import fcntl
else:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: run directories are not locked there
        fcntl = None

LOCK = ".lock"


class RunLock:
    """Holds a run directory until `release`, or until this process ends, however it ends.

    Args:
        folder: the run directory, or the folder of a sweep.
        name: the argument that an error speaks of.
        what: what the error calls the folder.

    Raises:
        ExpectedError: if somebody holds it.
    """

    def __init__(self, folder: Path, name: str, what: str = "a run directory") -> None:
        self._path = folder / LOCK
        self._file: FileIO | None = None
        while fcntl is not None and self._file is None:
            file = FileIO(self._path, "r+", opener=_open)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with file:
                    holder = file.read(20).decode("ascii", "replace") or "another one"
                allowed = f"{what} that nobody else writes to"
                got = f"{folder}, which process {holder} writes to"
                raise expected_error(name, allowed, got) from None
            except OSError:  # a file system without locks
                file.close()
                return
            if self._is_current(file):
                self._file = file
                file.truncate(0)
                file.write(str(os.getpid()).encode())
                _HELD.add(self)
            else:  # its last holder has just taken it away
                file.close()

    def release(self) -> None:
        """Let others in; may be called again."""
        if self._file is not None:
            # first: once it is unlocked, somebody else may hold a lock of this name
            self._path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Close this process's copy; a parent's lock stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_current(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _open(path: str, _: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


_HELD: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A lock would live as long as any forked child that has it open."""
    for lock in list(_HELD):
        lock.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
