"""Readings on samples that the network is not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.measures.linearization import errors_of
from phasetrack.model.losses import Loss
from phasetrack.tracking.batch import Batch, standard_deviation
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot


@dataclass(frozen=True)
class HeldOutProbe(Probe):
    """Loss, error and first-order errors on a sample of its own, at each recorded step.

    Beside ``loss/train`` and ``error/train`` they show the gap of a training set that is used more
    than once, and they are the informative readings where batches hold one sample. Costs a forward
    pass over the sample per recorded step.

    Readings, under ``<name>/``: ``loss`` (mean), ``error`` (share on the wrong side; f = 0 counts as
    wrong), ``value_error`` and ``slope_drift`` (theory.md 5).

    Args:
        inputs: the sample, (m, d).
        targets: as the loss takes them, (m,).
        loss: of outputs and targets on the host, as `attach` takes it.
        name: prefix of the metrics.
    """

    inputs: Tensor
    targets: Tensor
    loss: Loss
    name: str = "held_out"
    needs: frozenset[str] = frozenset({"weights"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        if missing := snapshot.formula.unlinked:
            kinds = ("loss", "error", "value_error", "slope_drift")
            return {f"{self.name}/{kind}": Reading.undefined(missing) for kind in kinds}
        batch = self._batch(snapshot)
        found, undefined = batch.sample_losses
        error = Reading(batch.error, batch.decisions.undefined)
        if found is None:
            nothing = Reading.undefined(undefined[0][1])
            names = ("loss", "value_error", "slope_drift")
            return {**{f"{self.name}/{n}": nothing for n in names}, f"{self.name}/error": error}
        value_error, slope_drift = errors_of(found)
        count = max(batch.size, 1)
        return {
            f"{self.name}/loss": batch.mean_loss,
            f"{self.name}/standard_error": standard_deviation(found.values) / count**0.5,
            f"{self.name}/error": error,
            f"{self.name}/value_error": value_error,
            f"{self.name}/slope_drift": slope_drift,
        }

    @cached_property
    def _host_loss(self) -> HostLoss:
        return HostLoss.of(self.loss).with_targets(self.targets)

    def _batch(self, snapshot: Snapshot) -> Batch:
        """Evaluate every state on the sample."""
        outputs = []
        with torch.no_grad():
            for state in snapshot.states():
                assert state.view is not None
                inputs = self.inputs.to(state.view.W)
                outputs.append(state.view.linked_outputs(inputs).cpu().double())
        targets = self.targets.cpu().expand(len(snapshot), *self.targets.shape)
        no_cluster = torch.zeros(targets.shape[:2], dtype=torch.int64, device="cpu")
        targets = targets.double() if targets.is_floating_point() else targets
        return Batch(torch.stack(outputs), targets, no_cluster, self._host_loss)
