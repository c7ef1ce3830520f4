"""The end of a run on disk: ``summary.json``, written when the run is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phasetrack.phases.history import History, Record
from phasetrack.storage.directory import write_json
from phasetrack.storage.file_names import SUMMARY


class SummarySink:
    """Writes the summary of a run at its end; a directory without one holds a run that lasts or was stopped.

    Args:
        folder: the run directory.
        failed: called with a sentence where the summary cannot be written.

    Attributes:
        is_lost: whether the summary could not be written.
    """

    def __init__(self, folder: Path, failed: Callable[[str], object]) -> None:
        self._path, self._failed = folder / SUMMARY, failed
        self._lasts = self.is_lost = False

    def write(self, record: Record) -> None:  # noqa: ARG002
        """Remove the summary of an earlier end: the run is not at its end."""
        if not self._lasts:
            self._path.unlink(missing_ok=True)
            self._lasts = True

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Write the summary, unless the directory was deleted, which other sinks have reported."""
        if not self._path.parent.is_dir():
            return
        try:
            write_json(self._path, summary)
        except OSError as error:
            self.is_lost = True
            self._failed(f"{SUMMARY} could not be written, training goes on ({error!r})")
