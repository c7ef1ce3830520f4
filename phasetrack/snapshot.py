"""States of a network in training, as the probes see them: one, or a block of several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phasetrack._checks import ExpectedError
from phasetrack.geometry import ClusterGeometry, Neurons, stacked
from phasetrack.losses import Loss
from phasetrack.measures import growth
from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.rows import GROUP
from phasetrack.views import TwoLayerView


@dataclass(frozen=True)
class Batch:
    """What one optimizer step saw: all its micro-batches together, on the host.

    In a block of steps every tensor has a leading dimension for them.

    Attributes:
        outputs: outputs as the loss takes them, float64 (..., m), or logits (..., m, n).
        targets: targets as the loss takes them, float64 or int64, (..., m) or (..., m, n).
        clusters: index of each sample's cluster, int64 (..., m).
        loss: the loss on the host, of (outputs, targets).
        inputs: references to the micro-batches' inputs, (m_i, d) each, on their device; empty
            unless a probe needs them.
    """

    outputs: Tensor
    targets: Tensor
    clusters: Tensor
    loss: Loss
    inputs: tuple[Tensor, ...] = ()

    @property
    def many(self) -> bool:
        """Whether the outputs are logits, one for each class."""
        return self.outputs.ndim > self.clusters.ndim

    @property
    def size(self) -> int:
        """Samples a step, m."""
        return self.clusters.shape[-1]

    @cached_property
    def margins(self) -> Tensor:
        """How far each sample is on the right side, float64 (..., m).

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
        """g_c = mean |dl/df| over each cluster's samples, float64 (..., K); NaN where there are none."""
        slopes = self.first_order.slopes
        if self.many:  # f is the difference of two logits, each of which moves by half
            slopes = (slopes[..., 1] - slopes[..., 0]) / 2
        sums = slopes.new_zeros(*slopes.shape[:-1], len(geometry.labels))
        counts = sums.scatter_add(-1, self.clusters, torch.ones_like(slopes))
        return sums.scatter_add(-1, self.clusters, slopes.abs()) / counts


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
        control: W in a random span of the signal's dimension, float64 (p, k).
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
    control: Tensor
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

    def lean(self) -> Snapshot:
        """Itself without what came before, and without the inputs."""
        batch = self.batch and replace(self.batch, inputs=())
        return replace(self, previous=None, first=None, batch=batch)

    def alike(self, other: Snapshot) -> bool:
        """Whether both can be measured in one block: of one view, and of one shape."""
        return self.view is other.view and self._shapes == other._shapes

    @cached_property
    def _shapes(self) -> tuple[object, ...]:
        batch = self.batch
        seen = batch and (batch.outputs.shape, batch.targets.shape, batch.targets.dtype)
        return (self.neurons.coordinates.shape, seen, self.sizes.plain)

    @property
    def numbers(self) -> int:
        """The largest tables that measuring it makes: neurons by clusters, or samples."""
        neurons = self.neurons.perp.numel() * len(self.geometry.labels)
        most = max(neurons, 0 if self.batch is None else self.batch.outputs.numel())
        return most + GROUP  # rows are filled up to groups

    def state_dict(self) -> dict[str, Any]:
        """What a later snapshot may look back at, as tensors, numbers and mappings."""
        neurons, batch = self.neurons, self.batch
        return {
            "step": self.step,
            "time": self.time,
            "sizes": asdict(self.sizes),
            "control": self.control.clone(),
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
        control = _tensor(state, "control")
        if control is None or control.shape != (p, k):
            got = "none" if control is None else tuple(control.shape)
            raise ExpectedError("resume", f"control of shape {(p, k)}", got)
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
            control,
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


@dataclass(eq=False)
class Block:
    """Snapshots of one view and shape, in the order of their steps, measured in one go.

    Attributes:
        snapshots: K of them, at least one.
        before: the block that was recorded before; its last snapshot precedes our first.
        first: the first snapshot of all; None in its own block, which holds nothing else.
    """

    snapshots: Sequence[Snapshot]
    before: Block | None = None
    first: Snapshot | None = None

    @classmethod
    def of(cls, snapshot: Snapshot) -> Block:
        """A block of one, with what the snapshot knows of those before it."""
        before = None if snapshot.previous is None else cls((snapshot.previous,))
        return cls((snapshot,), before, snapshot.first)

    def singles(self) -> list[Snapshot]:
        """The snapshots, each with the one before it and the first of all."""
        earlier = [self.before.snapshots[-1] if self.before else None, *self.snapshots[:-1]]
        return [
            replace(snapshot, previous=previous and previous.lean(), first=self.first)
            for snapshot, previous in zip(self.snapshots, earlier, strict=True)
        ]

    @property
    def geometry(self) -> ClusterGeometry:
        """The clusters."""
        return self.snapshots[0].geometry

    @property
    def view(self) -> TwoLayerView:
        """The live layers, which do not hold these states any more."""
        return self.snapshots[0].view

    @cached_property
    def neurons(self) -> Neurons:
        """The networks, tables of (K, p, ...)."""
        return stacked([snapshot.neurons for snapshot in self.snapshots])

    @cached_property
    def control(self) -> Tensor:
        """W in a random span, float64 (K, p, k)."""
        return torch.stack([snapshot.control for snapshot in self.snapshots])

    @cached_property
    def batch(self) -> Batch | None:
        """What the steps saw, tables of (K, m, ...); None if they saw no batch."""
        batches = [snapshot.batch for snapshot in self.snapshots if snapshot.batch is not None]
        if not batches:
            return None
        columns = ([b.outputs for b in batches], [b.targets for b in batches])
        outputs, targets = (torch.stack(column) for column in columns)
        clusters = torch.stack([b.clusters for b in batches])
        return Batch(outputs, targets, clusters, batches[0].loss)

    @cached_property
    def times(self) -> Tensor:
        """Sum of the eta of the steps before each snapshot, float64 (K,)."""
        return torch.tensor([snapshot.time for snapshot in self.snapshots], dtype=torch.float64)

    @cached_property
    def etas(self) -> tuple[Tensor, Tensor]:
        """Eta of either layer, float64 (K,) each."""
        sizes = [(snapshot.sizes.first, snapshot.sizes.second) for snapshot in self.snapshots]
        first, second = torch.tensor(sizes, dtype=torch.float64).unbind(dim=1)
        return first, second

    @cached_property
    def squares(self) -> growth.Squares:
        """Squared size of each part of each neuron, (K, p) each."""
        return growth.squares(self.neurons)

    @cached_property
    def slopes(self) -> Tensor:
        """Mean |dl/df| on each cluster, float64 (K, clusters); NaN where the law does not apply."""
        if self.batch is None or not (self.view.plain and self.snapshots[0].sizes.plain):
            shape = (len(self.snapshots), len(self.geometry.labels))
            return torch.full(shape, torch.nan, dtype=torch.float64)
        return self.batch.slopes(self.geometry)

    @cached_property
    def predicted(self) -> growth.Squares:
        """`squares` as the mean-field law predicts them one step later; NaN where it does not apply."""
        if self.batch is None or self.slopes.isnan().all():
            return growth.Squares(*(torch.full_like(part, torch.nan) for part in self.squares))
        shares = torch.full_like(self.slopes, 1 / self.slopes.shape[-1])
        return growth.predicted_squares(
            self.neurons, self.slopes, shares, self.etas, self.batch.size
        )

    def shifted(self, read: Callable[[Block], Tensor]) -> Tensor:
        """What `read` makes of the snapshot before each of ours, (K, ...)."""
        assert self.before is not None
        return torch.cat([read(self.before)[-1:], read(self)[:-1]])
