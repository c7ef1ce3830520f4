"""What the hooks take of one step: copies on their device and in their dtype, read later or at once.

Small tensors are copied whole and read in a block, many steps together: in the midst of training a copy
costs a fraction of the operations that read it. Of large ones only what they come to is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.geometry import ClusterGeometry
from phasetrack.projection import Projection

# Weights and inputs of at most so many numbers are copied whole (chosen here: larger copies of all
# snapshots that wait in a block would not stay in a processor's cache).
COPIED = 2**14


class Layers(NamedTuple):
    """A network as it was read; in a block every tensor has a leading dimension for the steps.

    Attributes:
        coordinates: W in the signal span's basis, and in a random span of that dimension, (p, 2k).
        perp: length of what the signal span leaves of each neuron, (p,).
        head: the head's weights, (heads, p).
        bias: first-layer bias, (p,), or None.
        head_bias: the head's bias as it stands in the model, (heads,), or None.
    """

    coordinates: Tensor
    perp: Tensor
    head: Tensor
    bias: Tensor | None = None
    head_bias: Tensor | None = None


class Weights(NamedTuple):
    """A small network as it stood, to be read later.

    Attributes:
        projection: on the signal span, and beside it the random one.
        W: first-layer weights, (p, d).
        head, bias, head_bias: as in `Layers`.
    """

    projection: Projection
    W: Tensor
    head: Tensor
    bias: Tensor | None = None
    head_bias: Tensor | None = None


class Seen(NamedTuple):
    """What the loss was called with in one step, all micro-batches together.

    Attributes:
        outputs: (m,), or logits (m, n).
        targets: (m,) or (m, n); integers where they are class indices.
        traces: what decides on each sample's cluster (`ClusterGeometry.traces`); None where the
            samples belong to none, or `copied` has yet to be read.
        sound: whether no inputs were NaN or infinite, as far as the outputs show; bool ().
        inputs: see `Batch`.
        copied: a small batch's inputs, (m, d), from which `traces` and `sound` are read later.
    """

    outputs: Tensor
    targets: Tensor
    traces: Tensor | None
    sound: Tensor
    inputs: tuple[Tensor, ...] = ()
    copied: Tensor | None = None

    def read(self, geometry: ClusterGeometry) -> Seen:
        """With nothing left to be read."""
        if self.copied is None:
            return self
        traces, sound = geometry.traces(self.copied), sound_of(self.outputs, self.copied)
        return self._replace(traces=traces, sound=sound, copied=None)


SOUND = torch.tensor(True)


def sound_of(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Whether no inputs are NaN or infinite, bool (); looked at only where the outputs are."""
    if outputs.is_cuda:  # without waiting for the device
        return outputs.isfinite().all() | inputs.isfinite().all()
    # the sum of finite outputs may be too large, and then says nothing
    if math.isfinite(outputs.sum()):
        return SOUND
    return outputs.isfinite().all() | inputs.isfinite().all()


def layers_of(taken: Sequence[Layers | Weights]) -> Layers:
    """Several networks as tables of (K, ...), each read as it would be by itself, to the bit."""
    columns = [*zip(*taken, strict=True)]
    if isinstance(taken[0], Weights):
        _, weights, *columns = columns
        read = taken[0].projection.read_each(weights)
        return Layers(*read, *map(_stacked, columns))  # type: ignore[arg-type]
    return Layers(*map(_stacked, columns))  # type: ignore[arg-type]


def samples_of(seen: Sequence[Seen], geometry: ClusterGeometry) -> tuple[Tensor, ...]:
    """Outputs, targets, soundness (K,) or (), and clusters (K, m) of several steps; -1 where there are none."""
    outputs = torch.stack([one.outputs for one in seen])
    targets = torch.stack([one.targets for one in seen])
    copied = [one.copied for one in seen if one.copied is not None]
    if copied and not outputs.is_cuda and math.isfinite(outputs.sum()):
        return outputs, targets, SOUND, geometry.nearest(geometry.traces_of_each(copied))
    seen = [one.read(geometry) for one in seen]
    sound = torch.stack([one.sound for one in seen])
    traces = _stacked([one.traces for one in seen])
    if traces is not None:
        return outputs, targets, sound, geometry.nearest(traces)
    return outputs, targets, sound, torch.full(outputs.shape[:2], -1, device=outputs.device)


def _stacked(column: Sequence[Tensor | None]) -> Tensor | None:
    return None if column[0] is None else torch.stack(column)  # type: ignore[arg-type]
