"""A run's records while it goes on: in memory, or the last of them there and the others in their file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from phasetrack.errors import expected_error
from phasetrack.phases.history import History

# Records that are in memory at most where a file holds them too, until somebody asks for the history
# (chosen here: a megabyte of the default probes' readings).
HELD = 2048


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
        self._last = self._history.last_step

    @property
    def count(self) -> int:
        """Records so far."""
        return self._behind + self._history.count

    @property
    def last_step(self) -> int:
        """The last recorded step; -1 if there is none."""
        return self._last

    def append(self, step: int, readings: Mapping[str, float]) -> None:
        """Add a record, which the source is given later."""
        self._history.append(step, readings)
        self._last = step

    def written(self) -> None:
        """The source holds every record: what is more than `HELD` may leave the memory."""
        if self._source is not None and self._history.count >= HELD:
            self._behind += self._history.count
            self._history = History()

    def whole(self) -> History:
        """Every record, in memory from now on.

        Raises:
            ExpectedError: if the source does not give back what it was given.
            OSError: likewise.
        """
        if self._source is not None and self._behind:
            found = self._source.records()
            if found.count < self._behind:
                allowed = f"{self._behind} records in the history file"
                raise expected_error("history", allowed, f"{found.count}")
            whole = History()
            columns = {name: found[name][: self._behind] for name in found}
            whole.extend(found.steps[: self._behind], columns)
            for step, readings in self._history.rows():
                whole.append(step, readings)
            self._history = whole
        return self.rest()

    def rest(self) -> History:
        """What is in memory, to which every further record is added; the source is let go."""
        self._source, self._behind = None, 0
        return self._history
