"""The lossless record: one JSON object a recorded step, appended and flushed as it goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasetrack.records import History, Record


class HistorySink:
    """Appends each record to a JSON Lines file; every line is complete once written.

    Args:
        path: the file, ``history.jsonl`` in a run directory; it must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append ``step`` and the readings as one line."""
        self._file.write(json.dumps({"step": record.step, **record.readings}) + "\n")
        self._file.flush()

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Close the file."""
        self._file.close()
