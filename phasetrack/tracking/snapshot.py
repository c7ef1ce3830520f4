"""States of a network in training, as the probes see them: one, or a block of several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError, expected_error
from phasetrack.measures import growth
from phasetrack.measures.heaviness import needed_zeta_of
from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.measures.margins import cluster_means
from phasetrack.model.batch_invariance import GROUP, UNDIVIDED
from phasetrack.model.geometry import ClusterGeometry, Neurons, head_length
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView

# The numbers that the largest tables of a block hold (chosen here: a table then fits in a cache, and snapshots
# of thousands of samples still share their cost).
BLOCK_NUMBERS = 2**17


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

    @property
    def classes(self) -> int:
        """Classes that the outputs tell apart."""
        return self.outputs.shape[-1] if self.many else 2

    @property
    def in_range(self) -> bool:
        """Whether targets that are class indices are those of a class; -1 and 1 are two as well."""
        if self.targets.is_floating_point() or self.targets.ndim > self.clusters.ndim:
            return True
        low, high = self.targets.aminmax()
        return bool(low >= (0 if self.many else -1)) and bool(high < self.classes)

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
        return cluster_means(slopes.abs(), self.clusters, len(geometry.labels))


class StepSizes(NamedTuple):
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


class Layers(NamedTuple):
    """A network as it was, on its device and in its dtype; copies, safe from what it becomes.

    Attributes:
        head: the head's weights, (heads, p).
        coordinates: W in the signal span's basis, and in a random span of that dimension, (p, 2k);
            None until it is read.
        perp: length of what the signal span leaves of each neuron, (p,); None until it is read.
        bias: first-layer bias, (p,), or None.
        head_bias: the head's bias as it stands in the model, (heads,), or None.
        W: the first layer, (p, d), if it is yet to be read; else None.
    """

    head: Tensor
    coordinates: Tensor | None = None
    perp: Tensor | None = None
    bias: Tensor | None = None
    head_bias: Tensor | None = None
    W: Tensor | None = None

    def hosted(self) -> Layers:
        """The same on the host."""
        return Layers(*(None if part is None else part.cpu() for part in self))  # type: ignore[arg-type]

    def read(self, geometry: ClusterGeometry) -> Layers:
        """The same with W read; of several networks too, whose tensors are (K, ...)."""
        if self.W is None:
            return self
        coordinates, perp = geometry.read(self.W)
        return self._replace(W=None, coordinates=coordinates, perp=perp)


class Seen(NamedTuple):
    """What the loss was called with in one step, all micro-batches together; copies as they were.

    Attributes:
        outputs: (m,), or logits (m, n).
        targets: (m,) or (m, n); integers where they are class indices.
        traces: what decides on each sample's cluster (`ClusterGeometry.traces`); None where the
            samples belong to none.
        sound: whether no inputs were NaN or infinite, bool (); None where nothing makes one doubt.
        inputs: see `Batch`.
    """

    outputs: Tensor
    targets: Tensor
    traces: Tensor | None
    sound: Tensor | None = None
    inputs: tuple[Tensor, ...] = ()


@dataclass(eq=False)
class Snapshot:
    """The state before optimizer step `step`, and what its weights made of the batch; never changed.

    Attributes:
        step: optimizer steps taken so far.
        time: sum of eta over those steps.
        sizes: the step that is about to be taken.
        geometry: the clusters.
        layers: the network, as it was read.
        seen: what the loss was called with; None if no loss call was seen.
        loss: the loss on the host, of (outputs, targets).
        view: the live layers, on their device; they change once the step is taken.
        live: whether they still hold this state; a closure may have moved them.
        detached: whether the loss was called on outputs that carry no gradient.
        previous: the snapshot recorded before this one, whose own `previous` is None.
        first: the first snapshot recorded; None in that one itself.
    """

    step: int
    time: float
    sizes: StepSizes
    geometry: ClusterGeometry
    layers: Layers
    seen: Seen | None
    loss: Loss
    view: TwoLayerView
    live: bool = True
    detached: bool = False
    previous: Snapshot | None = None
    first: Snapshot | None = None

    @cached_property
    def _table(self) -> _Table:
        return _Table.of([self])

    @cached_property
    def neurons(self) -> Neurons:
        """The network, float64 on the host."""
        return self._table.neurons.row(0)

    @property
    def control(self) -> Tensor:
        """W in a random span of the signal's dimension, float64 (p, k)."""
        return self._table.control[0]

    @cached_property
    def batch(self) -> Batch | None:
        """Outputs, targets and clusters; None if no loss call was seen, or `problem` is set."""
        batch = self._table.batch
        if batch is None or self.problem is not None:
            return None
        columns = (batch.outputs[0], batch.targets[0], batch.clusters[0])
        return Batch(*columns, self.loss, () if self.seen is None else self.seen.inputs)

    @cached_property
    def problem(self) -> ExpectedError | None:
        """What is wrong with the batch, for the person who made it; None if nothing is.

        Outputs that are NaN for finite inputs are no such thing: that is a run that diverged.
        """
        batch = self._table.batch
        if batch is None:
            if not self.detached:
                return None
            mend = "call the loss on the model's outputs themselves"
            return expected_error("loss", "outputs that carry a gradient", "detached outputs", mend)
        if not self._table.sound:
            return expected_error(
                "inputs", "finite values", "NaN or infinity", "look into the data"
            )
        if not batch.in_range:
            low, high = int(batch.targets.min()), int(batch.targets.max())
            allowed = f"class indices 0 to {batch.classes - 1}"
            return expected_error("targets", allowed, f"values from {low} to {high}")
        return None

    def lean(self) -> Snapshot:
        """Itself without what came before, and without the inputs."""
        seen = self.seen and self.seen._replace(inputs=())
        return replace(self, previous=None, first=None, seen=seen)

    def alike(self, other: Snapshot) -> bool:
        """Whether both can be measured in one block: of one view, and of one shape."""
        return self.view is other.view and self._shapes == other._shapes

    @cached_property
    def _shapes(self) -> tuple[object, ...]:
        seen = self.seen
        kinds = seen and (seen.outputs.shape, seen.targets.shape, seen.targets.dtype)
        return (self.layers.head.shape, kinds, self.detached, self.sizes.plain)

    @property
    def together(self) -> int:
        """How many like it are measured in one block at most."""
        neurons = self.view.first.shape[0] * len(self.geometry.labels)
        # the largest tables that measuring it makes: neurons by clusters, or samples
        most = max(neurons, 0 if self.seen is None else self.seen.outputs.numel())
        numbers = most + GROUP  # rows are filled up to groups
        # sums over larger ones are divided among threads, but only where there is one of them
        return BLOCK_NUMBERS // numbers if numbers <= UNDIVIDED else 1

    def state_dict(self) -> dict[str, Any]:
        """What a later snapshot may look back at, as tensors, numbers and mappings."""
        return {
            "step": self.step,
            "time": self.time,
            "sizes": self.sizes._asdict(),
            "scale": self.view.scale,
            "layers": _copies(self.layers.hosted().read(self.geometry)._asdict(), READ),
            "seen": self.seen and _copies(self.seen._asdict(), SEEN),
        }

    @classmethod
    def of_state(
        cls, state: Mapping[str, Any], view: TwoLayerView, geometry: ClusterGeometry, loss: Loss
    ) -> Snapshot:
        """The snapshot of a state; the model's own parts come from the model.

        Raises:
            ExpectedError: if its tensors do not fit the view.
        """
        layers = Layers(**_tensors(state["layers"], READ))
        p, k = view.W.shape[0], geometry.signal_dim
        shapes = {"coordinates": (p, 2 * k), "perp": (p,), "head": (view.heads, p)}
        for name, shape in shapes.items():
            part = getattr(layers, name)
            if part is None or tuple(part.shape) != shape:
                got = "none" if part is None else tuple(part.shape)
                raise expected_error("resume", f"{name} of shape {shape}", got)
        seen = None
        if state["seen"] is not None:
            seen = Seen(**_tensors(state["seen"], SEEN))
        scale = None if state["scale"] is None else float(state["scale"])
        return cls(
            int(state["step"]),
            float(state["time"]),
            StepSizes(**state["sizes"]),
            geometry,
            layers,
            seen,
            loss,
            view if view.scale == scale else replace(view, scale=scale),
            live=False,
        )


# What a state holds of `Layers` and of `Seen`: neither whole weights nor inputs.
READ = ("coordinates", "perp", "head", "bias", "head_bias")
SEEN = ("outputs", "targets", "traces", "sound")


def _copies(parts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Tensor | None]:
    """Tensors of their own, on the host: a part of a larger one would be saved with the whole of it."""
    tensors = {name: parts[name] for name in names}
    return {n: None if t is None else t.detach().cpu().clone() for n, t in tensors.items()}


def _tensors(parts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        if parts[name] is not None and not isinstance(parts[name], Tensor):
            raise expected_error("resume", f"{name} as a tensor", type(parts[name]).__name__)
    return {name: parts[name] for name in names}


class _Table(NamedTuple):
    """What several snapshots hold, on the host and as the measures take it, from one transfer.

    Attributes:
        neurons: tables of (K, p, ...), float64.
        control: (K, p, k), float64.
        batch: tables of (K, m, ...); None if no loss call was seen.
        sound: whether no inputs were NaN or infinite.
    """

    neurons: Neurons
    control: Tensor
    batch: Batch | None
    sound: bool

    @classmethod
    def of(cls, snapshots: Sequence[Snapshot]) -> _Table:
        """The table of snapshots of one view and shape."""
        one, view, k = snapshots[0], snapshots[0].view, snapshots[0].geometry.signal_dim
        each = zip(*(snapshot.layers for snapshot in snapshots), strict=True)
        columns = [_stacked(column) for column in each]
        seen = [snapshot.seen for snapshot in snapshots if snapshot.seen is not None]
        doubtful = [s.sound for s in seen if s.sound is not None]
        columns += map(_stacked, ([s.outputs for s in seen], [s.targets for s in seen], doubtful))
        hosted = _to_host([*columns, *([_clusters(one.geometry, seen)] if seen else [])])
        count = len(Layers._fields)
        # on the host, where the last digits do not depend on how many networks are read at once
        layers = Layers(*hosted[:count]).read(one.geometry)  # type: ignore[arg-type]
        wide = [None if part is None else part.double() for part in (*layers, *hosted[count:])]
        head, coordinates, perp, bias, head_bias, _, outputs, targets, sound, *where = wide
        assert coordinates is not None and perp is not None and head is not None
        readout, many = view.read_out(head.mT), view.heads > 2
        offset = None if head_bias is None else view.bias_factor * view.read_out(head_bias)
        control = coordinates[..., k:]
        neurons = Neurons(
            one.geometry,
            coordinates=coordinates[..., :k],
            perp=perp,
            second_layer=head_length(readout) if many else readout,
            head=readout if many else None,
            bias=bias,
            output_bias=offset,
            scale=view.scale,
            activation=view.activation,
        )
        if outputs is None or targets is None:
            return cls(neurons, control, None, sound=True)
        if not seen[0].targets.is_floating_point():
            targets = targets.long()  # class indices, as the loss takes them
        (clusters,) = where
        assert clusters is not None
        batch = Batch(outputs, targets, clusters.long(), one.loss)
        return cls(neurons, control, batch, sound is None or bool(sound.all()))


def _clusters(geometry: ClusterGeometry, seen: Sequence[Seen]) -> Tensor:
    """The cluster of each sample, (K, m); -1 where there are none."""
    traces = _stacked([each.traces for each in seen])
    if traces is not None:
        return geometry.nearest(traces)
    shape = (len(seen), len(seen[0].outputs))
    return torch.full(shape, -1, device=seen[0].outputs.device)


def _stacked(column: Sequence[Tensor | None]) -> Tensor | None:
    return None if not column or column[0] is None else torch.stack(column)  # type: ignore[arg-type]


def _to_host(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The same tensors on the host, in one transfer."""
    away = [tensor for tensor in tensors if tensor is not None and tensor.is_cuda]
    moved: Iterator[Tensor] = iter(())
    if away:
        wide = torch.float64 if any(t.dtype == torch.float64 for t in away) else torch.float32
        packed = torch.cat([tensor.reshape(-1).to(wide) for tensor in away]).cpu()
        pieces = torch.split(packed, [tensor.numel() for tensor in away])
        moved = iter([p.view(t.shape).to(t.dtype) for p, t in zip(pieces, away, strict=True)])
    return [next(moved) if t is not None and t.is_cuda else t for t in tensors]


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
    _needed: dict[float, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Block:
        """A block of one, with what the snapshot knows of those before it."""
        before = None if snapshot.previous is None else cls((snapshot.previous,))
        return cls((snapshot,), before, snapshot.first)

    def singles(self) -> list[Snapshot]:
        """The snapshots, each with the one before it and the first of all."""
        earlier = [self.before.snapshots[-1] if self.before else None, *self.snapshots[:-1]]
        singles = [
            replace(snapshot, previous=previous and previous.lean(), first=self.first)
            for snapshot, previous in zip(self.snapshots, earlier, strict=True)
        ]
        if len(singles) == 1:  # what has travelled does not travel again
            singles[0].__dict__["_table"] = self._table
        return singles

    @property
    def geometry(self) -> ClusterGeometry:
        """The clusters."""
        return self.snapshots[0].geometry

    @property
    def view(self) -> TwoLayerView:
        """The live layers, which do not hold these states any more."""
        return self.snapshots[0].view

    @cached_property
    def _table(self) -> _Table:
        # one by itself has been looked at for its problem already
        return _Table.of(self.snapshots) if len(self.snapshots) > 1 else self.snapshots[0]._table

    @property
    def neurons(self) -> Neurons:
        """The networks, tables of (K, p, ...)."""
        return self._table.neurons

    @property
    def control(self) -> Tensor:
        """W in a random span, float64 (K, p, k)."""
        return self._table.control

    @property
    def flawless(self) -> bool:
        """Whether no snapshot has a `problem`."""
        batch = self._table.batch
        if batch is None:
            return not self.snapshots[0].detached
        return self._table.sound and batch.in_range

    @cached_property
    def batch(self) -> Batch | None:
        """What the steps saw, tables of (K, m, ...); None if they saw no batch, or a problem."""
        return self._table.batch if self.flawless else None

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

    def needed_zeta(self, H: float) -> Tensor:
        """`heaviness.needed_zeta` of each neuron, (K, p)."""
        if H not in self._needed:
            self._needed[H] = needed_zeta_of(self.neurons, H)
        return self._needed[H]

    @cached_property
    def squares(self) -> Tensor:
        """Squared size of each part of each neuron, float64 (K, parts, p), as `growth.PARTS`."""
        return torch.stack(growth.squares(self.neurons), dim=1)

    @cached_property
    def slopes(self) -> Tensor:
        """Mean |dl/df| on each cluster, float64 (K, clusters); NaN where the law does not apply."""
        if self.batch is None or not (self.view.plain and self.snapshots[0].sizes.plain):
            shape = (len(self.snapshots), len(self.geometry.labels))
            return torch.full(shape, torch.nan, dtype=torch.float64)
        return self.batch.slopes(self.geometry)

    @cached_property
    def predicted(self) -> Tensor:
        """`squares` as the mean-field law predicts them one step later; NaN where it does not apply."""
        if self.batch is None or self.slopes.isnan().all():
            return torch.full_like(self.squares, torch.nan)
        shares = torch.full_like(self.slopes, 1 / self.slopes.shape[-1])
        parts = growth.predicted_squares(
            self.neurons, self.slopes, shares, self.etas, self.batch.size
        )
        return torch.stack(parts, dim=1)

    def shifted(self, read: Callable[[Block], Tensor]) -> Tensor:
        """What `read` makes of the snapshot before each of ours, (K, ...)."""
        assert self.before is not None
        return torch.cat([read(self.before)[-1:], read(self)[:-1]])
