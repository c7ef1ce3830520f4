"""Files that survive their writer: they grow by whole records, or are replaced in one piece.

Every write of phasetrack goes through this module: it alone guards against killed processes, full disks,
links out of a directory and forked children. docs/promises.md lists the guarantees.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError

try:
    import fcntl
except ImportError:  # Windows
    _FULL_SYNC = None
else:
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

CHUNK = 2**20


class AppendFile:
    """A file that grows by whole records and can be cut back to an earlier position.

    If a write fails, the partial record is removed. A forked child writes nothing.

    Args:
        path: the file; a link is refused.
        resume: continue an existing file, from the position that `rewind` names. Without it the file
            must not exist.
        seldom: hold no descriptor between two flushes. A process may open few files (256 on macOS), and a
            file that is written every few seconds needs none meanwhile.
    """

    def __init__(self, path: Path, *, resume: bool = False, seldom: bool = False) -> None:
        self.path = path = path.absolute()  # whichever directory the process is in later
        self.placed = not (resume and path.exists())
        if not self.placed:
            check_plain(path)
        flags = os.O_RDWR | _plain() | (os.O_CREAT | os.O_EXCL if self.placed else 0)
        # unbuffered: what a forked child inherits holds no bytes that it could write again
        self._file = FileIO(path, "r+", opener=_opener(flags))
        self._buffer = bytearray()
        self._bytes = self._checksum = 0
        self._owner = os.getpid()
        self._identity = os.fstat(self._file.fileno())
        self._closed, self._seldom = False, seldom
        if seldom:
            self._file.close()

    @property
    def position(self) -> dict[str, int]:
        """The number of bytes written and their CRC-32; flushes first."""
        self.flush()
        return {"bytes": self._bytes, "checksum": self._checksum}

    @property
    def held(self) -> int:
        """The number of bytes that wait for the next `flush`."""
        return len(self._buffer)

    @property
    def closed(self) -> bool:
        """Whether nothing more is written."""
        return self._closed

    @property
    def size(self) -> int:
        """The number of bytes handed to the system."""
        return self._bytes

    @property
    def opener(self) -> Callable[[str, int], int] | None:
        """An `opener` for `open` that reads the file being written, in this process.

        It opens the same file even if that was renamed or deleted. None in a forked child, which would
        move its parent's position in the file.
        """
        if os.getpid() != self._owner or self._file.closed:
            return None  # a file that is opened seldom is read by its name
        return lambda *_: os.dup(self._file.fileno())

    def append(self, record: bytes) -> None:
        """Hold a record until the next `flush`.

        Raises:
            ExpectedError: if the file existed and `rewind` has not set a position.
        """
        if not self.placed:
            problem = f"{self.path.name!r} holds records of an earlier run."
            fix = "Continue it with load_state_dict(), or discard it with start_over()."
            raise ExpectedError("resume", problem, fix)
        self._buffer += record

    def flush(self) -> None:
        """Hand the appended records to the system, where they survive the end of this process.

        Raises:
            OSError: if the system refuses, or if the file was deleted or changed by another writer.
        """
        if not self._buffer or os.getpid() != self._owner:
            return
        if self._closed:
            raise ValueError(f"{self.path.name!r} is closed")
        pending = bytes(self._buffer)
        with self._opened() as descriptor:
            self._check_untouched(descriptor)
            os.lseek(descriptor, self._bytes, os.SEEK_SET)  # a reader may have moved it
            try:
                _write(descriptor, pending)
            except BaseException:
                with suppress(OSError):  # a full disk may refuse this too
                    _cut(descriptor, self._bytes)
                raise
        self._bytes += len(pending)
        self._checksum = zlib.crc32(pending, self._checksum)
        self._buffer.clear()

    def sync(self) -> None:
        """Flush, and have the system write the file to the disk, where it survives a power cut."""
        self.flush()
        with self._opened() as descriptor:
            _force(descriptor)

    def check(self, position: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the file begins with the bytes of a position."""
        length, wanted, checksum = int(position["bytes"]), int(position["checksum"]), 0
        with self._opened() as descriptor:
            for start in range(0, length, CHUNK):
                piece = _read_at(descriptor, min(CHUNK, length - start), start)
                checksum = zlib.crc32(piece, checksum)
            size = os.fstat(descriptor).st_size
        if length < 0 or size < length or checksum != wanted:
            problem = (
                f"{self.path.name!r} ({size} bytes) does not begin with the {length} bytes that it had "
                "at the checkpoint."
            )
            raise ExpectedError("resume", problem, "Restore the file, or start a new run.")

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Cut the file back to a position that passed `check`, and continue from there."""
        self._buffer.clear()
        with self._opened() as descriptor:
            _cut(descriptor, int(position["bytes"]))
        self._bytes, self._checksum = int(position["bytes"]), int(position["checksum"])
        self.placed = True

    def abandon(self) -> None:
        """Close, and write nothing more."""
        self._buffer.clear()
        self._closed = True
        self._file.close()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            self._file.close()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield a descriptor of the file: the one that is held, or one that is closed afterwards.

        Raises:
            OSError: if the file was deleted, or another file has its name.
        """
        if not self._file.closed:
            yield self._file.fileno()
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | _plain())
        except FileNotFoundError:
            raise self._deleted() from None
        try:
            if not os.path.samestat(os.fstat(descriptor), self._identity):
                raise self._deleted()
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_untouched(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if status.st_nlink == 0:
            raise self._deleted()
        if status.st_size != self._bytes:
            raise OSError(errno.EIO, "changed by another writer", str(self.path))

    def _deleted(self) -> OSError:
        return FileNotFoundError(errno.ENOENT, "deleted while phasetrack wrote it", str(self.path))


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file; a link is replaced, not its target.
        content: the whole new content.
        sync: wait until the file is on the disk, where it survives a power cut.

    Raises:
        OSError: if the system refuses, or `path` names a device, such as ``/dev/null``.
    """
    _check_no_device(path)
    scratch = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        scratch.unlink()  # left by a killed process, or a link that leads out of the directory
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _plain(), 0o666)
    try:
        try:
            _write(descriptor, content)
            if sync:
                _force(descriptor)
        finally:
            os.close(descriptor)
        os.replace(scratch, path)  # noqa: PTH105 - one seam for tests that break it
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def move_file(path: Path, target: Path) -> None:
    """Give a file another name in its directory; a file or link of that name is replaced."""
    os.replace(path, target)  # noqa: PTH105 - one seam for tests that break it


def write_output(path: Path, content: bytes, argument: str = "file") -> None:
    """Write a report, figure or table to the place that the user chose, by `replace_file`.

    Raises:
        ExpectedError: naming `argument`, if the file cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise ExpectedError(
            argument,
            f"{str(path)!r} cannot be written ({error.strerror}).",
            "Choose a file in a directory that exists and is writable.",
        ) from None


def make_output_folder(path: Path, argument: str) -> Path:
    """Make the folder that the user chose, and return it.

    Raises:
        ExpectedError: naming `argument`, if it cannot be made or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExpectedError(
            argument,
            f"{str(path)!r} cannot be written ({error.strerror}).",
            "Choose a folder that you may write to.",
        ) from None
    return path


def overwrite_held(path: Path, content: bytes) -> None:
    """Give a file that this process holds open, such as a lock's, new content without replacing it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | _plain())
    try:
        _write(descriptor, content)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a directory are on the disk, where the system opens directories."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows
        return
    try:
        _force(descriptor)
    finally:
        os.close(descriptor)


def check_plain(path: Path) -> Path:
    """Return the path of a regular file, or of a file that does not exist.

    The check looks once, by name: enough for a command that reads and ends. The tab's server reads for
    days, and keeps the directory open instead (`display.tensorboard.safe_folder`).

    Raises:
        ExpectedError: for a link, which may lead out of the run directory, and for a pipe or device,
            which may never end.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        fix = "phasetrack does not follow links in run directories: put the file itself there."
        raise ExpectedError("run", f"{str(path)!r} is not a regular file.", fix)
    return path


def check_folder(path: Path) -> Path:
    """Return the path of a directory, or of one that does not exist.

    Raises:
        ExpectedError: for a link or a file.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        fix = "phasetrack does not follow links in run directories: put the folder itself there."
        raise ExpectedError("run", f"{str(path)!r} is not a directory.", fix)
    return path


def read_limited(path: Path, most: int) -> bytes:
    """Read a regular file.

    Raises:
        ExpectedError: for any other kind of file, or one of more than `most` bytes.
    """
    if (size := check_plain(path).stat().st_size) > most:
        raise ExpectedError("run", f"{str(path)!r} has {size} bytes, more than {most}.")
    try:
        return path.read_bytes()
    except MemoryError:
        problem = f"{str(path)!r} has {size} bytes, more than this process may hold."
        raise ExpectedError("run", problem) from None


def _plain() -> int:
    """Return the flags that open a file itself, byte by byte.

    Of the two, a system that has no links to follow or no text mode lacks one; `check_plain` alone refuses
    links on the former.
    """
    return getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def _check_no_device(path: Path) -> None:
    """Raise OSError for a name that must stay: a device, or a name in the directory of devices."""
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or str(path.absolute().parent) == "/dev":
            raise OSError(errno.EINVAL, "a device", str(path))


def _force(descriptor: int) -> None:
    """Wait until a file is on the disk: on macOS `os.fsync` leaves it in the disk's own memory."""
    os.fsync(descriptor)
    if _FULL_SYNC is not None:
        with suppress(OSError):  # file systems that lack it
            fcntl.fcntl(descriptor, _FULL_SYNC)


def _opener(flags: int) -> Callable[[str, int], int]:
    return lambda path, _: os.open(path, flags, 0o666)


def _cut(descriptor: int, length: int) -> None:
    os.ftruncate(descriptor, length)
    os.lseek(descriptor, length, os.SEEK_SET)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_at(descriptor: int, count: int, start: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count)
