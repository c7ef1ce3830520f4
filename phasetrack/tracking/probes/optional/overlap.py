"""How far the first layer has found a teacher's directions, at log-spaced steps (theory.md 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures import direction_overlap as overlap
from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "overlap/span",
        "cosine",
        "10",
        "of the least found direction with the span of the first layer's leading singular vectors; sparse",
    ),
    Metric("overlap/span/<direction>", "cosine", "10", "the same of one direction; sparse"),
    Metric(
        "overlap/neuron",
        "cosine",
        "10",
        "of the least found direction with the neuron that is closest to its line; sparse",
    ),
    Metric(
        "overlap/chance",
        "cosine",
        "10",
        "exceeded by the span of random neurons in at most one of a hundred cases; sparse",
    ),
)


@dataclass(frozen=True)
class OverlapProbe(SparseProbe):
    """Overlap of the first layer with given directions (theory.md 10).

    A reading costs a singular value decomposition of the first layer (d = 64, p = 128: 2 ms).

    Args:
        directions: of the teacher f*(x) = g(u_1 . x, ..., u_k . x), (k, d) or (d,), of any length but 0.
        names: of the directions in the metrics; None counts them u1, u2, ...
        per_decade: readings per factor of ten in the number of steps.

    Raises:
        ExpectedError: if a direction is 0 or not finite, or the names are not as many.
    """

    directions: Tensor
    names: Sequence[str] | None = None
    per_decade: int = field(default=20, kw_only=True)
    name: str = field(default="overlap", kw_only=True)

    def __post_init__(self) -> None:
        """Check directions and names."""
        rows = self._rows
        if not (rows.isfinite().all() and rows.ne(0).any(dim=1).all()):
            problem = f"{self.directions!r} has a row that is 0 or not finite."
            raise ExpectedError("directions", problem, "Pass vectors that point somewhere.")
        if self.names is not None and len(self.names) != len(rows):
            problem = f"{list(self.names)!r} does not name {len(rows)} directions."
            raise ExpectedError("names", problem, "Pass one name per direction.")

    @property
    def _rows(self) -> Tensor:
        """The directions, float64 (k, d)."""
        rows = self.directions.detach().cpu().double()
        return rows if rows.ndim == 2 else rows.unsqueeze(0)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the overlaps of one state."""
        rows = self._rows
        if rows.shape[1] != layers.W.shape[1]:
            problem = (
                f"Directions of dimension {rows.shape[1]} do not fit {layers.W.shape[1]} inputs."
            )
            raise ExpectedError("directions", problem, "Pass vectors of the layer's input space.")
        rank = int(torch.linalg.matrix_rank(rows))
        spans = overlap.recovered(layers.W, rows, rank).sqrt()
        names = self.names or [f"u{place + 1}" for place in range(len(rows))]
        return {
            "overlap/span": float(spans.min()),
            "overlap/neuron": float(overlap.overlaps(layers.W, rows).min()),
            "overlap/chance": overlap.span_chance(rows.shape[1], rank),
            **{f"overlap/span/{n}": float(v) for n, v in zip(names, spans, strict=True)},
        }
