"""The samples of recorded steps, on the host, as the measures take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.measures.margins import cluster_means
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import Loss


@dataclass(frozen=True)
class Batch:
    """The batch of each of K steps, all its micro-batches together, on the host.

    The batch of one state, in a `State`, has no leading dimension K.

    Attributes:
        outputs: outputs as the loss takes them, float64 (K, m), or logits (K, m, n).
        targets: targets as the loss takes them, float64 or int64, (K, m) or (K, m, n).
        clusters: index of each sample's cluster, int64 (K, m).
        loss: the loss on the host, of (outputs, targets).
        inputs: for each state a tuple of references to its micro-batches' inputs, (m_i, d) each, on
            their device; empty unless a probe needs them.
    """

    outputs: Tensor
    targets: Tensor
    clusters: Tensor
    loss: Loss
    inputs: Sequence[Any] = ()

    def row(self, index: int | slice) -> Batch:
        """Return the batch of one state, without the leading dimension, or of some states."""
        return Batch(
            self.outputs[index],
            self.targets[index],
            self.clusters[index],
            self.loss,
            self.inputs[index] if self.inputs else (),
        )

    @property
    def many(self) -> bool:
        """Whether the outputs are logits, one for each class."""
        return self.outputs.ndim > self.clusters.ndim

    @property
    def size(self) -> int:
        """Samples per step, m."""
        return self.clusters.shape[-1]

    @property
    def classes(self) -> int:
        """Number of classes that the outputs distinguish."""
        return self.outputs.shape[-1] if self.many else 2

    @cached_property
    def margins(self) -> Tensor:
        """How far each sample is on the right side, float64 (K, m).

        y f for one output, with targets above 0 as y = +1; for logits, by how much the target's
        class is ahead of the next.
        """
        if not self.many:
            return torch.where(self.targets > 0, self.outputs, -self.outputs)
        shared = self.targets.ndim == self.outputs.ndim
        classes = self.targets.argmax(dim=-1) if shared else self.targets.long()
        own = self.outputs.gather(-1, classes.unsqueeze(-1))
        others = self.outputs.scatter(-1, classes.unsqueeze(-1), -torch.inf)
        return own.squeeze(-1) - others.amax(dim=-1)

    @cached_property
    def first_order(self) -> FirstOrder:
        """Losses and loss slopes of the samples, at their outputs and at output 0."""
        return first_order(self.outputs, self.targets, self.loss, self.clusters.ndim)

    def slopes(self, geometry: ClusterGeometry) -> Tensor:
        """Return g_c = mean |dl/df| over each cluster's samples, float64 (K, C); NaN without samples."""
        slopes = self.first_order.slopes
        if self.many:  # f is the difference of two logits, each of which moves by half
            slopes = (slopes[..., 1] - slopes[..., 0]) / 2
        return cluster_means(slopes.abs(), self.clusters, len(geometry.labels))

    def targets_out_of_range(self) -> Tensor:
        """Return for each state whether a class index names no class, bool (K,); -1 and 1 are two classes."""
        count = self.targets.shape[0]
        if self.targets.is_floating_point() or self.targets.ndim > self.clusters.ndim:
            return torch.zeros(count, dtype=torch.bool)
        low, high = self.targets.reshape(count, -1).aminmax(dim=-1)
        return (low < (0 if self.many else -1)) | (high >= self.classes)
