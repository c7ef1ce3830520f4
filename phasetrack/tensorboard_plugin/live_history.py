"""A history file read as it grows: each call reads what was added, and nothing twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

from phasetrack.records import History

# Bytes of one line, far beyond any record (chosen here): a longer one is no history.
LONGEST_LINE = 2**24


class LiveHistory:
    """``history.jsonl`` in memory.

    Attributes:
        history: every complete line up to the first damaged one.
        problem: which line is damaged and why; empty if none is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_over()

    def _start_over(self) -> None:
        self.history, self.problem = History(), ""
        self._offset, self._lines, self._identity = 0, 0, (0, 0)

    def refresh(self) -> bool:
        """Read what was added since the last call; whether anything was.

        A file that was replaced, or became shorter, is read from its beginning.
        """
        try:
            file = self._path.open("rb")
        except OSError as error:
            self.problem = f"{self._path.name}: {error.strerror}"
            return False
        with file:
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            if identity != self._identity or status.st_size < self._offset:
                self._start_over()
                self._identity = identity
            if self.problem or status.st_size == self._offset:
                return False
            before = len(self.history.steps)
            file.seek(self._offset)
            while not self.problem:
                line = file.readline(LONGEST_LINE)
                if not line.endswith(b"\n"):
                    if len(line) == LONGEST_LINE:
                        self.problem = self._damage(f"longer than {LONGEST_LINE} bytes")
                    break  # cut off, or being written now
                self._take(line)
            return len(self.history.steps) > before

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
            readings = {str(name): float(value) for name, value in row.items()}
            if len(self.history.steps) and step <= self.history.last_step:
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
            self.problem = self._damage(f"{type(e).__name__}: {e}")
            return
        self._offset += len(line)
        self._lines += 1

    def _damage(self, what: str) -> str:
        return f"{self._path.name}, line {self._lines + 1}: {what}"[:300]
