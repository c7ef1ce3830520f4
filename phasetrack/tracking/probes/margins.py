"""Cluster margins: clean ones at the centres, empirical ones on the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.measures import margins
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot


def clean_margins(snapshot: Snapshot) -> Measurement:
    """Read the margin of each cluster at its centre, their extremes and balance (theory.md 4)."""
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
    if snapshot.formula.submodule:
        nothing = Reading.undefined("a block in a larger network has no labels of its own")
        prefixes = ("margin/empirical", "margin/empirical_low")
        return {f"{prefix}/{name}": nothing for prefix in prefixes for name in names}
    means, lows = margins.empirical_margins(batch.margins, batch.placed, len(names))
    reasons = (
        *batch.decisions.undefined,
        (
            torch.tensor(True, device="cpu"),
            batch.reason or "no sample of this cluster in the batch",
        ),
    )
    return {
        **_per_cluster("margin/empirical", snapshot, means, reasons),
        **_per_cluster("margin/empirical_low", snapshot, lows, reasons),
    }


def _per_cluster(
    prefix: str, snapshot: Snapshot, values: Tensor, reasons: tuple[tuple[Tensor, str], ...] = ()
) -> dict[str, Reading]:
    columns = zip(snapshot.geometry.names, values.unbind(dim=-1), strict=True)
    return {f"{prefix}/{name}": Reading(column, reasons) for name, column in columns}
