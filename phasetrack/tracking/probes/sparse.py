"""SparseProbe: readings of whole layers at log-spaced steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.probes.base import Measurement, Reading, SampledProbe, as_column
from phasetrack.tracking.schedules import begins_stretch
from phasetrack.tracking.snapshot import Snapshot


class SparseProbe(SampledProbe):
    """A probe of copied layers at the first recorded step of each stretch of log-spaced steps.

    Derive from it, with `read`; other records do not have its readings.

    Attributes:
        per_decade: stretches, and so readings, per factor of ten in the number of steps.
        samples: inputs of the run's own sample that are kept for the probe; with ``"sample"`` in `needs`.
    """

    per_decade: int
    samples: int = 0
    needs: frozenset[str] = frozenset()

    def due(self, step: int, before: int) -> bool:
        """Whether a recorded step is read, given the one recorded before (-1: none)."""
        return begins_stretch(step, before, self.per_decade)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:
        """Return the readings of one state: numbers, or `Undefined` with the reason.

        Args:
            layers: the state's, float64 on the host.
            snapshot: the states.
            place: of the state among them.
        """
        raise NotImplementedError

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of the states that are due."""
        rows: list[Mapping[str, float]] = [{}] * len(snapshot)
        read = torch.zeros(len(snapshot), dtype=torch.bool, device="cpu")
        for place in self.due_places(snapshot):
            layers = snapshot.frozen(place)
            assert layers is not None
            rows[place], read[place] = self.read(layers.on_host(), snapshot, place), True
        found = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            column = as_column([row.get(name, math.nan) for row in rows])
            column = column if isinstance(column, Reading) else Reading(column)
            found[name] = column._replace(read=read)
        return found


def aims(targets: Tensor, layers: FrozenLayers) -> Tensor:
    """Return targets on the host, in float64 unless they are integers, (m, 1) of one output as (m,)."""
    found = targets.detach().cpu()
    found = found.double() if found.is_floating_point() else found
    return found.flatten() if layers.formula.heads == 1 else found
