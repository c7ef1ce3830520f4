"""A run's records while it goes on: in memory, or the last of them there and the others in their file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from phasetrack._checks import ExpectedError
from phasetrack.records import History

# Records that are in memory at most where a file holds them too, until somebody asks for the history
# (chosen here: a megabyte of the default probes' readings).
HELD = 2048
# Records that are added to the columns in one go, which one by one takes several times longer.
TOGETHER = 64


class Source(Protocol):
    """Where records can be read back from."""

    def records(self) -> History:
        """All that were written so far."""
        ...


class Recording:
    """Records as they come.

    Until somebody asks for the history, a long run needs no memory for what its file holds. From then
    on it is kept, and asking again costs nothing.

    Args:
        history: what was recorded before.
        source: what holds those, and is given each further record too; None where nothing is.
    """

    def __init__(self, history: History | None = None, source: Source | None = None) -> None:
        self._history = History() if history is None else history
        self._source = source
        self._behind = 0  # records that the source alone holds
        self._last_rows: list[tuple[int, Mapping[str, float]]] = []  # not in the history yet
        self._shown = False  # whether somebody holds the history, to see it grow
        self._last = self._history.last_step

    @property
    def count(self) -> int:
        """Records so far."""
        return self._behind + self.held

    @property
    def held(self) -> int:
        """Records in memory."""
        return self._history.count + len(self._last_rows)

    @property
    def last_step(self) -> int:
        """The last recorded step; -1 if there is none."""
        return self._last

    def append(self, step: int, readings: Mapping[str, float]) -> None:
        """Add a record, which the source is given later."""
        self._last_rows.append((step, dict(readings)))  # sinks are given them too
        self._last = step
        if self._shown or len(self._last_rows) >= TOGETHER:
            self._settle()

    def written(self) -> None:
        """The source holds every record: what is more than `HELD` may leave the memory."""
        if self._source is not None and self.held >= HELD:
            self._settle()
            self._behind += self._history.count
            self._history = History()

    def _settle(self) -> None:
        """Add the last rows to the history; broken off, it can be done again."""
        rows = [row for row in self._last_rows if row[0] > self._history.last_step]
        if len(rows) == 1:
            self._history.append(*rows[0])
        else:
            self._history.append_all(rows)
        self._last_rows.clear()

    def whole(self) -> History:
        """Every record, in memory from now on.

        Raises:
            ExpectedError: if the source does not give back what it was given.
            OSError: likewise.
        """
        self._settle()
        if self._source is not None and self._behind:
            found = self._source.records()
            if found.count < self._behind:
                allowed = f"{self._behind} records in the history file"
                raise ExpectedError("history", allowed, f"{found.count}")
            whole = History()
            columns = {name: found[name][: self._behind] for name in found}
            whole.extend(found.steps[: self._behind], columns)
            for step, readings in self._history.rows():
                whole.append(step, readings)
            self._history = whole
        return self.rest()

    def rest(self) -> History:
        """What is in memory, to which every further record is added; the source is let go."""
        self._settle()
        self._source, self._behind, self._shown = None, 0, True
        return self._history
