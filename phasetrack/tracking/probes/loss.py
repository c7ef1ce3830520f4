"""Loss and error of the step's samples."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.tracking.batch import Batch, standard_deviation
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot


def loss(snapshot: Snapshot) -> Measurement:
    """Read the loop's loss and its samples, and the share of them on the wrong side (f = 0 counts as wrong).

    ``loss/mean`` is read where the loop's loss is a sum over its samples.
    """
    batch = snapshot.batch
    assert batch is not None
    read = Reading(batch.mean_loss, batch.sample_losses.undefined)
    return {
        "loss/train": read if batch.value is None else batch.mean_loss,
        **({"loss/mean": batch.mean_loss / batch.size} if batch.is_sum else {}),
        "loss/samples": float(batch.size),
        "loss/spread": _spread(batch),
        "error/train": Reading(batch.error, batch.decisions.undefined),
    }


def _spread(batch: Batch) -> Reading:
    """Return the standard deviation of the samples' losses, in the unit of the mean loss (K,)."""
    found, undefined = batch.sample_losses
    if found is None:
        return Reading.undefined(undefined[0][1])
    losses = found.values if batch.weights is None else found.values * batch.weights
    if batch.size < 2:
        return Reading.undefined("one sample shows no spread")
    mean, spread = losses.mean(dim=-1), standard_deviation(losses)
    # outputs of several numbers may be averaged over them: the loop's own mean sets the unit
    own = batch.mean_loss / batch.size if batch.is_sum else batch.mean_loss
    unit: Tensor = torch.where(mean == 0, 1.0, own / mean).abs()
    return Reading(spread * unit, undefined).hidden()
