"""Reads ``history.jsonl`` as it grows: each call reads the lines added since the last one.

A line is one JSON object: ``step``, then flat metric names; numbers that are not finite are written as
Python's json writes them. Steps ascend; of equal steps, which version 0.1.0 wrote where an optimizer step
raised and was taken again, the last one counts. A `LineDecoder` for the metrics seen so far decodes many lines at once. Where
it fails, Python's json decodes line by line, and names the damage.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from io import FileIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from phasetrack.phases.history import History
from phasetrack.storage.line_decoder import LineDecoder

T = TypeVar("T")

# Bytes per line, far beyond any record: a file with a longer one is not a history.
LONGEST_LINE = 2**24
# Bytes read at once: some hundred lines, few enough to stay in the processor's cache.
CHUNK = 2**20
# Lines from which on a decoder is worth its construction.
LEAST_LINES = 32
# Missing readings that a small file may cause (32 MiB of NaN); beyond, no more than its bytes.
MOST_GAPS = 2**22
# Integers up to here are exact as float64.
EXACT_STEPS = 2**53
# Bytes before the last read position; if they changed, the file was rewritten. Longer than a record
# without its readings.
TAIL = 4096
UNREAD = (0, 0, 0, 0)  # the identity of a file that was not read yet
# Numbers that no history had before, not even in an earlier process: they count from the present
# milliseconds, which are exact in every browser.
_generations = itertools.count(time.time_ns() // 1_000_000)


class HistoryFile:
    """A history file in memory.

    Args:
        path: the file.
        opener: as Python's `open` takes it; None opens any file.
        end: read at most so many bytes; None reads all.
        names: the metrics to keep in memory; None keeps all.

    Attributes:
        history: every complete line before the first damaged one.
        generation: a number that changes whenever records are not those of before: the file is read again
            from its beginning, or a step comes again.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[str, int], int] | None = None,
        end: int | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        self._path, self._opener, self._end, self._wanted = path, opener, end, names
        self._unopened = ""
        self._start_over()

    def _start_over(self) -> None:
        self.history, self._damage = History(), ""
        self.generation = next(_generations)
        self._offset, self._lines, self._tail = 0, 0, b""
        self._identity = UNREAD
        self._decoder: LineDecoder | None = None
        self._names: dict[str, None] = {}  # of all metrics, kept or not

    @property
    def looked(self) -> bool:
        """Whether the file was read at least once."""
        return self._identity != UNREAD

    @property
    def damage(self) -> str:
        """The first damaged line, or the reason why the file cannot be opened; empty if there is none.

        A last line without its end is not damage: it may be being written.
        """
        return self._unopened or self._damage

    @property
    def problem(self) -> str:
        """The `damage` with the file's name; empty if there is none."""
        return f"{self._path.name}, {self.damage}"[:300] if self.damage else ""

    def refresh(self) -> None:
        """Read the lines that were added since the last call.

        A file that was replaced, cut or rewritten is read from its beginning. A damaged line is read
        again once the file has changed.
        """
        try:
            file = FileIO(self._path, opener=self._opener)
        except OSError as error:
            self._unopened = str(error.strerror)
            return
        self._unopened = ""
        with file:
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if identity == self._identity:
                return
            if identity[:2] != self._identity[:2] or not self._only_grew(file, status.st_size):
                self._start_over()
            self._damage = ""
            self._read(file)
            self._tail, self._identity = self._before_offset(file), identity

    def _only_grew(self, file: FileIO, size: int) -> bool:
        """Whether the last bytes that were read are still in their place."""
        return size >= self._offset and self._before_offset(file) == self._tail

    def _before_offset(self, file: FileIO) -> bytes:
        length = min(TAIL, self._offset)
        file.seek(self._offset - length)
        return file.read(length)

    def _read(self, file: FileIO) -> None:
        file.seek(self._offset)
        rest = b""
        while not self._damage and (chunk := file.read(self._next_size(file.tell()))):
            *lines, rest = (rest + chunk).split(b"\n")
            self._add_lines(lines)
            if len(rest) > LONGEST_LINE and not self._damage:
                self._set_damage(f"longer than {LONGEST_LINE} bytes")
            elif self._gaps > max(MOST_GAPS, self._offset):
                self._set_damage("more gaps than readings: the metrics change from line to line")

    @property
    def _gaps(self) -> int:
        """The cells of the table in memory: a reading takes at least a byte of the file, a gap none."""
        return len(self.history) * self.history.count

    def _next_size(self, position: int) -> int:
        return CHUNK if self._end is None else min(CHUNK, max(self._end - position, 0))

    def _add_lines(self, lines: list[bytes]) -> None:
        if self._decoder and len(lines) >= LEAST_LINES:
            table = self._decoder.table(lines)
            if table is not None and _ascends(self.history.last_step, table["step"]):
                self.history.extend(table.pop("step").astype(np.int64), self._kept(table))
                self._offset += sum(map(len, lines)) + len(lines)
                self._lines += len(lines)
                return
        for line in lines:
            self._add_line(line)
            if self._damage:
                return
        names = tuple(self._names)
        if len(lines) >= LEAST_LINES and (not self._decoder or self._decoder.names != names):
            self._decoder = LineDecoder.of(names)

    def _add_line(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
            readings = {str(name): float(value) for name, value in row.items()}
            last = self.history.last_step
            if self.history.count and step < last:
                raise ValueError(f"step {step} follows step {last}")
            if step == last and self.history.count:  # recorded, not taken, and recorded again
                self.history.cut(self.history.count - 1)
                self.generation = next(_generations)
            self.history.append(step, self._kept(readings))
            self._names.update(dict.fromkeys(readings))
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as e:
            self._set_damage(f"{type(e).__name__}: {e}")
            return
        self._offset += len(line) + 1
        self._lines += 1

    def _kept(self, readings: Mapping[str, T]) -> Mapping[str, T]:
        if self._wanted is None:
            return readings
        return {name: value for name, value in readings.items() if name in self._wanted}

    def _set_damage(self, reason: str) -> None:
        self._damage = f"line {self._lines + 1}: {reason}"[:300]


def _ascends(last: int, steps: NDArray[np.float64]) -> bool:
    """Whether steps ascend from a last one and are exact as float64."""
    return bool(steps[0] > last and steps[-1] < EXACT_STEPS and (np.diff(steps) > 0).all())
