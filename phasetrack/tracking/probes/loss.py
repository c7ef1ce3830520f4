"""Loss and error of the step's samples."""

from __future__ import annotations

from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot


def loss(snapshot: Snapshot) -> Measurement:
    """Read the loop's loss, and the share of samples on the wrong side (f = 0 counts as wrong)."""
    batch = snapshot.batch
    assert batch is not None
    return {
        "loss/train": Reading(batch.mean_loss, batch.sample_losses.undefined)
        if batch.value is None
        else batch.mean_loss,
        "error/train": Reading(batch.error, batch.decisions.undefined),
    }
