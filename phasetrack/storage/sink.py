"""The protocols of sinks: receivers of records, which may be resumable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from phasetrack.phases.history import History, Record


class Sink(Protocol):
    """Receives records in order of steps; is closed once, with the run's summary and history.

    An exception from a sink switches that sink off with one warning; training continues.
    """

    def write(self, record: Record) -> None:
        """Receive one recorded step."""
        ...

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Finish, given the content of ``summary.json`` and every recorded step."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A part of a run, such as a sink, that can restore an earlier state and continue from there.

    Its state holds numbers, texts, lists, mappings and tensors: `torch.load` reads these without
    unpickling.

    Attributes:
        state_key: the name of its state in a checkpoint, which survives a rename of the class.
    """

    state_key: str

    def state_dict(self) -> dict[str, Any]:
        """Flush, and return the present state."""
        ...

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise, and change nothing, if `load_state_dict` could not restore a state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that passed `check_state`; undo all later writes."""
        ...

    def sync(self) -> None:
        """Wait until everything that `state_dict` refers to is on the disk."""
        ...

    def abandon(self) -> None:
        """Close every file and write nothing more: this part failed, or was not resumed."""
        ...
