"""One state of a network in training, as the probes see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phasetrack._checks import ExpectedError
from phasetrack.geometry import ClusterGeometry, Neurons
from phasetrack.losses import Loss
from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.views import TwoLayerView


@dataclass(frozen=True)
class Batch:
    """What one optimizer step saw: all its micro-batches together, on the host.

    Attributes:
        outputs: outputs as the loss takes them, float64 (m,), or logits (m, n).
        targets: targets as the loss takes them, float64 or int64, (m,) or (m, n).
        clusters: index of each sample's cluster, int64 (m,).
        loss: the loss on the host, of (outputs, targets).
        inputs: references to the micro-batches' inputs, (m_i, d) each, on their device; empty
            unless a probe needs them.
    """

    outputs: Tensor
    targets: Tensor
    clusters: Tensor
    loss: Loss
    inputs: tuple[Tensor, ...] = ()

    @cached_property
    def margins(self) -> Tensor:
        """How far each sample is on the right side, float64 (m,).

        y f for one output, with targets above 0 as y = +1; for logits, by how much the target's
        class is ahead of the next.
        """
        if self.outputs.ndim == 1:
            return torch.where(self.targets > 0, self.outputs, -self.outputs)
        classes = self.targets.argmax(dim=1) if self.targets.ndim == 2 else self.targets.long()
        own = self.outputs.gather(1, classes.unsqueeze(1))
        others = self.outputs.scatter(1, classes.unsqueeze(1), -torch.inf)
        return own.squeeze(1) - others.amax(dim=1)

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
        batch: outputs, targets and clusters; None if no loss call was seen, or `problem` is set.
        problem: what is wrong with the batch; None if nothing is.
        view: the live layers, on their device; they change once the step is taken.
        live: whether they still hold this state; a closure may have moved them.
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
    live: bool = True
    problem: ExpectedError | None = None
    previous: Snapshot | None = None
    first: Snapshot | None = None

    @property
    def geometry(self) -> ClusterGeometry:
        """The clusters."""
        return self.neurons.geometry

    def state_dict(self) -> dict[str, Any]:
        """What a later snapshot may look back at, as tensors, numbers and mappings."""
        neurons, batch = self.neurons, self.batch
        return {
            "step": self.step,
            "time": self.time,
            "sizes": asdict(self.sizes),
            "control_share": self.control_share,
            "scale": neurons.scale,
            "neurons": _copies(neurons, _NEURON_TENSORS),
            "batch": batch and _copies(batch, _BATCH_TENSORS),
        }

    @classmethod
    def of_state(
        cls, state: Mapping[str, Any], view: TwoLayerView, geometry: ClusterGeometry, loss: Loss
    ) -> Snapshot:
        """The snapshot of a state; the model's own parts come from the model.

        Raises:
            ExpectedError: if its tensors do not fit the view.
        """
        p, k = view.W.shape[0], geometry.signal_dim
        parts = {name: _tensor(state["neurons"], name) for name in _NEURON_TENSORS}
        shapes = {"coordinates": (p, k), "perp": (p,), "second_layer": (p,)}
        for name, shape in shapes.items():
            part = parts[name]
            if part is None or tuple(part.shape) != shape:
                got = "none" if part is None else tuple(part.shape)
                raise ExpectedError("resume", f"{name} of shape {shape}", got)
        scale = None if state["scale"] is None else float(state["scale"])
        neurons = Neurons(geometry, **parts, scale=scale, activation=view.activation)  # type: ignore[arg-type]
        batch = None
        if state["batch"] is not None:
            columns = {name: _tensor(state["batch"], name) for name in _BATCH_TENSORS}
            batch = Batch(**columns, loss=loss)  # type: ignore[arg-type]
        return cls(
            int(state["step"]),
            float(state["time"]),
            StepSizes(**state["sizes"]),
            neurons,
            float(state["control_share"]),
            batch,
            view,
            live=False,
        )


_NEURON_TENSORS = ("coordinates", "perp", "second_layer", "head", "bias", "output_bias")
_BATCH_TENSORS = ("outputs", "targets", "clusters")


def _copies(parts: object, names: tuple[str, ...]) -> dict[str, Tensor | None]:
    """Tensors of their own: a part of a larger one would be saved with the whole of it."""
    found = {name: getattr(parts, name) for name in names}
    return {name: None if tensor is None else tensor.clone() for name, tensor in found.items()}


def _tensor(parts: Mapping[str, Any], name: str) -> Tensor | None:
    value = parts[name]
    if value is not None and not isinstance(value, Tensor):
        raise ExpectedError("resume", f"{name} as a tensor", type(value).__name__)
    return value
