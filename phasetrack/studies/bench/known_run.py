"""KnownRun: a run that can be played at any seed, and the boundaries that it truly has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.seeds import seeded
from phasetrack.tracking.attach import attach
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.tracker import Tracker

Row = tuple[int, Mapping[str, float]]


class Event(NamedTuple):
    """A boundary or an alert that a run truly has.

    Attributes:
        name: of the boundary or alert.
        step: at which it truly is, a fraction of steps where a closed form gives it.
    """

    name: str
    step: float


class Played(NamedTuple):
    """A run that was played.

    Attributes:
        rows: step and readings of each record.
        events: that it truly has.
        end: its number of steps.
        seconds: that the steps took, recorded.
    """

    rows: list[Row]
    events: list[Event]
    end: int
    seconds: float


@dataclass(frozen=True)
class KnownRun:
    """A run whose truth is known.

    Attributes:
        name: in the table.
        line: the run and the source of its truth in one sentence.
        known: names of the boundaries and alerts whose presence and absence the truth settles; others are not scored.
        play: trains at a seed.
        control: whether nothing of `known` is in it.
    """

    name: str
    line: str
    known: frozenset[str]
    play: Callable[[int], Played] = field(repr=False)
    control: bool = False


class Net(nn.Module):
    """Two bare layers x -> scale * act(x W^T) A^T."""

    def __init__(
        self, W: Tensor, A: Tensor, act: nn.Module | None = None, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.first = nn.Linear(W.shape[1], W.shape[0], bias=False, device="cpu", dtype=W.dtype)
        self.act = act or nn.Identity()
        self.second = nn.Linear(A.shape[1], A.shape[0], bias=False, device="cpu", dtype=A.dtype)
        self.scale = scale
        with torch.no_grad():
            self.first.weight.copy_(W)
            self.second.weight.copy_(A)

    def forward(self, x: Tensor) -> Tensor:
        """Return (m,) of one output, and (m, n) of several."""
        found: Tensor = self.scale * self.second(self.act(self.first(x)))
        return found.squeeze(-1) if found.shape[-1] == 1 else found


def generator(seed: int) -> torch.Generator:
    """Return the random numbers of a seed."""
    return seeded(seed)


def normal(*shape: int, source: torch.Generator, scale: float = 1.0) -> Tensor:
    """Draw float64 normal numbers."""
    return scale * torch.randn(*shape, generator=source, dtype=torch.float64, device="cpu")


def any_geometry(dim: int, outputs: int = 1) -> ClusterGeometry:
    """Return clusters for runs that have none: nothing that is scored depends on them."""
    count = max(outputs, 2)
    return ClusterGeometry(torch.eye(count, dim, device="cpu"), list(range(count)))


def followed(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    geometry: ClusterGeometry,
    probes: Sequence[Probe] | None,
    look: Callable[[int], object] = lambda _: None,
) -> tuple[list[Row], float]:
    """Train and return the recorded rows, and the seconds that the steps took.

    Args:
        net: the network.
        optimizer: of it.
        loss: as the loop calls it.
        batches: inputs and targets of each step.
        steps: at most; a loss that is not finite ends the run.
        geometry: of the data.
        probes: that record; None takes the default ones.
        look: called before each step with its number, for a truth from the raw weights.
    """
    with attach(net, optimizer, loss=loss, geometry=geometry, probes=probes, phases=[]) as tracker:
        begun = time.perf_counter()
        for step in range(steps):
            look(step)
            x, y = next(batches)
            optimizer.zero_grad()
            value = loss(net(x), y)
            value.backward()
            optimizer.step()
            if not math.isfinite(value.detach()):
                break
        seconds = time.perf_counter() - begun
    return rows_of(tracker), seconds


def rows_of(tracker: Tracker) -> list[Row]:
    """Return the recorded rows, without the readings that a record does not have."""
    history = tracker.history
    columns = {name: history[name].tolist() for name in history}
    return [
        (step, {n: c[place] for n, c in columns.items() if not math.isnan(c[place])})
        for place, step in enumerate(history.steps.tolist())
    ]


def repeated(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch at each step."""
    while True:
        yield x, y


class Crossing:
    """The last step at which a quantity, read at every step, crossed a level on its way beyond a second one.

    The definition of an onset, without sparse readings.

    Args:
        name: of the event.
        enter: the inner level.
        leave: the outer level, whose crossing is the event.
        rising: whether beyond is above.
    """

    def __init__(self, name: str, enter: float, leave: float, *, rising: bool) -> None:
        self._name, self._enter, self._leave, self._sign = name, enter, leave, 1 if rising else -1
        self._before: float | None = None
        self._crossed: float | None = None
        self._inside = False
        self.events: list[Event] = []

    def add(self, step: int, value: float) -> None:
        """Take the value of a step."""
        if math.isnan(value):
            return
        beyond = self._sign * (value - self._leave)
        if beyond < 0:
            self._crossed, self._inside = None, False
        elif self._crossed is None:
            before = self._before
            self._crossed = float(step) if before is None else step - beyond / (beyond - before)
            # a regime that the run begins in has no boundary
            self._inside = before is None
        if (
            not self._inside
            and self._crossed is not None
            and self._sign * (value - self._enter) >= 0
        ):
            self._inside = True
            self.events.append(Event(self._name, self._crossed))
        self._before = beyond
