"""The lossless history: one JSON object per recorded step, appended and flushed at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import AppendFile
from phasetrack.storage.file_names import HISTORY
from phasetrack.storage.history_reader import HistoryFile


class HistorySink:
    """Appends each record to a JSON Lines file; every line is complete once written.

    Args:
        path: the file, ``history.jsonl`` in a run directory.
        resume: continue an existing file; without it the file must not exist.
    """

    state_key = "history"

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._file = AppendFile(path, resume=resume)
        self._last = -1

    def write(self, record: Record) -> None:
        """Append ``step`` and the readings as one line.

        Raises:
            ExpectedError: if the step does not follow the last one; the file's reader would refuse it.
        """
        if record.step <= self._last:
            raise ExpectedError(
                "step",
                f"Step {record.step} follows step {self._last}.",
                "Write records in the order of their steps, each step once.",
            )
        row = {"step": record.step, **record.readings}
        self._file.append(json.dumps(row).encode() + b"\n")
        self._file.flush()
        self._last = record.step

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Close the file."""
        self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the file's position, and the last step in it."""
        return {**self._file.position, "last": self._last}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the file begins with the bytes that it had in a state."""
        self._file.check(state)
        _last_step(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back to a state."""
        self._file.rewind(state)
        self._last = _last_step(state)

    def records(
        self, state: Mapping[str, Any] | None = None, names: Collection[str] | None = None
    ) -> History:
        """Read the records of the file, or those up to a state that passed `check_state`; also once it is closed.

        Args:
            state: None reads all that this sink has written.
            names: the metrics to read; None reads all.

        Raises:
            ExpectedError: if a record cannot be read, or the closed file does not hold what was written.
            OSError: if the closed file was deleted.
        """
        if self._file.closed:  # somebody may have changed it since
            self._file.check(self._file.position)
        end = self._file.size if state is None else int(state["bytes"])
        file = HistoryFile(self._file.path, self._file.opener, end, names)
        file.refresh()
        if file.damage:
            raise ExpectedError("resume", f"{HISTORY!r} is damaged: {file.damage}.")
        return file.history

    def sync(self) -> None:
        """Wait until the file is on the disk."""
        self._file.sync()

    def abandon(self) -> None:
        """Close the file and write nothing more."""
        self._file.abandon()


def _last_step(state: Mapping[str, Any]) -> int:
    """Return the last step of a state; -1 where an older version saved none."""
    return int(state.get("last", -1))
