"""The lossless record: one JSON object a recorded step, appended and flushed as it goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasetrack.errors import expected_error
from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import AppendFile
from phasetrack.storage.history_reader import HistoryFile

HISTORY = "history.jsonl"


class HistorySink:
    """Appends each record to a JSON Lines file; every line is complete once written.

    Args:
        path: the file, ``history.jsonl`` in a run directory.
        resume: take up a file that exists, which is an error otherwise.
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
        """How far the file is written."""
        return dict(self._file.position)

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if the file does not begin with what was written then."""
        self._file.check(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._file.rewind(state)

    def records(self, state: Mapping[str, Any] | None = None) -> History:
        """The records that the file holds, or held up to a state that `check_state` has found good.

        Raises:
            ExpectedError: if one of them cannot be read.
        """
        end = self._file.size if state is None else int(state["bytes"])
        file = HistoryFile(self._file.path, self._file.opener, end)
        file.refresh()
        if file.damage:
            raise expected_error("resume", f"the records of {HISTORY}", file.damage)
        return file.history

    def sync(self) -> None:
        """Have the file on the disk."""
        self._file.sync()

    def abandon(self) -> None:
        """Close the file, and write nothing more."""
        self._file.abandon()
