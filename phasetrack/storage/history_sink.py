"""The lossless history: one JSON object per recorded step, appended and flushed at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import AppendFile
from phasetrack.storage.history_reader import HistoryFile

HISTORY = "history.jsonl"


class HistorySink:
    """Appends each record to a JSON Lines file; every line is complete once written.

    Args:
        path: the file, ``history.jsonl`` in a run directory.
        resume: continue an existing file; without it the file must not exist.
    """

    state_key = "history"

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._file = AppendFile(path, resume=resume)

    def write(self, record: Record) -> None:
        """Append ``step`` and the readings as one line."""
        row = {"step": record.step, **record.readings}
        self._file.append(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Close the file."""
        self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the file's position."""
        return dict(self._file.position)

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the file begins with the bytes that it had in a state."""
        self._file.check(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back to a state."""
        self._file.rewind(state)

    def records(self, state: Mapping[str, Any] | None = None) -> History:
        """Read the records of the file, or those up to a state that passed `check_state`.

        Raises:
            ExpectedError: if a record cannot be read.
        """
        end = self._file.size if state is None else int(state["bytes"])
        file = HistoryFile(self._file.path, self._file.opener, end)
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
