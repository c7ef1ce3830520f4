"""``history.jsonl``, read as it grows: each call reads what was added, and nothing twice.

A line is one JSON object: ``step``, then flat metric names; numbers that are not finite are written
as Python's json does. Lines are decoded many at a time by a decoder made for the metrics seen so far;
whatever it does not take goes through Python's json, a line at a time, which also names the damage.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import struct
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from phasetrack.phases.history import History

# Bytes of one line, far beyond any record (chosen here): a longer one is no history.
LONGEST_LINE = 2**24
# Bytes read at once (chosen here: some hundred lines, small enough to stay in the processor's cache).
BLOCK = 2**20
# Lines that are worth a decoder of their own, and metrics that it may have (chosen here).
LEAST_LINES, MOST_METRICS = 32, 10_000
# Readings that any file may fill with gaps (chosen here: 32 MiB); a larger table takes a larger file.
MOST_GAPS = 2**22
# Integers below this are the same as float64.
EXACT_STEPS = 2**53
# Bytes before the place that was read up to, which tell whether a file was written anew (chosen here:
# longer than a record without its readings).
TAIL = 4096
NEVER = (0, 0, 0, 0)  # what an unread file looks like
# Numbers of beginnings that no other history has, also not one of a process that ended: milliseconds
# are exact in every browser.
_generations = itertools.count(time.time_ns() // 1_000_000)


class HistoryFile:
    """A history file in memory.

    Args:
        path: the file.
        opener: as that of Python's `open`, for files from elsewhere; None opens any.
        end: read no further than so many bytes; None reads all.
        start: begin there, where a line does.

    Attributes:
        history: every complete line up to the first damaged one.
        generation: a number that changes whenever the file is read from its beginning again.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[str, int], int] | None = None,
        end: int | None = None,
        start: int = 0,
    ) -> None:
        self._path, self._opener, self._unopened = path, opener, ""
        self._start, self._end = start, end
        self._start_over()

    def _start_over(self) -> None:
        self.history, self._damage = History(), ""
        self.generation = next(_generations)
        self._offset, self._lines, self._tail = self._start, 0, b""
        self._seen = NEVER
        self._decoder: _Decoder | None = None

    @property
    def looked(self) -> bool:
        """Whether the file was read once."""
        return self._seen != NEVER

    @property
    def damage(self) -> str:
        """Which line is damaged and why, or why the file cannot be opened; empty if nothing is wrong.

        A last line that is cut off, or being written now, is no damage.
        """
        return self._unopened or self._damage

    @property
    def problem(self) -> str:
        """`damage` with the file's name; empty if nothing is wrong."""
        return f"{self._path.name}, {self.damage}"[:300] if self.damage else ""

    def refresh(self) -> None:
        """Read what was added since the last call.

        A file that was replaced, became shorter or was written anew is read from its beginning. A
        damaged line is looked at again once the file has changed.
        """
        try:
            file = FileIO(self._path, opener=self._opener)
        except OSError as error:
            self._unopened = str(error.strerror)
            return
        self._unopened = ""
        with file:
            status = os.fstat(file.fileno())
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return
            if seen[:2] != self._seen[:2] or not self._goes_on(file, status.st_size):
                self._start_over()
            self._damage = ""
            self._read(file)
            self._tail, self._seen = self._before_offset(file), seen

    def _goes_on(self, file: FileIO, size: int) -> bool:
        """Whether a file still begins with what was read of it, as far as its last bytes tell."""
        return size >= self._offset and self._before_offset(file) == self._tail

    def _before_offset(self, file: FileIO) -> bytes:
        length = min(TAIL, self._offset)
        file.seek(self._offset - length)
        return file.read(length)

    def _read(self, file: FileIO) -> None:
        file.seek(self._offset)
        rest = b""
        while not self._damage and (block := file.read(self._next(file.tell()))):
            *lines, rest = (rest + block).split(b"\n")
            self._take(lines)
            if len(rest) > LONGEST_LINE and not self._damage:
                self._damaged(f"longer than {LONGEST_LINE} bytes")
            elif self._gaps > max(MOST_GAPS, self._offset):
                self._damaged("more gaps than readings: the metrics change from line to line")

    @property
    def _gaps(self) -> int:
        """Cells of the table in memory; a reading takes more than a byte of the file, a gap none."""
        return len(self.history) * self.history.count

    def _next(self, place: int) -> int:
        return BLOCK if self._end is None else min(BLOCK, max(self._end - place, 0))

    def _take(self, lines: list[bytes]) -> None:
        if self._decoder and len(lines) >= LEAST_LINES:
            table = self._decoder.table(lines)
            if table is not None and _ascends(self.history.last_step, table["step"]):
                self.history.extend(table.pop("step").astype(np.int64), table)
                self._offset += sum(map(len, lines)) + len(lines)
                self._lines += len(lines)
                return
        for line in lines:
            self._take_one(line)
            if self._damage:
                return
        names = tuple(self.history)
        if len(lines) >= LEAST_LINES and (not self._decoder or self._decoder.names != names):
            self._decoder = _Decoder.of(names)

    def _take_one(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
            readings = {str(name): float(value) for name, value in row.items()}
            if self.history.count and step <= self.history.last_step:
                raise ValueError(f"step {step} follows step {self.history.last_step}")
            self.history.append(step, readings)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as e:
            self._damaged(f"{type(e).__name__}: {e}")
            return
        self._offset += len(line) + 1
        self._lines += 1

    def _damaged(self, what: str) -> None:
        self._damage = f"line {self._lines + 1}: {what}"[:300]


class _Decoder:
    """Decodes lines that hold no other metrics than some known ones, in any order.

    Attributes:
        names: those metrics.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        fields = {f"metric_{number}": name for number, name in enumerate(names)}
        line = msgspec.defstruct(
            "Line",
            # a metric that a line lacks is NaN there; a string is one of the quoted numbers below
            [("step", int), *((field, float | str, math.nan) for field in fields)],
            rename=fields,
            forbid_unknown_fields=True,
            gc=False,
        )
        self.names = names
        self._decode = msgspec.json.Decoder(line).decode
        # a line's numbers as a table keeps them: several times as fast as appending them to one
        self._pack = struct.Struct(f"{1 + len(names)}d").pack

    @classmethod
    def of(cls, names: tuple[str, ...]) -> _Decoder | None:
        """A decoder for some metrics; None if they are too many, or oddly named."""
        try:
            return cls(names) if len(names) <= MOST_METRICS else None
        except ValueError:
            return None

    def table(self, lines: list[bytes]) -> dict[str, NDArray[np.float64]] | None:
        """The lines as columns, ``step`` and all metrics; None if a line needs a closer look."""
        decode, values, pack = self._decode, msgspec.structs.astuple, self._pack
        try:
            rows = [
                pack(*map(float, values(decode(_quoted(line)))))
                if b"N" in line or b"I" in line
                else pack(*values(decode(line)))
                for line in lines
            ]
        except (ValueError, TypeError, RecursionError, OverflowError, struct.error):
            return None
        columns = np.frombuffer(b"".join(rows)).reshape(len(lines), 1 + len(self.names)).T
        return dict(zip(("step", *self.names), columns, strict=True))


def _quoted(line: bytes) -> bytes:
    """Python's numbers that are not finite, which JSON does not know, as strings.

    Should this hit a metric's name, the line is no JSON any more and gets its closer look.
    """
    line = line.replace(b"NaN", b'"NaN"')
    if b"I" not in line:
        return line
    return line.replace(b"Infinity", b'"Infinity"').replace(b'-"Infinity"', b'"-Infinity"')


def _ascends(last: int, steps: NDArray[np.float64]) -> bool:
    """Whether steps, exact as float64, go up from a last one."""
    return bool(steps[0] > last and steps[-1] < EXACT_STEPS and (np.diff(steps) > 0).all())
