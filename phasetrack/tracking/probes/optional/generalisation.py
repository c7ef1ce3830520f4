"""What a network leaves unexplained of its training set and of a held-out one, at log-spaced steps (theory.md 13)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phasetrack.measures.fourier_power import squared_norm
from phasetrack.model.formula import FrozenLayers
from phasetrack.phases.history import Undefined
from phasetrack.tracking.batch import Batch
from phasetrack.tracking.first_samples import best_constant, classes_of
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe, aims
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "generalisation/train",
        "share",
        "13",
        "error on the training set divided by that of the best constant; of a regression the loss; sparse",
    ),
    Metric("generalisation/held_out", "share", "13", "the same on the held-out set; sparse"),
    Metric("generalisation/squared_norm", "weight^2", "13", "sum of squared weights; sparse"),
)
ONE_CLASS = "the sample has one class alone, which a constant output explains"
NO_CONSTANT = "the loss of the best constant output cannot be computed"
Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class GeneralisationProbe(SparseProbe):
    """Unexplained share of a training set and of a held-out set (theory.md 13).

    0 is perfect, and 1 as good as the best constant output. A reading costs a forward pass over both sets in float64
    (d = 64, p = 128, 512 samples each: 1 ms).

    Args:
        train: inputs (m, d) and targets as the loss takes them, (m,) or (m, n).
        held_out: likewise.
        per_decade: readings per factor of ten in the number of steps.
    """

    train: Sample
    held_out: Sample
    per_decade: int = field(default=20, kw_only=True)
    name: str = field(default="generalisation", kw_only=True)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the shares of one state."""
        weights = [
            layers.W,
            layers.A,
            *(b for b in (layers.bias, layers.head_bias) if b is not None),
        ]
        found = {"generalisation/squared_norm": float(squared_norm(*weights))}
        reason = layers.formula.unlinked or snapshot.loss.reason
        for name in ("train", "held_out"):
            share = (
                Undefined(reason)
                if reason
                else unexplained(layers, getattr(self, name), snapshot.loss)
            )
            found[f"generalisation/{name}"] = share
        return found


def unexplained(layers: FrozenLayers, sample: Sample, loss: HostLoss) -> float:
    """Return the error divided by the best constant's, or the loss by its loss where targets are not classes.

    Args:
        layers: float64 on the host.
        sample: inputs and targets.
        loss: of the loop.
    """
    inputs, targets = sample[0].detach().cpu().double(), aims(sample[1], layers)
    with torch.no_grad():
        outputs = layers.linked_outputs(inputs)
    nowhere = torch.full(targets.shape[:1], -1, device="cpu")
    batch = Batch(outputs, targets, nowhere, loss.with_targets(targets))
    classes = classes_of(batch)
    if classes is not None:
        commonest = int(torch.bincount(classes).max()) / len(classes)
        return float(batch.error) / (1 - commonest) if commonest < 1 else Undefined(ONE_CLASS)
    constant = best_constant(targets, outputs.shape[1:], batch.host_loss)
    return float(batch.mean_loss) / constant if not math.isnan(constant) else Undefined(NO_CONSTANT)
