"""Clusters, their signal span, and neurons seen through it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack._precision import unrounded
from phasetrack.errors import expected_error
from phasetrack.model.batch_invariance import filled, undivided
from phasetrack.model.projection import Projection, with_control

# Two unit vectors whose inner product stays under this count as orthogonal (chosen here: far above
# float64 rounding, far below any angle that a person would declare).
ORTHOGONALITY_TOLERANCE = 1e-9

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class _Placed:
    """A geometry's tables on one device, in one dtype.

    Attributes:
        basis: of the signal span, (d, k).
        centres: (K, d).
        offsets: -|centre|^2 / 2, (K,): a score is x . centre plus its offset.
        projection: on the signal span.
        few: whether that span lies in few of the d coordinates.
        inside: the centres in those, (., K).
    """

    basis: Tensor
    centres: Tensor
    offsets: Tensor
    projection: Projection
    few: bool
    inside: Tensor

    @cached_property
    def reading(self) -> Projection:
        """On the signal span, and beside it the control; made where weights are read."""
        return with_control(self.basis)

    @classmethod
    def of(cls, basis: Tensor, centres: Tensor) -> _Placed:
        projection = Projection(basis)
        inside = projection.inside(centres).T.contiguous()
        offsets = centres.square().sum(dim=1) / -2
        return cls(basis, centres, offsets, projection, len(inside) < len(basis), inside)


class Decomposition(NamedTuple):
    """``W = sig + opp + perp``, three mutually orthogonal parts, each (..., p, d)."""

    sig: Tensor
    opp: Tensor
    perp: Tensor


class ClusterGeometry:
    """Where the data's clusters lie and which label each has (arXiv 2309.15111; theory.md 2).

    Each sample is taken as its cluster's centre plus noise that is orthogonal to all centres.

    Attributes:
        centres: cluster centres, float64 (K, d).
        labels: their labels, float64 (K,): -1 or +1, or the class index where there are more than
            two classes.
        classes: the class of each cluster, int64 (K,); of two classes, 1 is the one labelled +1.
        names: one name a cluster, used in metric names.
        basis: orthonormal basis of the signal span, float64 (d, k). Where the spans of the
            classes are orthogonal, the columns `spans[c]` span the centres of class c.
        splits: whether they are orthogonal; where not, all signal counts as `sig` and `opp` is 0.

    Args:
        centres: (K, d), K >= 2 distinct rows.
        labels: (K,), in {-1, +1} or {0, 1}, or class indices 0, 1, ..., n - 1 as the model's logits
            are ordered; all classes present.
        names: optional cluster names; ``c0``, ``c1``, ... otherwise.

    Raises:
        ExpectedError: naming the argument, what was expected and what was given.

    Example:
        >>> xor = ClusterGeometry([[1, -1, 0], [-1, 1, 0], [1, 1, 0], [-1, -1, 0]], [1, 1, -1, -1])
        >>> xor.dim, xor.signal_dim, xor.splits
        (3, 2, True)
    """

    def __init__(
        self,
        centres: Tensor | Sequence[Sequence[float]],
        labels: Tensor | Sequence[float],
        names: Sequence[str] | None = None,
    ) -> None:
        self.centres = _checked_centres(centres)
        self.labels, self.classes = _checked_labels(labels, len(self.centres))
        self.names = tuple(names) if names else tuple(f"c{i}" for i in range(len(self.centres)))
        if len(set(self.names)) != len(self.centres):
            raise expected_error("names", f"{len(self.centres)} distinct names", self.names)
        parts = [_orthonormal(self.centres[self.classes == c]) for c in range(self.class_count)]
        overlaps = (one.T @ other for one, other in itertools.combinations(parts, 2))
        self.splits = all(bool((o.abs() <= ORTHOGONALITY_TOLERANCE).all()) for o in overlaps)
        # of two classes the positive one comes first
        order = (1, 0) if self.class_count == 2 else range(self.class_count)
        self.basis = (
            torch.cat([parts[c] for c in order], dim=1)
            if self.splits
            else _orthonormal(self.centres)
        )
        self.spans = self._spans([parts[c].shape[1] for c in order], order)
        self._placed: dict[tuple[torch.device, torch.dtype], _Placed] = {}

    @classmethod
    def from_directions(
        cls,
        directions: Tensor | Sequence[Sequence[float]],
        labels: Tensor | Sequence[float],
        names: Sequence[str] | None = None,
    ) -> ClusterGeometry:
        """Clusters at plus and minus each direction, both with its label, as XOR's.

        Args:
            directions: (K, d).
            labels: (K,), in {-1, +1} or {0, 1}, both classes present.
            names: optional names of the directions; the minus side is called ``-name``.

        Example:
            >>> ClusterGeometry.from_directions([[1, -1, 0], [1, 1, 0]], [1, -1]).names
            ('c0', '-c0', 'c1', '-c1')
        """
        table = torch.as_tensor(directions, dtype=torch.float64).detach().cpu()
        given = torch.as_tensor(labels, dtype=torch.float64).detach().cpu()
        if table.ndim != 2 or given.shape != table.shape[:1]:
            raise expected_error(
                "directions",
                "a (K, d) table with one label a row",
                f"{tuple(table.shape)} and {tuple(given.shape)}",
            )
        both = torch.stack([table, -table], dim=1).flatten(0, 1)
        stems = names or [f"c{i}" for i in range(len(table))]
        called = [name for stem in stems for name in (stem, f"-{stem}")]
        return cls(both, given.repeat_interleave(2), called)

    @classmethod
    def from_data(
        cls, inputs: Tensor, labels: Tensor, clusters: Tensor | None = None
    ) -> ClusterGeometry:
        """Clusters at the means of a sample's classes, or of its clusters.

        Args:
            inputs: (m, d).
            labels: (m,), as the constructor takes them.
            clusters: which cluster each input belongs to, integers (m,); None takes one cluster a
                class. A cluster whose inputs differ in label is refused.

        Raises:
            ExpectedError: if sizes do not match, or a cluster has both labels.

        Example:
            >>> x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
            >>> ClusterGeometry.from_data(x, torch.tensor([1, 1, 0])).centres.tolist()
            [[0.0, 2.0], [2.0, 0.0]]
        """
        groups = labels if clusters is None else clusters
        if inputs.ndim != 2 or not len(inputs) == len(labels) == len(groups):
            raise expected_error(
                "inputs",
                "a (m, d) table with a label (and a cluster) for each row",
                f"{tuple(inputs.shape)}, {tuple(labels.shape)} and {tuple(groups.shape)}",
            )
        centres, signs, names = [], [], []
        for group in torch.unique(groups).tolist():
            members = groups == group
            found = torch.unique(labels[members])
            if len(found) > 1:
                raise expected_error(
                    "clusters", "one label in each cluster", f"{found.tolist()} in cluster {group}"
                )
            centres.append(inputs[members].double().mean(dim=0))
            signs.append(float(found))
            names.append(f"c{group:g}")
        return cls(torch.stack(centres), signs, names)

    def _spans(self, sizes: Sequence[int], order: Sequence[int]) -> tuple[slice, ...]:
        """Columns of the basis for each class: its own, or all where the classes overlap."""
        if not self.splits:
            return (slice(0, self.signal_dim),) * self.class_count
        ends = list(itertools.accumulate(sizes))
        columns = {c: slice(end - n, end) for c, n, end in zip(order, sizes, ends, strict=True)}
        return tuple(columns[c] for c in range(self.class_count))

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return int(self.classes.max()) + 1

    @property
    def dim(self) -> int:
        """Dimension d of the input."""
        return self.centres.shape[1]

    @property
    def signal_dim(self) -> int:
        """Dimension k of the signal span."""
        return self.basis.shape[1]

    @property
    def chance(self) -> float:
        """Share of a random direction's squared length that falls in the signal span: k/d."""
        return self.signal_dim / self.dim

    def decompose(self, W: Tensor, A: Tensor) -> Decomposition:
        """Split first-layer weights into signal, opposing and perpendicular parts.

        sig is the projection on the span of the centres of the class that the neuron votes for, opp
        the one on the span of the others (theory.md 2). A neuron votes by the sign of a (a >= 0
        for +1), or for the class of its largest second-layer weight.

        Args:
            W: first-layer weights (..., p, d).
            A: second-layer weights (..., p), or (..., heads, p) as torch.nn.Linear holds them.

        Returns:
            Decomposition of W, in W's dtype and on its device.
        """
        A = _checked_weights(W, A, self)
        basis = self._on(W).basis
        coordinates = W @ basis
        whole = coordinates @ basis.T
        if not self.splits:
            return Decomposition(whole, torch.zeros_like(W), W - whole)
        votes = (A >= 0).long() if A.ndim < W.ndim else A.argmax(dim=-2)
        own = torch.stack([self._columns(c).to(W) for c in range(self.class_count)])
        sig = (coordinates * own[votes]) @ basis.T
        return Decomposition(sig, (coordinates * (1 - own[votes])) @ basis.T, W - whole)

    def _columns(self, label: int) -> Tensor:
        """1 in the basis columns of a class, 0 elsewhere, (k,)."""
        chosen = torch.zeros(self.signal_dim)
        chosen[self.spans[label]] = 1.0
        return chosen

    def assign(self, inputs: Tensor) -> Tensor:
        """Index of the cluster nearest to each input within the signal span: (m, d) -> int64 (m,).

        Raises:
            ExpectedError: if the inputs' last dimension is not d.
        """
        return self.nearest(self.traces(inputs))

    def traces(self, inputs: Tensor) -> Tensor:
        """What of each input decides on its cluster, a few numbers: (m, d) -> (m, .), a copy.

        Raises:
            ExpectedError: if the inputs' last dimension is not d.
        """
        if inputs.shape[-1] != self.dim:
            raise expected_error("inputs", f"last dimension {self.dim}", tuple(inputs.shape))
        inputs = inputs if inputs.is_floating_point() else inputs.double()
        on = self._on(inputs)
        if on.few:
            return on.projection.inside(inputs)
        with unrounded(inputs):
            return torch.addmm(on.offsets, inputs, on.centres.T)

    def nearest(self, traces: Tensor) -> Tensor:
        """The cluster that each input's `traces` decide on: (..., .) -> int64 (...)."""
        on = self._on(traces)
        if not on.few:
            return traces.max(dim=-1).indices
        # column by column: the last digits do not depend on how many rows there are;
        # clusters first: PyTorch is slow to find the largest along a last dimension of a few
        shape = (-1, *[1] * (traces.ndim - 1))
        scores = on.offsets.view(shape)
        for column, weights in zip(traces.unbind(-1), on.inside, strict=True):
            scores = scores + column * weights.view(shape)
        return scores.max(dim=0).indices

    def project(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (..., d) in the signal span's basis, (..., k), and the length of the rest, (...)."""
        return self._on(W).projection.parts(W)

    def read(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """As `project`, and W in a random span beside it, the control: (..., 2k) and (...)."""
        return self._on(W).reading.parts(W)

    def _on(self, like: Tensor) -> _Placed:
        """Basis and centres in the dtype and on the device of `like`."""
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = _Placed.of(self.basis.to(like), self.centres.to(like))
        return self._placed[key]

    def __repr__(self) -> str:
        sizes = f"clusters={len(self.centres)}, classes={self.class_count}"
        return f"ClusterGeometry({sizes}, d={self.dim}, k={self.signal_dim})"


@dataclass(frozen=True)
class Neurons:
    """All that the measures need of a two-layer network: a few numbers a neuron, whatever d is.

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
    """

    geometry: ClusterGeometry
    coordinates: Tensor
    perp: Tensor
    second_layer: Tensor
    head: Tensor | None = None
    bias: Tensor | None = None
    output_bias: Tensor | None = None
    scale: float | None = None
    activation: Activation = torch.relu

    @classmethod
    def of(cls, W: Tensor, a: Tensor, geometry: ClusterGeometry) -> Neurons:
        """Neurons of weights W (..., p, d) and a (..., p), in W's dtype."""
        a = _checked_weights(W, a, geometry)
        coordinates, perp = geometry.project(W)
        if a.ndim < W.ndim:
            return cls(geometry, coordinates, perp, a)
        head = a.transpose(-1, -2)
        return cls(geometry, coordinates, perp, head_length(head), head)

    def row(self, index: int) -> Neurons:
        """One network of a table of several."""
        columns = ("coordinates", "perp", "second_layer", "head", "bias", "output_bias")
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
    def contributions(self) -> Tensor:
        """What each neuron adds to each margin, (..., p, margins).

        With two classes a margin a cluster: s_c a_j act(w_j . c). With n classes n - 1 a cluster,
        one for each other class k: (A_yj - A_kj) act(w_j . c).
        """
        active = self.activated(self.preactivations)
        if self.head is None:
            signed = self.geometry.labels.to(self.coordinates) * active
            return signed * self.second_layer.unsqueeze(-1)
        return (active.unsqueeze(-1) * self.ahead(self.head)).flatten(-2)

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

    def ahead(self, values: Tensor) -> Tensor:
        """By how much each cluster's own class is ahead of the others, (..., n) to (..., K, n-1)."""
        classes, n = self.geometry.classes.to(values.device), self.geometry.class_count
        others = torch.stack([torch.arange(n)[torch.arange(n) != c] for c in classes.tolist()])
        own = values[..., classes].unsqueeze(-1)
        return own - values[..., others.to(values.device)]

    @cached_property
    def votes(self) -> Tensor:
        """The class that each neuron votes for, int64 (..., p)."""
        return (self.second_layer >= 0).long() if self.head is None else self.head.argmax(dim=-1)

    @cached_property
    def sig(self) -> Tensor:
        """|sig| of each neuron, (..., p)."""
        return self.sizes(self.votes)[0]

    @cached_property
    def opp(self) -> Tensor:
        """|opp| of each neuron, (..., p)."""
        return self.sizes(self.votes)[1]

    def sizes(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        """|sig| and |opp| if the neurons voted so, (..., p) each."""
        if not self.geometry.splits:  # every class has the whole span
            sig = _length(self.coordinates)
            return sig, torch.zeros_like(sig)
        if len(self._class_norms) == 2:
            (low, high), second = self._class_norms, votes == 1
            return torch.where(second, high, low), torch.where(second, low, high)
        norms, own = torch.stack(self._class_norms, dim=-1), votes.unsqueeze(-1)
        return norms.gather(-1, own).squeeze(-1), _length(norms.scatter(-1, own, 0.0))

    @cached_property
    def _class_norms(self) -> list[Tensor]:
        """Length of each neuron's projection on the span of each class, (..., p) each."""
        return [_length(self.coordinates[..., span]) for span in self.geometry.spans]

    @cached_property
    def mass(self) -> Tensor:
        """|w|^2 of each neuron, (..., p)."""
        # PyTorch is slow to sum over a last dimension of a few
        return _length(self.coordinates).square() + self.perp.square()

    @property
    def output_scale(self) -> float:
        """The factor on the sum over neurons: `scale`, or 1/p."""
        return 1 / self.second_layer.shape[-1] if self.scale is None else self.scale


def _checked_centres(centres: Tensor | Sequence[Sequence[float]]) -> Tensor:
    table = torch.as_tensor(centres, dtype=torch.float64).detach().cpu()
    if table.ndim != 2 or len(table) < 2:
        raise expected_error("centres", "a (K, d) table of K >= 2 centres", tuple(table.shape))
    if not table.isfinite().all():
        raise expected_error("centres", "finite values", "NaN or infinity")
    if len({tuple(row) for row in table.tolist()}) != len(table):
        raise expected_error("centres", "distinct rows", "a centre that repeats")
    return table


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


def _checked_labels(labels: Tensor | Sequence[float], count: int) -> tuple[Tensor, Tensor]:
    """Labels as the measures take them, and class indices."""
    given = torch.as_tensor(labels, dtype=torch.float64).detach().cpu()
    if given.shape != (count,):
        raise expected_error("labels", f"one label for each of {count} centres", tuple(given.shape))
    values = sorted(set(given.tolist()))
    if values in ([-1.0, 1.0], [0.0, 1.0]):
        positive = given > 0
        return torch.where(positive, 1.0, -1.0).to(torch.float64), positive.long()
    if len(values) < 3 or values != [float(c) for c in range(len(values))]:
        raise expected_error(
            "labels", "both classes, as {-1, +1} or {0, 1}, or all of 0, 1, ..., n - 1", values
        )
    return given, given.long()


def _checked_weights(W: Tensor, a: Tensor, geometry: ClusterGeometry) -> Tensor:
    """The second layer as (..., p), or (..., n, p) for n > 2 classes, once both layers fit."""
    if W.ndim < 2 or W.shape[-1] != geometry.dim:
        raise expected_error("W", f"shape (..., p, {geometry.dim})", tuple(W.shape))
    if geometry.class_count > 2:
        wanted = (*W.shape[:-2], geometry.class_count, W.shape[-2])
    else:
        wanted = tuple(W.shape[:-1])
        if a.ndim == W.ndim and a.shape[-2] == 1:
            a = a.squeeze(-2)
    if tuple(a.shape) != wanted:
        raise expected_error("a", f"shape {wanted}", tuple(a.shape))
    return a


def _orthonormal(vectors: Tensor) -> Tensor:
    """Orthonormal basis (d, rank) of the span of the rows of `vectors`."""
    _, sizes, rows = torch.linalg.svd(vectors, full_matrices=False)
    rank = int((sizes > ORTHOGONALITY_TOLERANCE * sizes.max()).sum())
    basis: Tensor = rows[:rank].T.contiguous()
    basis[(vectors == 0).all(dim=0)] = 0.0  # exactly, so that few coordinates are seen as few
    return basis
