"""Whether neurons that add residues have one frequency each, at log-spaced steps (theory.md 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasetrack.measures import fourier_power as fourier
from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "fourier/specialisation",
        "share",
        "13",
        "of the first layer's power at each neuron's own strongest frequency; sparse",
    ),
    Metric(
        "fourier/gini",
        "ratio",
        "13",
        "Gini coefficient of the norms of the first layer's Fourier components; sparse",
    ),
)


@dataclass(frozen=True)
class FourierProbe(SparseProbe):
    """Frequencies of a first layer on one-hot tuples of residues (theory.md 13).

    A reading costs a Fourier transform of the first layer.

    Args:
        modulus: q of the task; the inputs are one-hot codes of q residues, one after another.
        per_decade: readings per factor of ten in the number of steps.
    """

    modulus: int
    per_decade: int = field(default=20, kw_only=True)
    name: str = field(default="fourier", kw_only=True)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the readings of one state."""
        tables = fourier.residue_tables(layers.W, self.modulus)
        norms = fourier.component_norms(tables).square().sum(dim=0).sqrt()
        return {
            "fourier/specialisation": float(
                fourier.specialisation(fourier.neuron_power(tables).sum(dim=0))
            ),
            "fourier/gini": float(fourier.gini(norms)),
        }
