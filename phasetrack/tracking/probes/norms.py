"""How large the two layers are, and how fast they grow: readings that need neither clusters nor a span."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.measures.growth import rate_between
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot

LAYERS = ("first", "second")
NO_EARLIER_STEP = "growth needs an earlier recorded step"


def norms(snapshot: Snapshot) -> Measurement:
    """Read the size of either layer and its growth since the last recorded step.

    ``norm/first`` and ``norm/second`` are root mean squares over the neurons of |w| and of |a|; ``..._rate`` is the
    growth of their logarithm per unit of time, undefined at the first record and where that unit is not known.
    """
    sizes = _squares(snapshot)
    readings: dict[str, Reading | Tensor] = {
        f"norm/{layer}": column.sqrt()
        for layer, column in zip(LAYERS, sizes.unbind(dim=-1), strict=True)
    }
    names = [f"norm/{layer}_rate" for layer in LAYERS]
    reason = snapshot.formula.missing or ("" if snapshot.before else NO_EARLIER_STEP)
    if reason:
        return readings | dict.fromkeys(names, Reading.undefined(reason))
    passed = snapshot.elapsed - snapshot.shifted(lambda before: before.elapsed)
    rates = rate_between(snapshot.shifted(_squares), sizes, passed.unsqueeze(-1))
    return readings | dict(zip(names, rates.unbind(dim=-1), strict=True))


def _squares(snapshot: Snapshot) -> Tensor:
    """Mean over the neurons of |w|^2 and a^2, float64 (K, 2)."""
    neurons = snapshot.neurons
    pair = (neurons.mass.mean(dim=-1), neurons.second_layer.square().mean(dim=-1))
    return torch.stack(pair, dim=-1)
