"""Open regular files in an untrusted run directory, and nothing outside it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.storage.file_names import CONFIG, HISTORY, SUMMARY
from phasetrack.storage.json_schema import read_object

# Links are refused, and opening a pipe must not wait for its writer. Windows lacks these flags, and reads
# text unless told otherwise.
FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
# Whether a directory can be opened, and files in it by their names alone. Windows lacks this: a folder that
# is swapped between two looks is noticed there only by the next look.
_BY_DESCRIPTOR = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd


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
            status = os.lstat(self.path)
        except OSError:
            return False
        # a link made in its place may be given the inode of the directory that was deleted
        same = (status.st_dev, status.st_ino) == self._identity
        return same and stat.S_ISDIR(status.st_mode)

    def open(self, file: str, flags: int) -> int:
        """Open a file in the directory, as an `opener` of Python's `open`.

        Raises:
            OSError: if it is not a regular file, or the path contains a link.
        """
        *folders, name = Path(file).relative_to(self.path).parts
        if _BY_DESCRIPTOR:
            at = self._enter(folders)
            try:
                opened = os.open(name, flags | FLAGS, dir_fd=at)
            except OSError as error:
                raise _explained(error) from None
            finally:
                os.close(at)
        else:
            opened = self._opened_by_name(Path(file), flags)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise OSError(errno.EINVAL, "not a regular file", file)
        return opened

    def names(self, folder: str) -> list[str]:
        """List the names in an inner directory; none if it does not exist or is a link.

        Raises:
            OSError: if our own directory is not the one that was found.
        """
        if not _BY_DESCRIPTOR:
            inner = self.path / folder
            real = self.there() and inner.is_dir() and not inner.is_symlink()
            return [entry.name for entry in os.scandir(inner)] if real else []
        try:
            opened = self._enter([folder])
        except OSError:
            return []
        try:
            return [entry.name for entry in os.scandir(opened)]
        finally:
            os.close(opened)

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
            # a poll of a thousand runs asks thousands of times, and a Path takes longer than the system
            status = os.lstat(f"{self.path}/{file}")
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return the stamps of history, summary and configuration, which change with their content."""
        return tuple(self.stamp(file) for file in (HISTORY, SUMMARY, CONFIG))

    def _enter(self, folders: Sequence[str] = ()) -> int:
        """Open the directory, or one below it, as a descriptor."""
        at = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | FLAGS)
        status = os.fstat(at)
        if (status.st_dev, status.st_ino) != self._identity:
            os.close(at)
            raise _replaced(self.path)
        for folder in folders:
            try:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | FLAGS, dir_fd=at)
            except OSError as error:
                raise _explained(error) from None
            finally:
                os.close(at)
            at = inner
        return at

    def _opened_by_name(self, file: Path, flags: int) -> int:
        if not self.there():
            raise _replaced(self.path)
        parts = [part for part in (file, *file.parents) if part.is_relative_to(self.path)]
        if any(part.is_symlink() for part in parts):
            raise _explained(OSError(errno.ELOOP, "", str(file)))
        return os.open(file, flags | FLAGS)


def _replaced(path: Path) -> OSError:
    return OSError(errno.ESTALE, "the directory was replaced", str(path))


def _explained(error: OSError) -> OSError:
    """Return an error of opening a file, which names a link as such."""
    if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
        error.strerror = "a symbolic link, which is not followed"
    return error
