"""Write TensorBoard's event files without a thread, so that the position in the file is known."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata

from phasetrack.errors import ExpectedError
from phasetrack.storage.atomic_files import AppendFile

# Seconds between two flushes: TensorBoard does not read more often.
FLUSH_SECONDS = 5.0
# Bytes that wait for a flush at most: the readings of about a hundred steps.
FLUSH_BYTES = 2**18
# Event files of other programs may lie in the same directory and are never touched.
_OURS = re.compile(r"events\.out\.tfevents\.(\d{10,})\.[^/\\\0]*\.phasetrack")


class EventFile:
    """One event file, opened by `new` or `again`; a context manager that closes it."""

    def __init__(self, file: AppendFile) -> None:
        self._file, self._flushed = file, time.monotonic()

    @classmethod
    def new(cls, logdir: Path) -> Self:
        """Begin a file whose name sorts after every other event file of phasetrack."""
        # readers sort files by name, and the clock may have been set back
        stamps = [int(_OURS.fullmatch(path.name)[1]) for path in event_files(logdir)]  # type: ignore[index]
        stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
        name = f"events.out.tfevents.{stamp:010}.{_host()}.phasetrack"
        created = cls(AppendFile(logdir / name, seldom=True))
        about = SourceMetadata(writer="phasetrack")
        first = Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=about)
        created._file.append(_framed(first.SerializeToString()))
        try:
            created._file.flush()
        except BaseException:
            created.abandon()
            raise
        return created

    @classmethod
    def again(cls, path: Path) -> Self:
        """Open an existing file to append to it.

        Raises:
            ExpectedError: if the file does not exist.
        """
        if not path.exists():
            problem = f"The event file {path.name!r}, which the checkpoint needs, is missing."
            raise ExpectedError("resume", problem, "Restore the file, or start a new run.")
        return cls(AppendFile(path, resume=True, seldom=True))

    def write(self, event: Event) -> None:
        """Append an event, and flush if it is time."""
        self._file.append(_framed(event.SerializeToString()))
        now = time.monotonic()
        if now - self._flushed >= FLUSH_SECONDS or self._file.held >= FLUSH_BYTES:
            self._flushed = now
            self._file.flush()

    def state(self) -> dict[str, Any]:
        """Return name and position of the file."""
        return {"name": self._file.path.name, **self._file.position}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if the file does not begin with its content at `state`."""
        self._file.check(state)

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Truncate the file to its position at `state`."""
        self._file.rewind(state)

    def sync(self) -> None:
        """Flush the file to the disk."""
        self._file.sync()

    def abandon(self) -> None:
        """Close the file without flushing it."""
        self._file.abandon()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def event_files(logdir: Path) -> list[Path]:
    """Return the event files of phasetrack in a directory, sorted by name."""
    return sorted(path for path in logdir.glob("events.out.tfevents.*") if is_ours(path.name))


def is_ours(name: str) -> bool:
    """Whether `name` is a name of phasetrack's event files, and so without any directory part."""
    return _OURS.fullmatch(name) is not None


def _framed(event: bytes) -> bytes:
    """Frame an event as a TFRecord: length, its checksum, the event, its checksum.

    TensorBoard's own writer makes the same bytes, but its checksum in pure Python takes ten times as
    long as everything else.
    """
    length = struct.pack("<Q", len(event))
    return b"".join((length, _masked_checksum(length), event, _masked_checksum(event)))


def _masked_checksum(data: bytes) -> bytes:
    """Return the CRC-32C, rotated by 15 bits and shifted by a constant, as the format requires."""
    value = google_crc32c.value(data)
    rotated = (value >> 15 | value << 17) + 0xA282EAD8
    return struct.pack("<I", rotated & 0xFFFFFFFF)


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "host"
