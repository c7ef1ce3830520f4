"""A run directory from elsewhere: plain files in it are opened, and nothing that lies outside."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from phasetrack.errors import expected_error
from phasetrack.storage.directory import CONFIG, SUMMARY
from phasetrack.storage.history_sink import HISTORY
from phasetrack.storage.json_schema import read_object

# A pipe must not be waited for.
FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RunFolder:
    """One directory, as it was found: another one that takes its place later is refused.

    Args:
        path: where it lies.

    Raises:
        OSError: if it is no directory, or a link to one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path))
        self._identity = status.st_dev, status.st_ino

    def there(self) -> bool:
        """Whether the directory is still where it was found."""
        try:
            os.close(self._enter())
        except OSError:
            return False
        return True

    def open(self, file: str, flags: int) -> int:
        """Open a file in the directory, as an `opener` of Python's `open`.

        Raises:
            OSError: if it is no plain file, or a link leads to it.
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
                error.strerror = "a link, which is not followed"
            raise
        finally:
            os.close(at)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise OSError(errno.EINVAL, "no plain file", file)
        return opened

    def read(self, file: str) -> dict[str, Any]:
        """The object in a JSON file; empty if there is no such file.

        Raises:
            ExpectedError: if it cannot be read.
        """
        try:
            return read_object(self.path / file, self.open)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise expected_error("run", f"a plain file {file}", error.strerror) from None

    def stamp(self, file: str) -> tuple[int, int, int] | None:
        """Time of the last change in nanoseconds, size and number of a file; None if there is none."""
        try:
            status = os.lstat(self.path / file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """The stamps of history, summary and configuration: another one means another content."""
        return tuple(self.stamp(file) for file in (HISTORY, SUMMARY, CONFIG))

    def _enter(self) -> int:
        opened = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | FLAGS)
        status = os.fstat(opened)
        if (status.st_dev, status.st_ino) != self._identity:
            os.close(opened)
            raise OSError(errno.ESTALE, "another directory lies here now", str(self.path))
        return opened
