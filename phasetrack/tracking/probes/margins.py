"""Cluster margins: clean ones at the centres, empirical ones on the batch."""

from __future__ import annotations

from torch import Tensor

from phasetrack.measures import margins
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot


def clean_margins(snapshot: Snapshot) -> Measurement:
    """Read the margin of each cluster at its centre, their extremes and balance (theory.md 4)."""
    if missing := snapshot.formula.missing:
        extremes = [f"margin/{kind}" for kind in ("min", "mean", "max", "balance")]
        clean = [f"margin/clean/{name}" for name in snapshot.geometry.names]
        return dict.fromkeys((*extremes, *clean), Reading.undefined(missing))
    values = margins.clean_margins_of(snapshot.neurons)
    least, most = values.amin(dim=-1), values.amax(dim=-1)
    unserved = (~(most > 0), "no cluster has a positive margin")
    return {
        "margin/min": least,
        "margin/mean": values.mean(dim=-1),
        "margin/max": most,
        "margin/balance": Reading(margins.balance(values), (unserved,)),
        **_per_cluster("margin/clean", snapshot, values),
    }


def empirical_margins(snapshot: Snapshot) -> Measurement:
    """Read mean and low quantile of y f over the step's samples in each cluster (theory.md 4)."""
    batch, names = snapshot.batch, snapshot.geometry.names
    assert batch is not None
    unplaced = snapshot.loss_inputs is None or snapshot.loss_inputs.traces is None
    if snapshot.formula.submodule or unplaced:
        nothing = Reading.undefined(
            "a block in a larger network has no labels of its own"
            if snapshot.formula.submodule
            else "the first layer's inputs are made within a module's forward(), so that the samples' "
            "clusters are not known"
        )
        prefixes = ("margin/empirical", "margin/empirical_low")
        return {f"{prefix}/{name}": nothing for prefix in prefixes for name in names}
    means, lows = margins.empirical_margins(batch.margins, batch.clusters, len(names))
    return {
        **_per_cluster("margin/empirical", snapshot, means),
        **_per_cluster("margin/empirical_low", snapshot, lows),
    }


def _per_cluster(prefix: str, snapshot: Snapshot, values: Tensor) -> dict[str, Tensor]:
    columns = zip(snapshot.geometry.names, values.unbind(dim=-1), strict=True)
    return {f"{prefix}/{name}": column for name, column in columns}
