"""What a sink is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from phasetrack.records import History, Record


class Sink(Protocol):
    """Takes records in order of steps; closed once, with the run's summary and history.

    An exception from a sink switches that sink off with one warning; training goes on.
    """

    def write(self, record: Record) -> None:
        """Take one recorded step."""
        ...

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Finish; `summary` is what ``summary.json`` holds, `history` every recorded step."""
        ...
