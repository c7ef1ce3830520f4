"""Open regular files in an untrusted run directory, and nothing outside it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.storage.directory import CONFIG, SUMMARY
from phasetrack.storage.history_sink import HISTORY
from phasetrack.storage.json_schema import read_object

# Links are refused, and opening a pipe must not wait for its writer.
FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RunFolder:
    """One directory as it was found; a directory that takes its place later is refused.

    Args:
        path: the directory.

    Raises:
        OSError: if `path` is not a directory, or is a link to one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path))
        self._identity = status.st_dev, status.st_ino

    def there(self) -> bool:
        """Whether the directory is still the one that was found."""
        try:
            os.close(self._enter())
        except OSError:
            return False
        return True

    def open(self, file: str, flags: int) -> int:
        """Open a file in the directory, as an `opener` of Python's `open`.

        Raises:
            OSError: if it is not a regular file, or the path contains a link.
        """
        *folders, name = Path(file).relative_to(self.path).parts
        at = self._enter()
        try:
            for folder in folders:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | FLAGS, dir_fd=at)
                os.close(at)
                at = inner
            opened = os.open(name, flags | FLAGS, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
                error.strerror = "a symbolic link, which is not followed"
            raise
        finally:
            os.close(at)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise OSError(errno.EINVAL, "not a regular file", file)
        return opened

    def read(self, file: str) -> dict[str, Any]:
        """Return the object in a JSON file; empty if the file does not exist.

        Raises:
            ExpectedError: if the file cannot be read.
        """
        try:
            return read_object(self.path / file, self.open)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ExpectedError("run", f"{file} cannot be read: {error.strerror}.") from None

    def stamp(self, file: str) -> tuple[int, int, int] | None:
        """Return modification time in nanoseconds, size and inode of a file, or None without a file."""
        try:
            status = os.lstat(self.path / file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return the stamps of history, summary and configuration, which change with their content."""
        return tuple(self.stamp(file) for file in (HISTORY, SUMMARY, CONFIG))

    def _enter(self) -> int:
        opened = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | FLAGS)
        status = os.fstat(opened)
        if (status.st_dev, status.st_ino) != self._identity:
            os.close(opened)
            raise OSError(errno.ESTALE, "the directory was replaced", str(self.path))
        return opened
