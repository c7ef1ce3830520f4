"""Readings on samples that the network is not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.measures.linearization import errors_of
from phasetrack.model.losses import Loss
from phasetrack.tracking.batch import Batch, standard_deviation
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.probes.base import Measurement, Reading, SampledProbe
from phasetrack.tracking.schedules import begins_stretch
from phasetrack.tracking.snapshot import Snapshot


@dataclass(frozen=True)
class HeldOutProbe(SampledProbe):
    """Loss, error and first-order errors on a sample of its own, at each recorded step or at some.

    Beside ``loss/train`` and ``error/train`` they show the gap of a training set that is used more
    than once, and they are the informative readings where batches hold one sample. A reading costs a forward
    pass over the sample.

    Readings, under ``<name>/``: ``loss`` (mean), ``error`` (share on the wrong side; f = 0 counts as
    wrong), ``value_error`` and ``slope_drift`` (theory.md 5).

    Args:
        inputs: the sample, (m, d).
        targets: as the loss takes them, (m,).
        loss: of outputs and targets on the host, as `attach` takes it; None takes the loss of the training.
        name: prefix of the metrics.
        per_decade: read the first recorded step of each of so many stretches per factor of ten in the steps;
            None reads every recorded step.
        samples: inputs of the run's own sample that are kept for the probe: none.
    """

    inputs: Tensor
    targets: Tensor
    loss: Loss | None
    name: str = "held_out"
    per_decade: int | None = None
    samples: int = 0
    needs: frozenset[str] = frozenset()

    def due(self, step: int, before: int) -> bool:
        """Whether a recorded step is read, given the one recorded before (-1: none)."""
        return self.per_decade is None or begins_stretch(step, before, self.per_decade)

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of the states that are due."""
        places = self.due_places(snapshot)
        if not places:
            return {}
        read = torch.zeros(len(snapshot), dtype=torch.bool, device="cpu")
        read[places] = True
        return {
            name: _placed(each, read) for name, each in self._readings(snapshot, places).items()
        }

    def _readings(self, snapshot: Snapshot, places: Sequence[int]) -> dict[str, Reading]:
        """Return the readings of some states, (places,) each."""
        if missing := snapshot.formula.unlinked:
            kinds = ("loss", "error", "value_error", "slope_drift")
            return {f"{self.name}/{kind}": Reading.undefined(missing) for kind in kinds}
        batch = self._batch(snapshot, places)
        found, undefined = batch.sample_losses
        error = Reading(batch.error, batch.decisions.undefined)
        if found is None:
            nothing = Reading.undefined(undefined[0][1])
            names = ("loss", "value_error", "slope_drift")
            return {**{f"{self.name}/{n}": nothing for n in names}, f"{self.name}/error": error}
        value_error, slope_drift = errors_of(found)
        count = max(batch.size, 1)
        values = {
            "loss": batch.mean_loss,
            "standard_error": standard_deviation(found.values) / count**0.5,
            "value_error": value_error,
            "slope_drift": slope_drift,
        }
        readings = {f"{self.name}/{kind}": Reading(column) for kind, column in values.items()}
        return {**readings, f"{self.name}/error": error}

    @cached_property
    def _own_loss(self) -> HostLoss:
        return HostLoss.of(self.loss).with_targets(self.targets)

    def _host_loss(self, snapshot: Snapshot) -> HostLoss:
        """The probe's loss, or that of the training."""
        return snapshot.loss if self.loss is None else self._own_loss

    def _batch(self, snapshot: Snapshot, places: Sequence[int]) -> Batch:
        """Evaluate some states on the sample."""
        outputs = []
        loss = self._host_loss(snapshot)
        with torch.no_grad():
            for place in places:
                layers = snapshot.frozen(place)
                assert layers is not None
                inputs = self.inputs.to(layers.W)
                # a loss with a link takes the layers' own outputs
                values = (layers.outputs if loss.link else layers.linked_outputs)(inputs)
                outputs.append(values.cpu().double())
        targets = self.targets.cpu().expand(len(places), *self.targets.shape)
        no_cluster = torch.zeros(targets.shape[:2], dtype=torch.int64, device="cpu")
        targets = targets.double() if targets.is_floating_point() else targets
        return Batch(torch.stack(outputs), targets, no_cluster, loss)


def _placed(reading: Reading, read: Tensor) -> Reading:
    """Return a reading of the states that were read among all of a stack."""

    def spread(values: Tensor, rest: float | bool) -> Tensor:
        if values.ndim == 0:
            return values
        whole = torch.full(read.shape, rest, dtype=values.dtype, device="cpu")
        whole[read] = values
        return whole

    reasons = tuple((spread(mask, False), reason) for mask, reason in reading.reasons)
    return Reading(spread(reading.values, math.nan), reasons, read)
