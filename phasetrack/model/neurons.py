"""Neurons seen through a geometry: a few numbers per neuron, whatever d is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phasetrack._precision import is_away
from phasetrack.errors import ExpectedError
from phasetrack.model.batch_invariance import filled, undivided

if TYPE_CHECKING:
    from phasetrack.model.span import Geometry

Activation = Callable[[Tensor], Tensor]

# Numbers along a dimension from which on numpy finds the largest sooner.
WIDE = 32


@dataclass(frozen=True)
class Neurons:
    """All that the measures need of a two-layer network: a few numbers per neuron, whatever d is.

    The table is small (p rows), so that it travels to the host in one piece and is measured there
    in float64. Leading dimensions are a batch: of steps, of runs, of forecast draws.

    Attributes:
        geometry: the clusters that the coordinates refer to.
        coordinates: W in the basis of the signal span, (..., p, k).
        perp: length of what is left of each w, (..., p).
        second_layer: a, (..., p); with more than two classes the length of each neuron's head
            weights about their mean.
        head: second-layer weights of each class, (..., p, n), for more than two classes; else None.
        bias: first-layer bias (..., p), or None.
        output_bias: what is added to f (...), or to each class's output (..., n), or None.
        scale: factor on the sum over neurons, f = scale * sum_j a_j act(w_j . x); None means 1/p.
        activation: act; ReLU in the paper.
        noise: root mean square of w . x across the signal span, (..., p); None where the noise has variance 1
            per coordinate and no mean, so that it is perp.
    """

    geometry: Geometry
    coordinates: Tensor
    perp: Tensor
    second_layer: Tensor
    head: Tensor | None = None
    bias: Tensor | None = None
    output_bias: Tensor | None = None
    scale: float | None = None
    activation: Activation = torch.relu
    noise: Tensor | None = None

    @classmethod
    def of(cls, W: Tensor, a: Tensor, geometry: Geometry) -> Neurons:
        """Neurons of weights W (..., p, d) and a (..., p), in W's dtype."""
        a = checked_weights(W, a, geometry)
        coordinates, perp = geometry.project(W)
        if a.ndim < W.ndim:
            return cls(geometry, coordinates, perp, a)
        head = a.transpose(-1, -2)
        return cls(geometry, coordinates, perp, head_length(head), head)

    def row(self, index: int | slice) -> Neurons:
        """One network of a table of several."""
        columns = ("coordinates", "perp", "second_layer", "head", "bias", "output_bias", "noise")
        tables = {name: getattr(self, name) for name in columns}
        values: dict[str, Any] = {n: None if t is None else t[index] for n, t in tables.items()}
        return replace(self, **values)

    @cached_property
    def preactivations(self) -> Tensor:
        """w_j . c (+ bias) for every neuron and centre, (..., p, K)."""
        on = self.geometry._on(self.coordinates)
        values = self.coordinates @ (on.centres @ on.basis).T
        return values if self.bias is None else values + self.bias.unsqueeze(-1)

    @cached_property
    def active(self) -> Tensor:
        """Act(w_j . c) for every neuron and centre, (..., p, K)."""
        return self.activated(self.preactivations)

    @cached_property
    def contributions(self) -> Tensor:
        """What each neuron adds to each cluster's margin with two classes, s_c a_j act(w_j . c): (..., p, K)."""
        signed = self.geometry.labels.to(self.coordinates) * self.active
        return signed * self.second_layer.unsqueeze(-1)

    @cached_property
    def logits(self) -> Tensor:
        """Sum over neurons of A_j act(w_j . c) with more than two classes, (..., K, n); no scale, no bias."""
        assert self.head is not None
        # each network by itself: of a batch the last digits depend on how many there are
        pairs = zip(_networks(self.active), _networks(self.head), strict=True)
        sums = torch.stack([torch.mm(active.T, head) for active, head in pairs])
        return sums.view(*self.head.shape[:-2], *sums.shape[-2:])

    def activated(self, values: Tensor) -> Tensor:
        """Act of (..., p, K), the same digits for each network however many there are."""
        if self.activation is torch.relu:
            return torch.relu(values)
        flat = values.flatten(-2)
        rows = filled(flat)
        (active,) = undivided(
            lambda some: (self.activation(some),), rows.reshape(-1, rows.shape[-1])
        )
        return active[:, : flat.shape[-1]].reshape(values.shape)

    @cached_property
    def votes(self) -> Tensor:
        """The class that each neuron votes for, int64 (..., p)."""
        return (self.second_layer >= 0).long() if self.head is None else largest(self.head)

    @cached_property
    def sig(self) -> Tensor:
        """|sig| of each neuron, (..., p)."""
        return self._own_sizes[0]

    @cached_property
    def opp(self) -> Tensor:
        """|opp| of each neuron, (..., p)."""
        return self._own_sizes[1]

    @cached_property
    def _own_sizes(self) -> tuple[Tensor, Tensor]:
        return self.sizes(self.votes)

    def sizes(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        """|sig| and |opp| if the neurons voted so, (..., p) each."""
        if not self.geometry.splits:  # every class has the whole span
            return self._signal, torch.zeros_like(self._signal)
        if len(self.geometry.spans) == 2:
            (low, high), second = self._two_norms, votes == 1
            return torch.where(second, high, low), torch.where(second, low, high)
        norms, own = self._class_norms, votes.unsqueeze(-1)
        return norms.gather(-1, own).squeeze(-1), _length(norms.scatter(-1, own, 0.0))

    @cached_property
    def _two_norms(self) -> list[Tensor]:
        """Length of each neuron's projection on the spans of two classes, (..., p) each."""
        return [_length(self.coordinates[..., span]) for span in self.geometry.spans]

    @cached_property
    def _class_norms(self) -> Tensor:
        """Length of each neuron's projection on the span of each class, (..., p, n)."""
        squares, spans = self.coordinates.square(), self.geometry.spans
        owners = [label for label, span in enumerate(spans) for _ in range(span.start, span.stop)]
        sums = squares.new_zeros(*squares.shape[:-1], len(spans))
        places = torch.tensor(owners, device=squares.device)
        return sums.index_add_(-1, places, squares).sqrt()

    @cached_property
    def mass(self) -> Tensor:
        """|w|^2 of each neuron, (..., p)."""
        # PyTorch is slow to sum over a last dimension of a few
        return self._signal.square() + self.perp.square()

    @cached_property
    def reach(self) -> Tensor:
        """|a| |w| of each neuron, (..., p), with `spread` for perp and the bias as a weight on 1.

        It bounds the root mean square of what the neuron adds to the output, and is the same for every
        split of a neuron's scale between the layers.
        """
        squares = self._signal.square() + self.spread.square()
        if self.bias is not None:
            squares = squares + self.bias.square()
        return self.second_layer.abs() * squares.sqrt()

    @property
    def spread(self) -> Tensor:
        """Root mean square of the noise's part of w . x, (..., p): `noise`, or perp for unit noise."""
        return self.perp if self.noise is None else self.noise

    @property
    def deviation(self) -> Tensor | float:
        """Standard deviation of the noise per coordinate across the span, along each w: (..., p), or 1."""
        if self.noise is None:
            return 1.0
        return torch.where(self.perp > 0, self.noise / self.perp, 0.0)

    @cached_property
    def _signal(self) -> Tensor:
        """Length of each neuron's projection on the signal span, (..., p)."""
        return _length(self.coordinates)

    @property
    def output_scale(self) -> float:
        """The factor on the sum over neurons: `scale`, or 1/p."""
        return 1 / self.second_layer.shape[-1] if self.scale is None else self.scale


def largest(values: Tensor) -> Tensor:
    """Return the index of the largest along the last dimension, int64 (...).

    PyTorch is slow to find it along a last dimension of many; numpy is slow along one of a few.
    """
    if is_away(values) or values.shape[-1] < WIDE:
        return values.max(dim=-1).indices
    return torch.from_numpy(values.detach().cpu().double().numpy().argmax(axis=-1)).to(
        values.device
    )


def _networks(table: Tensor) -> tuple[Tensor, ...]:
    """The table of each network, (..., p, n) to (p, n) each."""
    return table.reshape(-1, *table.shape[-2:]).unbind()


def head_length(head: Tensor) -> Tensor:
    """Length of each neuron's head weights about their mean, (..., p, n) to (..., p).

    A constant added to all classes changes no margin, so it does not count.
    """
    return _length(head - head.mean(dim=-1, keepdim=True))


def _length(values: Tensor) -> Tensor:
    """Of vectors (..., k): (...)."""
    if values.shape[-1] == 1:
        return values.squeeze(-1).abs()
    length: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return length


def checked_weights(W: Tensor, a: Tensor, geometry: Geometry) -> Tensor:
    """Return the second layer as (..., p), or (..., n, p) for n > 2 classes, once both layers fit."""
    if W.ndim < 2 or W.shape[-1] != geometry.dim:
        raise ExpectedError(
            "W",
            f"Shape {tuple(W.shape)} does not end in the geometry's dimension {geometry.dim}.",
            f"Pass first-layer weights of shape (..., p, {geometry.dim}).",
        )
    if geometry.class_count > 2:
        wanted = (*W.shape[:-2], geometry.class_count, W.shape[-2])
    else:
        wanted = tuple(W.shape[:-1])
        if a.ndim == W.ndim and a.shape[-2] == 1:
            a = a.squeeze(-2)
    if tuple(a.shape) != wanted:
        raise ExpectedError(
            "a", f"Shape {tuple(a.shape)} does not match W.", f"Pass shape {wanted}."
        )
    return a
