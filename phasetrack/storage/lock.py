"""One writer per directory: a lock that ends with the process that holds it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from phasetrack.errors import ExpectedError
from phasetrack.storage.atomic_files import overwrite_held
from phasetrack.storage.file_names import LOCK

PATIENCE = 0.1  # seconds
# Errors of file systems without locks; directories are not locked there.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class RunLock:
    """Holds a directory until `release`, or until this process ends, however it ends.

    A forked child does not hold the lock, and cannot release it.

    Args:
        folder: the run directory, or the folder of a sweep.
        argument: the argument that an error names.

    Attributes:
        folder: the directory, absolute.

    Raises:
        ExpectedError: if another process, or another tracker of this one, holds the directory.
    """

    def __init__(self, folder: Path, argument: str) -> None:
        self.folder = folder.absolute()
        self._path = self.folder / LOCK
        self._file: os.stat_result | None = None  # the lock's file, while the path may lose it
        # a lock file that outlives its process would block resuming: no fallback to such locks
        # a reader that asks for the state of the run holds the lock for an instant
        self._lock = FileLock(
            self._path,
            timeout=PATIENCE,
            poll_interval=0.01,
            thread_local=False,
            fallback_to_soft=False,
        )
        try:
            self._lock.acquire()
        except Timeout:
            problem = f"Process {self._holder()} already writes to {str(folder)!r}."
            fix = "Wait until it ends, or choose another directory."
            raise ExpectedError(argument, problem, fix) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        else:
            with suppress(OSError):  # Windows lets nobody write to a locked file
                overwrite_held(self._path, str(os.getpid()).encode())
            with suppress(OSError):
                self._file = os.lstat(self._path)

    def check(self) -> None:
        """Raise FileNotFoundError unless the directory is the one that was locked.

        A directory that was deleted, moved away or made anew under its old name belongs to nobody or to
        another writer. While the lock's file is open, no other file can take its identity.
        """
        if self._file is None or not self._lock.is_locked:  # no locks there, or released already
            return
        with suppress(OSError):
            if os.path.samestat(self._file, os.lstat(self._path)):
                return
        raise FileNotFoundError(
            errno.ENOENT, "deleted, moved or made anew while phasetrack wrote it", str(self.folder)
        )

    def release(self) -> None:
        """Let another process in; may be called again."""
        if not self._lock.is_locked:
            return
        # while the lock is held: afterwards the file may belong to the next holder
        with suppress(OSError):  # the file is not ours; Windows does not delete open files
            if self._file is not None:
                self.check()
                self._path.unlink()
        self._lock.release()

    def _holder(self) -> str:
        try:
            with self._path.open("rb") as file:
                return file.read(20).decode("ascii")
        except (OSError, UnicodeDecodeError):
            return "unknown"
