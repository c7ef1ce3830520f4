"""How far the neurons have turned to declared directions."""

from __future__ import annotations

import torch

from phasetrack.measures.direction_overlap import chance
from phasetrack.model.geometry import SpanGeometry
from phasetrack.tracking.probes.base import Family, Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot

NO_DIRECTIONS = "overlaps are read with the directions of geometry=SpanGeometry(directions)"


def overlaps(snapshot: Snapshot) -> Measurement:
    """Read the largest |cosine| that any neuron has with each direction (`measures.direction_overlap.overlaps`).

    ``direction/chance`` is a level that random neurons exceed with a probability of 1 percent at most.
    """
    geometry, neurons = snapshot.geometry, snapshot.neurons
    if not isinstance(geometry, SpanGeometry):
        return {"direction/chance": Reading.undefined(NO_DIRECTIONS)}
    inside = geometry.directions @ geometry.basis  # each direction lies in the span
    units = inside / torch.linalg.vector_norm(inside, dim=-1, keepdim=True)
    lengths = neurons.mass.sqrt().unsqueeze(-1)
    cosines = (neurons.coordinates @ units.T / lengths).abs()
    silent = lengths == 0
    names = tuple(f"direction/overlap/{name}" for name in geometry.names)
    return {
        "directions": Family(names, cosines.where(~silent, 0.0).amax(dim=-2)),
        "direction/chance": chance(snapshot.formula.width, geometry.dim, len(names)),
    }
