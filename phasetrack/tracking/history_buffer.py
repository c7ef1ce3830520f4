"""A run's records: all in memory, or the last ones there and the others in their file."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from phasetrack.errors import ExpectedError
from phasetrack.phases.history import History

# Most records in memory where a file holds them too, until the history is asked for: about a megabyte
# of the default probes' readings.
HELD = 2048


class Source(Protocol):
    """A file from which records can be read back."""

    def records(self, *, names: Collection[str] | None = None) -> History:
        """Read every record written so far: some metrics, or all."""
        ...


class UnreadHistory(History):
    """A history that is read once something of it is asked for.

    Args:
        read: returns it.
    """

    def __init__(self, read: Callable[[], History]) -> None:
        self._read = read

    def __getattr__(self, name: str) -> Any:
        """Become the history that is read: it has what is missing here."""
        if name.startswith("__"):
            raise AttributeError(name)
        vars(self).update(vars(self._read()))
        return vars(self)[name]


class HistoryBuffer:
    """Collects records.

    Until the history is asked for, a long run needs no memory for the records in its file. From then
    on all stay in memory, and asking again costs nothing.

    Args:
        history: the records so far.
        source: the file that holds them and is given each further record; None without a file.
    """

    def __init__(self, history: History | None = None, source: Source | None = None) -> None:
        self._history = History() if history is None else history
        self._source = source
        self._behind = 0  # records that the source alone holds
        self._left: dict[str, float] = {}  # the last reading of each metric in them
        self._last = self._history.last_step

    @property
    def count(self) -> int:
        """Number of records so far."""
        return self._behind + self._history.count

    @property
    def last_step(self) -> int:
        """The last recorded step; -1 if there is none."""
        return self._last

    def append(self, step: int, readings: Mapping[str, float]) -> None:
        """Add a record, which the file is given later."""
        self._history.append(step, readings)
        self._last = step

    @property
    def all_held(self) -> bool:
        """Whether every record is in memory."""
        return self._source is None or not self._behind

    @property
    def final(self) -> dict[str, float]:
        """The readings of the last record; NaN for a metric that earlier ones alone have."""
        history = self._history
        if not history.count:
            return dict(self._left)
        last = {name: float(history[name][-1]) for name in history}
        return dict.fromkeys(self._left, math.nan) | last

    def mark_written(self) -> None:
        """Let records leave the memory, now that the file holds them all."""
        if self._source is not None and self._history.count >= HELD:
            self._left = self.final
            self._behind += self._history.count
            self._history = History()

    def read(self, names: Collection[str]) -> History:
        """Return some metrics of every record, without keeping more in memory than before.

        Raises:
            ExpectedError: if the file does not hold the records that it was given.
            OSError: if the file cannot be read.
        """
        if self._source is None or self.all_held:
            return self._history
        return self._whole(self._source, names)

    def load_all(self) -> History:
        """Return every record, which stay in memory from now on.

        Raises:
            ExpectedError: if the file does not hold the records that it was given.
            OSError: if the file cannot be read.
        """
        if self._source is not None and self._behind:
            self._history = self._whole(self._source, None)
        return self.release_source()

    def _whole(self, source: Source, names: Collection[str] | None) -> History:
        """Read the records that left the memory, and add those that are there."""
        whole = source.records(names=names)
        if whole.count < self._behind:
            raise ExpectedError(
                "history",
                f"The history file holds {whole.count} records, and {self._behind} were written.",
                "Leave the file alone while the run writes to it.",
            )
        whole.cut(self._behind)
        for step, readings in self._history.rows(names=names):
            whole.append(step, readings)
        return whole

    def release_source(self) -> History:
        """Return the records in memory, without reading the file from now on."""
        self._source, self._behind = None, 0
        return self._history
