"""TensorBoard's event files, written record by record without a thread, so that a position is known."""

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

from phasetrack.errors import expected_error
from phasetrack.storage.atomic_files import AppendFile

# Seconds after which what was written is handed to the system (chosen here, as TensorBoard reads no
# sooner).
FLUSH_SECONDS = 5.0
# ... or once so many bytes wait (chosen here: a hundred steps' readings), however fast they come.
FLUSH_BYTES = 2**18
# Event files of others may lie beside ours, and are never touched.
_OURS = re.compile(r"events\.out\.tfevents\.(\d{10,})\.[^/\\\0]*\.phasetrack")


class EventFile:
    """One event file.

    Made by `new` or `again`; a context manager that closes it.
    """

    def __init__(self, file: AppendFile) -> None:
        self._file, self._flushed = file, time.monotonic()

    @classmethod
    def new(cls, logdir: Path) -> Self:
        """Begin a file, whose name comes after those of all other files of ours."""
        # readers go by the names' order, and the clock may have been set back
        stamps = [int(_OURS.fullmatch(path.name)[1]) for path in event_files(logdir)]  # type: ignore[index]
        stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
        name = f"events.out.tfevents.{stamp:010}.{_host()}.phasetrack"
        created = cls(AppendFile(logdir / name))
        about = SourceMetadata(writer="phasetrack")
        first = Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=about)
        created._file.append(_framed(first.SerializeToString()))
        created._file.flush()
        return created

    @classmethod
    def again(cls, path: Path) -> Self:
        """A file that exists.

        Raises:
            ExpectedError: if it does not.
        """
        if not path.exists():
            raise expected_error("resume", f"the event file {path.name}", "none of this name")
        return cls(AppendFile(path, resume=True))

    def write(self, event: Event) -> None:
        """Append an event."""
        self._file.append(_framed(event.SerializeToString()))
        now = time.monotonic()
        if now - self._flushed >= FLUSH_SECONDS or self._file.held >= FLUSH_BYTES:
            self._flushed = now
            self._file.flush()

    def state(self) -> dict[str, Any]:
        """Name and position."""
        return {"name": self._file.path.name, **self._file.position}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if the file does not begin with what was written then."""
        self._file.check(state)

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._file.rewind(state)

    def sync(self) -> None:
        """Have the file on the disk."""
        self._file.sync()

    def abandon(self) -> None:
        """Close, and write nothing more."""
        self._file.abandon()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def event_files(logdir: Path) -> list[Path]:
    """The event files of phasetrack in a directory, in the order of their names."""
    return sorted(path for path in logdir.glob("events.out.tfevents.*") if is_ours(path.name))


def is_ours(name: str) -> bool:
    """Whether phasetrack writes files of such a name; it then leads out of no directory."""
    return _OURS.fullmatch(name) is not None


def _framed(event: bytes) -> bytes:
    """A record of TensorFlow's format: length, its checksum, the event, its checksum.

    TensorBoard's own writer makes the same bytes, with a checksum that takes ten times as long as all else.
    """
    length = struct.pack("<Q", len(event))
    return b"".join((length, _masked_checksum(length), event, _masked_checksum(event)))


def _masked_checksum(data: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and shifted by a constant, as the format asks."""
    value = google_crc32c.value(data)
    turned = (value >> 15 | value << 17) + 0xA282EAD8
    return struct.pack("<I", turned & 0xFFFFFFFF)


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "host"
