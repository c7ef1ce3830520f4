"""The features before the head by NC1 to NC4, at log-spaced steps (theory.md 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError
from phasetrack.measures import neural_collapse as collapse
from phasetrack.model.formula import FrozenLayers
from phasetrack.phases.history import Undefined
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric("collapse/error", "share", "14", "training samples on the wrong side; sparse"),
    Metric("collapse/within", "ratio", "14", "NC1, trace(Sw pinv(Sb)) / K; sparse"),
    Metric("collapse/norms", "ratio", "14", "NC2, spread of the class means' lengths; sparse"),
    Metric("collapse/angles", "cosine", "14", "NC2, distance from a simplex frame; sparse"),
    Metric("collapse/duality", "ratio", "14", "NC3, squared distance of head and means; sparse"),
    Metric("collapse/disagreement", "share", "14", "NC4, decisions off the nearest mean; sparse"),
)
ONE_OUTPUT = "the network has one output, and neural collapse is about a row of the head per class"


@dataclass(frozen=True)
class NeuralCollapseProbe(SparseProbe):
    """Neural collapse of the activated first layer on a fixed training sample (theory.md 14).

    A reading costs a forward pass over the sample in float64 and a singular value decomposition of (K, p) means.

    Args:
        inputs: (m, d); the training set, or a part of it.
        classes: class indices (m,), integers; each of 0, ..., K - 1 occurs.
        per_decade: readings per factor of ten in the number of steps.

    Raises:
        ExpectedError: if a class has no sample.
    """

    inputs: Tensor
    classes: Tensor
    per_decade: int = field(default=20, kw_only=True)
    name: str = field(default="neural collapse", kw_only=True)

    def __post_init__(self) -> None:
        """Check the classes."""
        count = int(self.classes.max()) + 1 if self.classes.numel() else 0
        seen = set(self.classes.flatten().tolist())
        if len(self.inputs) != self.classes.numel() or count < 2 or seen != set(range(count)):
            problem = f"{len(self.inputs)} samples have the classes {sorted(seen)!r}."
            fix = "Pass an index per sample, with every class from 0 to K - 1 among them."
            raise ExpectedError("classes", problem, fix)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the readings of one state."""
        reason = layers.formula.missing or (ONE_OUTPUT if layers.formula.heads == 1 else "")
        if reason:
            return {metric.name: Undefined(reason) for metric in METRICS}
        inputs, classes = self.inputs.detach().cpu().double(), self.classes.cpu().long().flatten()
        with torch.no_grad():
            features = layers.activation(nn.functional.linear(inputs, layers.W, layers.bias))
            outputs = layers.outputs(inputs)
        means = collapse.class_means(features, classes, len(layers.A))
        values = (
            (outputs.argmax(dim=1) != classes).double().mean(),
            collapse.within_over_between(features, classes, means),
            collapse.norm_spread(means.centred),
            collapse.simplex_distance(means.centred),
            collapse.duality_gap(layers.A, means),
            collapse.centre_disagreement(features, outputs, means),
        )
        return {metric.name: float(value) for metric, value in zip(METRICS, values, strict=True)}
