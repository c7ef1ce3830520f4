"""Times of the recorded steps, at most one line per second, for a time axis.

They have a file of their own, so that a history holds only computed values and is reproducible.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import AppendFile

CLOCK = "clock.jsonl"
# Seconds between two lines, and the number of lines that a reader takes.
SPACING = 1.0
MOST_LINES = 100_000
LONGEST_LINE = 1000


class ClockSink:
    """Appends ``{"step": ..., "seconds": ...}`` for the first record, then once per second.

    Args:
        path: the file, ``clock.jsonl`` in a run directory.
        resume: continue an existing file and its seconds; without it the file must not exist.
    """

    state_key = "clock"

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._file = AppendFile(path, resume=resume, seldom=True)
        self._start: float | None = None
        self._before = 0.0  # seconds before the run was resumed
        self._written = -SPACING
        self._last = (-1, 0.0)

    def write(self, record: Record) -> None:
        """Append a record's time if a second has passed since the last line."""
        now = time.monotonic()  # the wall clock can be set back
        self._start = now if self._start is None else self._start
        self._last = (record.step, self._before + max(0.0, now - self._start))
        if self._last[1] - self._written >= SPACING:
            self._append()

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Append the last record's time, and close the file."""
        if self._last[0] >= 0 and self._last[1] > self._written:
            self._append()
        self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the file's position, the time of its last line and the last record's time."""
        return {**self._file.position, "written": self._written, "last": list(self._last)}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the file begins with the bytes that it had in a state."""
        self._file.check(state)
        step, seconds = state["last"]
        float(state["written"]), int(step), float(seconds)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back to a state, and continue from its time."""
        self._file.rewind(state)
        step, seconds = state["last"]
        self._last, self._written = (int(step), float(seconds)), float(state["written"])
        self._start, self._before = None, self._last[1]

    def sync(self) -> None:
        """Wait until the file is on the disk."""
        self._file.sync()

    def abandon(self) -> None:
        """Close the file and write nothing more."""
        self._file.abandon()

    def _append(self) -> None:
        step, seconds = self._last
        self._written = seconds
        self._file.append(json.dumps({"step": step, "seconds": round(seconds, 6)}).encode() + b"\n")
        self._file.flush()


def read_clock(path: Path, opener: Callable[[str, int], int] | None = None) -> list[list[float]]:
    """Read pairs of step and seconds, ascending; lines that are damaged or out of order are left out.

    Args:
        path: the file; a missing one has no pairs.
        opener: as Python's `open` takes it; None opens any file.
    """
    pairs: list[list[float]] = []
    try:
        with open(path, encoding="utf-8", errors="replace", opener=opener) as lines:
            for _ in range(MOST_LINES):
                if not (line := lines.readline(LONGEST_LINE)):
                    break
                try:
                    row = json.loads(line)
                    pair = [float(row["step"]), float(row["seconds"])]
                except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
                    continue
                if not all(map(math.isfinite, pair)):
                    continue
                if not pairs or (pair[0] > pairs[-1][0] and pair[1] >= pairs[-1][1]):
                    pairs.append(pair)
    except OSError:
        return []
    return pairs
