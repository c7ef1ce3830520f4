"""How many neurons and directions a network uses, at log-spaced steps (theory.md 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasetrack.measures import effective_ranks as ranks
from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "rank/active",
        "neurons",
        "11",
        "neurons of at least a tenth of the largest size |a||w| at the moment; sparse",
    ),
    Metric(
        "rank/numerical",
        "dimensions",
        "11",
        "eigenvalues of sum_j |a_j||w_j| u_j u_j^T from a tenth of the largest on; sparse",
    ),
    Metric(
        "rank/stable",
        "dimensions",
        "11",
        "stable rank of the balanced first layer, sum of those eigenvalues over the largest; sparse",
    ),
    Metric(
        "rank/neurons",
        "neurons",
        "11",
        "participation number of the neurons' sizes; sparse",
    ),
)


@dataclass(frozen=True)
class RankProbe(SparseProbe):
    """Counts of the neurons and directions at work (theory.md 11).

    A reading costs a singular value decomposition of the first layer (d = 64, p = 128: 1 ms).

    Args:
        per_decade: readings per factor of ten in the number of steps.
    """

    per_decade: int = field(default=20, kw_only=True)
    name: str = field(default="rank", kw_only=True)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the counts of one state."""
        sizes, rows = ranks.sizes(layers.W, layers.A), ranks.balanced_rows(layers.W, layers.A)
        return {
            "rank/active": float(ranks.active_neurons(sizes)),
            # the eigenvalues are squares of the rows' singular values
            "rank/numerical": float(ranks.numerical_rank(rows, ranks.ACTIVE_SHARE**0.5)),
            "rank/stable": float(ranks.stable_rank(rows)),
            "rank/neurons": float(ranks.participation(sizes)),
        }
