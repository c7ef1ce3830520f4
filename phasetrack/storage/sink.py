"""What a sink is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from phasetrack.phases.history import History, Record


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


@runtime_checkable
class Resumable(Protocol):
    """What can go on where it once was, and take back what it has written since; a sink may be so.

    Its state is made of what `torch.load` reads without unpickling: numbers, text, lists, mappings
    and tensors.

    Attributes:
        state_key: the name of its state in a checkpoint; it stays when the class is renamed.
    """

    state_key: str

    def state_dict(self) -> dict[str, Any]:
        """Where it is now, everything up to here being written."""
        ...

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise, and change nothing, if `load_state_dict` cannot go on from a state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `check_state` has found good."""
        ...

    def sync(self) -> None:
        """Have everything on the disk that `state_dict` speaks of."""
        ...

    def abandon(self) -> None:
        """Let go of every file and write nothing more: it failed, or was not taken up."""
        ...
