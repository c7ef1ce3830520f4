"""Cluster margins: clean ones at the centres, empirical ones on the batch."""

from __future__ import annotations

import torch

from phasetrack.measures import margins
from phasetrack.tracking.probes.base import Family, Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot

# The reason of a cluster's margins.
NO_SAMPLE = "the batch has no sample of this cluster"


def clean_margins(snapshot: Snapshot) -> Measurement:
    """Read the margin of each cluster at its centre, their extremes and balance (theory.md 4)."""
    if missing := snapshot.formula.missing:
        extremes = [f"margin/{kind}" for kind in ("min", "mean", "max", "balance")]
        names = (*extremes, *_named("margin/clean", snapshot))
        return dict.fromkeys(names, Reading.undefined(missing))
    values = margins.clean_margins_of(snapshot.neurons)
    if snapshot.formula.heads == 1 and (level := snapshot.loss.level):
        values = values - level * snapshot.geometry.labels.to(values)
    least, most = values.amin(dim=-1), values.amax(dim=-1)
    unserved = (~(most > 0), "no cluster has a positive margin")
    return {
        "margin/min": least,
        "margin/mean": values.mean(dim=-1),
        "margin/max": most,
        "margin/balance": Reading(margins.balance(values), (unserved,)),
        "margin/clean": Family(_named("margin/clean", snapshot), values),
    }


def empirical_margins(snapshot: Snapshot) -> Measurement:
    """Read mean and low quantile of y f over the step's samples in each cluster (theory.md 4)."""
    batch, prefixes = snapshot.batch, ("margin/empirical", "margin/empirical_low")
    assert batch is not None
    if snapshot.formula.submodule:
        nothing = Reading.undefined("a block in a larger network has no labels of its own")
        return {name: nothing for prefix in prefixes for name in _named(prefix, snapshot)}
    count = len(snapshot.geometry.names)
    tables = margins.empirical_margins(batch.margins, batch.placed, count)
    reasons = (
        *((torch.tensor(True, device="cpu"), why) for why in [batch.reason] if why),
        (margins.cluster_sizes(batch.placed, count) == 0, NO_SAMPLE),
        *batch.decisions.undefined,
    )
    return {
        prefix: Family(_named(prefix, snapshot), values, reasons)
        for prefix, values in zip(prefixes, tables, strict=True)
    }


def _named(prefix: str, snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(f"{prefix}/{name}" for name in snapshot.geometry.names)
