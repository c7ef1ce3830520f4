"""Which of the processes that torchrun started this one is. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from phasetrack.errors import ExpectedError, PhasetrackError

# What torchrun, and launchers like it, tell every process of a run.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessError(PhasetrackError, RuntimeError):
    """Another process of the run failed, so that this one cannot go on."""


@dataclass(frozen=True)
class Place:
    """A process among those that train one run.

    Attributes:
        rank: its number, from 0 on; the first one writes and speaks.
        count: how many there are.
        local: its number on its own machine, which is that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether it is the first one."""
        return self.rank == 0


def place() -> Place:
    """This process's place as its environment says it; alone where that says nothing.

    Raises:
        ExpectedError: naming ``torchrun``, if it says what no launcher would.
    """
    if any(name not in os.environ for name in VARIABLES):
        return Place()
    given = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE")}
    given["LOCAL_RANK"] = os.environ.get("LOCAL_RANK", given["RANK"])
    try:
        rank, count, local = map(int, given.values())
    except ValueError:
        rank = count = local = -1
    if not (0 <= rank < count and local >= 0):
        got = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ExpectedError(
            "torchrun",
            f"{got} are not the place of a process.",
            f"Start the processes by torchrun, or unset {', '.join(given)}.",
        )
    return Place(rank, count, local)
