"""Reservoir: the run's own first samples, inputs with their targets, where no fixed set was given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

# The reservoir holds at most so many samples, and numbers of inputs: 16 MB in float32.
MOST_SAMPLES = 4096
MOST_NUMBERS = 2**22
KEY_SEED = 20230915
# Recent samples among which the known ones are counted. A heuristic of ours.
RECENT = 512


def reservoir_size(width: int) -> int:
    """Return how many samples of so many inputs a reservoir holds."""
    return max(1, min(MOST_SAMPLES, MOST_NUMBERS // max(width, 1)))


class Reservoir:
    """Keeps the distinct ones among the first samples that are offered, and notes samples that come again.

    Args:
        size: how many samples are looked at; 0 keeps none.

    Attributes:
        offered: samples looked at so far, up to `size`.
        kept: distinct samples kept so far.
        known: largest share of known samples among `RECENT` in a row so far.
    """

    def __init__(self, size: int) -> None:
        self.size, self.offered, self.kept, self.known = size, 0, 0, 0.0
        self._inputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._keys = torch.zeros(0, dtype=torch.float64, device="cpu")  # ascending
        self._recent: deque[tuple[int, int]] = deque()  # of each offer: known samples, samples

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor) -> Reservoir:
        """A full reservoir of a given sample, all of which is kept."""
        made = cls(len(inputs))
        made.offered = len(inputs)
        made._keep(inputs.detach().cpu(), targets.detach().cpu())
        return made

    def _keep(self, inputs: Tensor, targets: Tensor) -> None:
        self._inputs.append(inputs)
        self._targets.append(targets)
        self.kept += len(inputs)
        self._keys = torch.cat([self._keys, _keys(inputs)]).sort().values

    @property
    def left(self) -> int:
        """How many more samples are wanted."""
        return self.size - self.offered

    @property
    def inputs(self) -> Tensor:
        """The samples kept so far, (n, d), on the host."""
        return torch.cat(self._inputs) if self._inputs else torch.zeros(0, 0, device="cpu")

    @property
    def targets(self) -> Tensor:
        """Their targets, (n,) or (n, outputs)."""
        return torch.cat(self._targets) if self._targets else torch.zeros(0, device="cpu")

    def offer(self, inputs: Tensor, targets: Tensor) -> None:
        """Look at samples of a recorded step: keep new ones while there is room, and note known ones.

        Args:
            inputs: (m, d).
            targets: (m,) or (m, outputs).
        """
        keys = _keys(inputs.detach())
        known = _among(keys, self._keys)
        self._note(int(known.sum()), len(known))
        if not self.left:
            return
        rows = _firsts(keys[: self.left], known)
        self.offered += len(keys[: self.left])
        self._keep(inputs[rows].detach().cpu(), targets[rows].detach().cpu())

    def _note(self, known: int, count: int) -> None:
        """Take the share of known samples among the recent ones."""
        self._recent.append((known, count))
        while sum(each for _, each in self._recent) - self._recent[0][1] >= RECENT:
            self._recent.popleft()
        knowns, counts = (sum(column) for column in zip(*self._recent, strict=True))
        self.known = max(self.known, knowns / max(counts, RECENT))

    @property
    def population(self) -> float:
        """About how many samples training draws from, by the share that comes again; infinity if none does."""
        return self.kept / self.known if self.known else math.inf

    def state_dict(self) -> dict[str, Any]:
        """Return all that later readings depend on."""
        return {
            "size": self.size,
            "offered": self.offered,
            "known": self.known,
            "inputs": self.inputs.clone(),
            "targets": self.targets.clone(),
        }

    def restored(self, state: Mapping[str, Any] | None) -> Reservoir:
        """Return one that continues from a state; None, of version 0.1.0, begins with the next samples."""
        if state is None:
            return Reservoir(self.size)
        found = Reservoir(int(state["size"]))
        inputs, targets = (_tensor(state[name]) for name in ("inputs", "targets"))
        if len(inputs):
            found._keep(inputs, targets)
        found.offered, found.known = int(state["offered"]), float(state["known"])
        return found


def _keys(inputs: Tensor) -> Tensor:
    """Return a number per sample, equal for equal samples and different for others, float64 (m,)."""
    rows = inputs.cpu().double()
    if len(rows) == 1:  # a row that is the only one is summed in another order
        return _keys(torch.cat([rows, rows]))[:1]
    # elementwise and row by row: a product of matrices would round by the number of rows
    return (rows * _weights(rows.shape[1])).sum(dim=1)


@cache
def _weights(width: int) -> Tensor:
    draw = torch.Generator().manual_seed(KEY_SEED)
    return torch.randn(width, generator=draw, dtype=torch.float64, device="cpu")


def _among(keys: Tensor, ascending: Tensor) -> Tensor:
    """Return whether each key is one of some ascending ones."""
    if not len(ascending):
        return torch.zeros(len(keys), dtype=torch.bool, device="cpu")
    places = torch.searchsorted(ascending, keys).clamp_max(len(ascending) - 1)
    return ascending[places] == keys


def _firsts(keys: Tensor, known: Tensor) -> Tensor:
    """Return the places of the samples that are new, each once."""
    seen: set[float] = set()
    places = []
    for place, (key, old) in enumerate(zip(keys.tolist(), known.tolist(), strict=False)):
        if not old and key not in seen:
            seen.add(key)
            places.append(place)
    return torch.tensor(places, dtype=torch.int64, device="cpu")


def _tensor(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{type(value).__name__} is not a tensor")
    return value
