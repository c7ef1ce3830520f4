"""One state of a network in training, as the probes see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.geometry import ClusterGeometry, Neurons
from phasetrack.losses import Loss
from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.views import TwoLayerView


@dataclass(frozen=True)
class Batch:
    """What one optimizer step saw: all its micro-batches together, on the host.

    Attributes:
        f: the measured output, float64 (m,): the model's, or the difference of its two logits.
        outputs: outputs as the loss takes them, float64 (m,) or (m, 2).
        targets: targets as the loss takes them, float64 or int64, (m,) or (m, 2).
        clusters: index of each sample's cluster, int64 (m,).
        loss: the loss on the host, of (outputs, targets).
        inputs: references to the micro-batches' inputs, (m_i, d) each, on their device; empty
            unless a probe needs them.
    """

    f: Tensor
    outputs: Tensor
    targets: Tensor
    clusters: Tensor
    loss: Loss
    inputs: tuple[Tensor, ...] = ()

    @cached_property
    def signs(self) -> Tensor:
        """Labels as {-1, +1}, float64 (m,): targets above 0, or for the second class, are +1."""
        ahead = self.targets if self.targets.ndim == 1 else self.targets[:, 1] - self.targets[:, 0]
        return torch.where(ahead > 0, 1.0, -1.0).to(torch.float64)

    @cached_property
    def first_order(self) -> FirstOrder:
        """Losses and loss slopes of the samples, at their outputs and at output 0."""
        return first_order(self.outputs, self.targets, self.loss)

    def slopes(self, geometry: ClusterGeometry) -> Tensor:
        """g_c = mean |dl/df| over each cluster's samples, float64 (K,); NaN where there are none."""
        count, slopes = len(geometry.labels), self.first_order.slopes
        if slopes.ndim == 2:  # f is the difference of two logits, each of which moves by half
            slopes = (slopes[:, 1] - slopes[:, 0]) / 2
        sums = torch.bincount(self.clusters, slopes.abs(), minlength=count)
        return sums / torch.bincount(self.clusters, minlength=count)


@dataclass(frozen=True)
class StepSizes:
    """How far one optimizer step moves a neuron along its own mean-field gradient.

    Attributes:
        first: eta of the first layer, lr * scale; 0 if the optimizer leaves it alone.
        second: eta of the second layer.
        plain: whether the optimizer is SGD without momentum or decay, as the rates assume.
    """

    first: float
    second: float
    plain: bool

    @property
    def eta(self) -> float:
        """Length of a step in the paper's unit of time."""
        return max(self.first, self.second)


@dataclass(frozen=True)
class Snapshot:
    """The state before optimizer step `step`, and what its weights made of the batch.

    Attributes:
        step: optimizer steps taken so far.
        time: sum of eta over those steps.
        sizes: the step that is about to be taken.
        neurons: the network, float64 on the host.
        control_share: share of sum |w|^2 in a random span of the same dimension.
        batch: outputs, targets and clusters; None if no loss call was seen.
        view: the live layers, on their device; they change once the step is taken.
        previous: the snapshot recorded before this one, whose own `previous` is None.
        first: the first snapshot recorded; None in that one itself.
    """

    step: int
    time: float
    sizes: StepSizes
    neurons: Neurons
    control_share: float
    batch: Batch | None
    view: TwoLayerView
    previous: Snapshot | None = None
    first: Snapshot | None = None

    @property
    def geometry(self) -> ClusterGeometry:
        """The clusters."""
        return self.neurons.geometry
