"""Mean loss and error of the step's samples."""

from __future__ import annotations

from phasetrack.tracking.probes.base import Measurement
from phasetrack.tracking.snapshot import Snapshot


def loss(snapshot: Snapshot) -> Measurement:
    """Read the mean loss, and the share of samples on the wrong side (f = 0 counts as wrong)."""
    batch = snapshot.batch
    assert batch is not None
    return {
        "loss/train": batch.first_order.values.mean(dim=-1),
        "error/train": (batch.margins <= 0).double().mean(dim=-1),
    }
