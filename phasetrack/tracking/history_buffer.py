"""A run's records: all in memory, or the last ones there and the others in their file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from phasetrack.errors import ExpectedError
from phasetrack.phases.history import History

# Most records in memory where a file holds them too, until the history is asked for: about a megabyte
# of the default probes' readings.
HELD = 2048


class Source(Protocol):
    """A file from which records can be read back."""

    def records(self) -> History:
        """Read every record written so far."""
        ...


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

    def mark_written(self) -> None:
        """Let records leave the memory, now that the file holds them all."""
        if self._source is not None and self._history.count >= HELD:
            self._behind += self._history.count
            self._history = History()

    def load_all(self) -> History:
        """Return every record, which stay in memory from now on.

        Raises:
            ExpectedError: if the file does not hold the records that it was given.
            OSError: if the file cannot be read.
        """
        if self._source is not None and self._behind:
            found = self._source.records()
            if found.count < self._behind:
                raise ExpectedError(
                    "history",
                    f"The history file holds {found.count} records, and {self._behind} were written.",
                    "Leave the file alone while the run writes to it.",
                )
            whole = History()
            columns = {name: found[name][: self._behind] for name in found}
            whole.extend(found.steps[: self._behind], columns)
            for step, readings in self._history.rows():
                whole.append(step, readings)
            self._history = whole
        return self.release_source()

    def release_source(self) -> History:
        """Return the records in memory, without reading the file from now on."""
        self._source, self._behind = None, 0
        return self._history
