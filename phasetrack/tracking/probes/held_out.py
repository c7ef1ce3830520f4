"""A probe that tests the network on samples that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures.linearization import errors_of
from phasetrack.model.losses import Loss
from phasetrack.tracking.probes.default import Measurement
from phasetrack.tracking.snapshot import Batch, Snapshot


@dataclass(frozen=True)
class HeldOutProbe:
    """Loss, error and first-order errors on a sample of its own, at each recorded step.

    Beside ``loss/train`` and ``error/train`` they show the gap of a training set that is used more than
    once; with batches of one they are the readings that say something. Costs a forward pass over the
    sample at each recorded step.

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
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The readings of one snapshot."""
        view = snapshot.view
        with torch.no_grad():
            outputs = view.outputs(self.inputs.to(view.W), view.W, view.A).double().cpu()
        targets = self.targets.cpu()
        batch = Batch(
            outputs,
            targets.double() if targets.is_floating_point() else targets,
            torch.zeros(len(targets), dtype=torch.int64),  # no cluster is asked for
            self.loss,
        )
        value_error, slope_drift = errors_of(batch.first_order)
        return {
            f"{self.name}/loss": batch.first_order.values.mean(),
            f"{self.name}/error": (batch.margins <= 0).double().mean(),
            f"{self.name}/value_error": value_error,
            f"{self.name}/slope_drift": slope_drift,
        }
