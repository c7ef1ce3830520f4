"""What a probe is: from K states to readings, each with the reason where one is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasetrack._precision import is_away, widened
from phasetrack.errors import ExpectedError
from phasetrack.phases.history import Undefined
from phasetrack.tracking.snapshot import Snapshot, State

# A reading's reason where its probe gave none.
NO_REASON = "its value is NaN"


class Reading(NamedTuple):
    """One metric of K states, and why it is NaN where it is.

    Attributes:
        values: (K,), or () for one value that holds for all states.
        reasons: masks of the states, (K,) or (), each with a reason; the first that holds counts.
        read: the states that have the reading at all, bool (K,); None: all.
    """

    values: Tensor
    reasons: tuple[tuple[Tensor, str], ...] = ()
    read: Tensor | None = None

    @classmethod
    def undefined(cls, reason: str) -> Reading:
        """A reading that no state has."""
        nothing = torch.tensor(math.nan, dtype=torch.float64, device="cpu")
        return cls(nothing, ((torch.tensor(True, device="cpu"), reason),))

    def hidden(self) -> Reading:
        """The reading with NaN wherever a reason holds."""
        values = self.values
        for mask, _ in self.reasons:
            values = values.where(~mask, torch.nan)
        return self._replace(values=values)

    def reason(self, index: int) -> str:
        """Why the reading of a state is NaN."""
        holds = (
            reason for mask, reason in self.reasons if (mask[index] if mask.ndim else mask).item()
        )
        return next(holds, NO_REASON)


class Family(NamedTuple):
    """One metric for each of several clusters, as a table of K states.

    Attributes:
        names: of the metrics, C of them.
        values: (K, C).
        reasons: masks, (), (K,) or (K, C), each with a reason; the first that holds counts.
    """

    names: tuple[str, ...]
    values: Tensor
    reasons: tuple[tuple[Tensor, str], ...] = ()

    def members(self) -> dict[str, Member]:
        """Each metric of the family, by name."""
        return {name: Member(self, place) for place, name in enumerate(self.names)}


class Member(NamedTuple):
    """One metric of a family, in a column of its table."""

    family: Family
    place: int

    def reason(self, index: int) -> str:
        """Why the reading of a state is NaN."""
        at = (index, self.place)
        holds = (why for mask, why in self.family.reasons if mask[at[: mask.ndim]].item())
        return next(holds, NO_REASON)


class Note(NamedTuple):
    """A sentence about the run, said once.

    Attributes:
        holds: the states that it holds for, bool (K,).
        values: (K,), for ``{value}`` in the sentence.
        line: the sentence.
    """

    holds: Tensor
    values: Tensor
    line: str


# A metric's values: a `Reading`; a tensor (K,) that is a reading, or (K, n) with a value per neuron,
# which TensorBoard shows as a histogram; a number that holds for all states. Arrays count as tensors. A `Family` stands for
# several metrics, whatever its key; a `Note` is not a metric.
Measurement = Mapping[str, Reading | Family | Note | Tensor | float]


class Probe:
    """Reads K states at once. Derive from it, with `name` and `needs` as class attributes or fields.

    On small networks most of a reading's cost is Python's own. A probe therefore reads a stack of
    states, at little more than the cost of one.

    Attributes:
        name: for messages.
        needs: parts of the snapshot that the probe cannot do without, of ``"batch"`` (outputs and
            targets of the step), ``"inputs"`` (and its inputs, which stay in memory until the step),
            ``"previous"`` (an earlier recorded step), ``"weights"`` (whole copies of the layers),
            ``"sample"`` (a fixed sample of inputs, see `SampledProbe`), ``"clusters"`` and ``"span"``
            (a geometry that has them).
    """

    name: str
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        raise NotImplementedError


class SampledProbe(Probe):
    """A probe of a fixed sample of inputs, at some of the recorded steps.

    Attributes:
        samples: size of the sample; the largest of those asked for is kept.
    """

    samples: int
    needs: frozenset[str] = frozenset({"sample"})

    def due(self, step: int, before: int) -> bool:
        """Whether the weights of a recorded step are read, given the step recorded before (-1: none)."""
        raise NotImplementedError

    def due_places(self, snapshot: Snapshot) -> list[int]:
        """Return the states that are due."""
        if snapshot.layers.W is None:  # large layers are kept at the steps that are due
            return []
        befores = (snapshot.before.steps[-1] if snapshot.before else -1, *snapshot.steps)
        return [place for place, (then, now) in enumerate(pairwise(befores)) if self.due(now, then)]


class StackProbe(Probe):
    """A probe made of one function from `Snapshot` to readings.

    Args:
        function: reads K states at once.
        needs: see `Probe`.
    """

    def __init__(
        self, function: Callable[[Snapshot], Measurement], needs: frozenset[str] = frozenset()
    ) -> None:
        self.function, self.needs = function, needs
        self.name = function.__name__

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Call the function."""
        return self.function(snapshot)


class FunctionProbe(Probe):
    """A probe made of a function from one `State` to a mapping of names to values.

    Values are numbers of any type, tensors or numpy arrays of at most one dimension (a scalar, or one
    value per neuron), or `Undefined(reason)`.

    Args:
        function: reads one state.
        needs: see `Probe`; the function always sees copies of the weights.
    """

    def __init__(
        self,
        function: Callable[[State], Mapping[str, object]],
        needs: frozenset[str] = frozenset(),
        name: str = "",
    ) -> None:
        self.function, self.needs = function, frozenset(needs) | {"weights"}
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Call the function for each state."""
        rows = [_checked(self.function(state)) for state in snapshot.states()]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: as_column([row.get(name, math.nan) for row in rows]) for name in names}


def as_probe(given: object) -> Probe:
    """Wrap a function of one state, or an object whose `measure` is one; a `Probe` stays as it is."""
    if isinstance(given, Probe):
        return given
    measure = getattr(given, "measure", given)
    if not callable(measure):
        raise ExpectedError(
            "probes",
            f"{given!r} is neither a Probe nor a function.",
            "Pass a function from a state to a mapping of names to values.",
        )
    kind = getattr(given, "__name__", type(given).__name__)
    return FunctionProbe(
        measure, getattr(given, "needs", frozenset()), str(getattr(given, "name", kind))
    )


def _checked(values: Mapping[str, object]) -> dict[str, Tensor | float]:
    """The values of one state, with one transfer for those that are scalars on a device."""
    checked = {name: _value(name, value) for name, value in dict(values).items()}
    away = {
        name: value
        for name, value in checked.items()
        if isinstance(value, Tensor)
        and value.ndim == 0
        and is_away(value)
        and value.is_floating_point()
    }
    moved = torch.stack([widened(v) for v in away.values()]).tolist() if away else []
    checked.update(zip(away, moved, strict=True))
    return {k: v if isinstance(v, float) or v.ndim else float(v) for k, v in checked.items()}


def _value(name: str, value: object) -> Tensor | float:
    """A number as a float, any other value as a tensor of at most one dimension."""
    if isinstance(value, Undefined):
        return value
    if isinstance(value, int | float):
        return float(value)
    table = as_tensor(name, value)
    if table.ndim > 1:
        raise _no_reading(name, table)
    return table


def as_tensor(name: str, value: object) -> Tensor:
    """Return a probe's value as a real tensor without a gradient, whatever type holds it.

    Args:
        name: of the metric, for the error.
        value: a tensor, a numpy array or scalar of any width, or anything that `float` takes but text.

    Raises:
        ExpectedError: if it holds no real numbers.
    """
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach()
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "biuf":
            return torch.from_numpy(np.array(value, dtype=np.float64))
    elif hasattr(value, "__float__") and not isinstance(value, Tensor):
        return torch.tensor(float(value), dtype=torch.float64, device="cpu")
    raise _no_reading(name, value)


def _no_reading(name: str, value: object) -> ExpectedError:
    shown = f"A tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    return ExpectedError(
        name, f"{shown} is not a reading.", "Return a number, or a tensor of at most one dimension."
    )


def as_column(values: Sequence[Tensor | float]) -> Reading | Tensor:
    """Return one metric of several states; an `Undefined` gives its reason."""
    tables = [None if isinstance(v, float) else v.cpu().double() for v in values]
    known = next((table for table in tables if table is not None), None)
    if known is not None:
        nothing = torch.full_like(known, torch.nan)
        return torch.stack([nothing if table is None else table for table in tables])
    numbers = torch.tensor(values, dtype=torch.float64, device="cpu")
    reasons = [value.reason if isinstance(value, Undefined) else "" for value in values]
    masks = (
        (torch.tensor([mine == reason for mine in reasons], device="cpu"), reason)
        for reason in dict.fromkeys(filter(None, reasons))
    )
    return Reading(numbers, tuple(masks))
