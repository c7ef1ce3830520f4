"""Files that outlive their writer: they grow by whole records, or are replaced in one piece.

Every write of a run goes through here, so that one place answers for killed processes, full disks,
links that lead elsewhere and forked children. What is promised stands in docs/promises.md.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from phasetrack.errors import expected_error

CHUNK = 2**20
# 0 where the system has no such flag: links are then refused by `check_plain` alone
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class AppendFile:
    """A file that grows by whole records and can be cut back to where it once was.

    Of a record whose writing failed nothing stays. A child that was forked with the file open
    writes nothing.

    Args:
        path: the file; a link is refused.
        resume: take up a file that exists; it is not written to before `rewind` has said from
            where. Otherwise it must not exist.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.placed = not (resume and path.exists())
        if not self.placed:
            check_plain(path)
        flags = os.O_RDWR | _NO_LINK | (os.O_CREAT | os.O_EXCL if self.placed else 0)
        # unbuffered: what a forked child inherits holds no bytes that it could write again
        self._file = FileIO(path, "r+", opener=_opener(flags))
        self._buffer = bytearray()
        self._bytes = self._checksum = 0
        self._owner = os.getpid()

    @property
    def position(self) -> dict[str, int]:
        """How far the file is written, as bytes and their CRC-32; flushes first."""
        self.flush()
        return {"bytes": self._bytes, "checksum": self._checksum}

    @property
    def held(self) -> int:
        """Bytes that wait for the next `flush`."""
        return len(self._buffer)

    @property
    def size(self) -> int:
        """Bytes that were handed to the system."""
        return self._bytes

    @property
    def opener(self) -> Callable[[str, int], int] | None:
        """Opens the file that is written for a reader of this process, as `open` takes it.

        It is the same file even if its name was given to another since, or it was deleted. A forked
        child gets None: it would move its parent's place in the file.
        """
        if os.getpid() != self._owner or self._file.closed:
            return None
        return lambda *_: os.dup(self._file.fileno())

    def append(self, record: bytes) -> None:
        """Hold a record until the next `flush`.

        Raises:
            ExpectedError: if the file was taken up and nobody said from where.
        """
        if not self.placed:
            mend = "load_state_dict() goes on from a state, start_over() discards what is there"
            raise expected_error("resume", "to be told where to go on", f"{self.path.name}", mend)
        self._buffer += record

    def flush(self) -> None:
        """Hand what was appended to the system: it survives the end of this process.

        Raises:
            OSError: if it cannot be written, or the file was deleted or changed by somebody else.
        """
        if not self._buffer or os.getpid() != self._owner:
            return
        self._check_untouched()
        descriptor, pending = self._file.fileno(), bytes(self._buffer)
        os.lseek(descriptor, self._bytes, os.SEEK_SET)  # a reader may have moved it
        try:
            _write(descriptor, pending)
        except BaseException:
            with suppress(OSError):  # the disk may refuse this too
                self._cut(self._bytes)
            raise
        self._bytes += len(pending)
        self._checksum = zlib.crc32(pending, self._checksum)
        self._buffer.clear()

    def sync(self) -> None:
        """Flush, and have the system write all of it to the disk: it survives a power cut."""
        self.flush()
        os.fsync(self._file.fileno())

    def check(self, position: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the file begins with what was written up to a position."""
        length, wanted, checksum = int(position["bytes"]), int(position["checksum"]), 0
        for start in range(0, length, CHUNK):
            piece = _read_at(self._file.fileno(), min(CHUNK, length - start), start)
            checksum = zlib.crc32(piece, checksum)
        size = os.fstat(self._file.fileno()).st_size
        if length < 0 or size < length or checksum != wanted:
            raise expected_error(
                "resume",
                f"{self.path.name} as it was at the checkpoint, {length} bytes",
                f"one that is shorter or was changed since ({size} bytes)",
            )

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Cut off everything after a position that `check` has found good, and go on from there."""
        self._buffer.clear()
        self._cut(int(position["bytes"]))
        self._bytes, self._checksum = int(position["bytes"]), int(position["checksum"])
        self.placed = True

    def abandon(self) -> None:
        """Close, and write nothing more."""
        self._buffer.clear()
        self._file.close()

    def close(self) -> None:
        """Flush and close; may be called again."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()

    def _cut(self, length: int) -> None:
        os.ftruncate(self._file.fileno(), length)
        os.lseek(self._file.fileno(), length, os.SEEK_SET)

    def _check_untouched(self) -> None:
        status = os.fstat(self._file.fileno())
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "deleted while it was written", str(self.path))
        if status.st_size != self._bytes:
            raise OSError(errno.EIO, "changed by somebody else", str(self.path))


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file; where it is a link, the link is replaced and not what it leads to.
        content: all of it.
        sync: have it on the disk before this returns, so that a power cut spares it.
    """
    scratch = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        scratch.unlink()  # left by a process that was killed, or a trap
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666)
    try:
        try:
            _write(descriptor, content)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(scratch, path)  # noqa: PTH105 - one seam for tests that break it
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a directory's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_plain(path: Path) -> Path:
    """The path of a file that is no link, pipe or device.

    It looks once and by name, which any system can: enough for a command that reads and ends. The
    tab's server reads for days, and holds on to the directory (`tensorboard_plugin.run_folder`).

    Raises:
        ExpectedError: if it is one: it could lead out of the run directory, or never end.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise expected_error("run", f"a plain file {path}", "a link or something else")
    return path


def check_folder(path: Path) -> Path:
    """The path of a directory that is no link, or of nothing.

    Raises:
        ExpectedError: otherwise.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise expected_error("run", f"a directory {path}", "a link or something else")
    return path


def read_limited(path: Path, most: int) -> bytes:
    """A plain file's content.

    Raises:
        ExpectedError: if it is no plain file, or longer than `most` bytes.
    """
    if (size := check_plain(path).stat().st_size) > most:
        raise expected_error("run", f"at most {most} bytes in {path}", f"{size} bytes")
    return path.read_bytes()


def _opener(flags: int) -> Callable[[str, int], int]:
    return lambda path, _: os.open(path, flags, 0o666)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_at(descriptor: int, count: int, start: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count)
