"""Clusters, their signal span, and neurons seen through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack._checks import ExpectedError

# Two unit vectors whose inner product stays under this count as orthogonal (chosen here: far above
# float64 rounding, far below any angle that a person would declare).
ORTHOGONALITY_TOLERANCE = 1e-9

Activation = Callable[[Tensor], Tensor]


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
        labels: their labels, float64 (K,), each -1 or +1.
        names: one name a cluster, used in metric names.
        basis: orthonormal basis of the signal span, float64 (d, k). Where the spans of the two
            classes are orthogonal, the first `positive_dim` columns span the +1 centres and the
            others the -1 centres.
        splits: whether they are orthogonal; where not, all signal counts as `sig` and `opp` is 0.

    Args:
        centres: (K, d), K >= 2 distinct rows.
        labels: (K,), in {-1, +1} or {0, 1}, both classes present.
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
        self.labels = _checked_labels(labels, len(self.centres))
        self.names = tuple(names) if names else tuple(f"c{i}" for i in range(len(self.centres)))
        if len(set(self.names)) != len(self.centres):
            raise ExpectedError("names", f"{len(self.centres)} distinct names", self.names)
        positive, negative = (_orthonormal(self.centres[self.labels == s]) for s in (1, -1))
        overlap = (positive.T @ negative).abs()
        self.splits = bool((overlap <= ORTHOGONALITY_TOLERANCE).all())
        both = torch.cat([positive, negative], dim=1)
        self.basis = both if self.splits else _orthonormal(self.centres)
        self.positive_dim = positive.shape[1] if self.splits else self.basis.shape[1]
        self._cache: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

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
            raise ExpectedError(
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
            labels: (m,), in {-1, +1} or {0, 1}.
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
            raise ExpectedError(
                "inputs",
                "a (m, d) table with a label (and a cluster) for each row",
                f"{tuple(inputs.shape)}, {tuple(labels.shape)} and {tuple(groups.shape)}",
            )
        centres, signs, names = [], [], []
        for group in torch.unique(groups).tolist():
            members = groups == group
            found = torch.unique(labels[members])
            if len(found) > 1:
                raise ExpectedError(
                    "clusters", "one label in each cluster", f"{found.tolist()} in cluster {group}"
                )
            centres.append(inputs[members].double().mean(dim=0))
            signs.append(float(found))
            names.append(f"c{group:g}")
        return cls(torch.stack(centres), signs, names)

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

        sig is the projection on the span of the centres whose label has the sign of a (a >= 0
        counts as +1), opp the one on the span of the others (theory.md 2).

        Args:
            W: first-layer weights (..., p, d).
            A: second-layer weights (..., p), or (..., 1, p) as torch.nn.Linear holds them.

        Returns:
            Decomposition of W, in W's dtype and on its device.
        """
        A = _checked_weights(W, A, self)
        basis, _ = self._on(W)
        first, second = basis[:, : self.positive_dim], basis[:, self.positive_dim :]
        positive, negative = (W @ first) @ first.T, (W @ second) @ second.T
        if not self.splits:
            return Decomposition(positive, torch.zeros_like(W), W - positive)
        side = (A >= 0).unsqueeze(-1)
        perp = W - positive - negative
        return Decomposition(
            torch.where(side, positive, negative), torch.where(side, negative, positive), perp
        )

    def assign(self, inputs: Tensor) -> Tensor:
        """Index of the cluster nearest to each input within the signal span: (m, d) -> int64 (m,).

        Raises:
            ExpectedError: if the inputs' last dimension is not d.
        """
        if inputs.shape[-1] != self.dim:
            raise ExpectedError("inputs", f"last dimension {self.dim}", tuple(inputs.shape))
        support = self._support
        _, centres = self._on(inputs)
        if len(support) * 4 < self.dim:  # axis-aligned signals: read only their few columns
            columns = support.to(inputs.device)
            inputs, centres = inputs[:, columns], centres[:, columns]
        return (inputs @ centres.T - centres.square().sum(dim=1) / 2).argmax(dim=1)

    @cached_property
    def _support(self) -> Tensor:
        return self.centres.abs().sum(dim=0).nonzero().squeeze(1)

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Basis and centres in the dtype and on the device of `like`."""
        key = (like.device, like.dtype)
        if key not in self._cache:
            self._cache[key] = (self.basis.to(like), self.centres.to(like))
        return self._cache[key]

    def __repr__(self) -> str:
        return f"ClusterGeometry(clusters={len(self.centres)}, d={self.dim}, k={self.signal_dim})"


@dataclass(frozen=True)
class Neurons:
    """All that the measures need of a two-layer network: a few numbers a neuron, whatever d is.

    The table is small (p rows), so that it travels to the host in one piece and is measured there
    in float64. Leading dimensions are a batch: of steps, of runs, of forecast draws.

    Attributes:
        geometry: the clusters that the coordinates refer to.
        coordinates: W in the basis of the signal span, (..., p, k).
        perp: length of what is left of each w, (..., p).
        second_layer: a, (..., p).
        bias: first-layer bias (..., p), or None.
        output_bias: second-layer bias (...), or None.
        scale: factor on the sum over neurons, f = scale * sum_j a_j act(w_j . x); None means 1/p.
        activation: act; ReLU in the paper.
    """

    geometry: ClusterGeometry
    coordinates: Tensor
    perp: Tensor
    second_layer: Tensor
    bias: Tensor | None = None
    output_bias: Tensor | None = None
    scale: float | None = None
    activation: Activation = torch.relu

    @classmethod
    def of(cls, W: Tensor, a: Tensor, geometry: ClusterGeometry) -> Neurons:
        """Neurons of weights W (..., p, d) and a (..., p), in W's dtype.

        perp is the length of the residual, not a difference of squares, which would lose half
        the digits once the signal dominates.
        """
        a = _checked_weights(W, a, geometry)
        basis, _ = geometry._on(W)
        coordinates = W @ basis
        perp = torch.linalg.vector_norm(W - coordinates @ basis.T, dim=-1)
        return cls(geometry, coordinates, perp, a)

    @cached_property
    def preactivations(self) -> Tensor:
        """w_j . c (+ bias) for every neuron and centre, (..., p, K)."""
        basis, centres = self.geometry._on(self.coordinates)
        values = self.coordinates @ (centres @ basis).T
        return values if self.bias is None else values + self.bias.unsqueeze(-1)

    @cached_property
    def contributions(self) -> Tensor:
        """s_c * a_j * act(w_j . c): what each neuron adds to each cluster's margin, (..., p, K)."""
        signed = self.geometry.labels.to(self.coordinates) * self.activation(self.preactivations)
        return signed * self.second_layer.unsqueeze(-1)

    @cached_property
    def sig(self) -> Tensor:
        """|sig| of each neuron, (..., p)."""
        positive, negative = self._side_norms
        return torch.where(self.second_layer >= 0, positive, negative)

    @cached_property
    def opp(self) -> Tensor:
        """|opp| of each neuron, (..., p)."""
        positive, negative = self._side_norms
        if not self.geometry.splits:
            return torch.zeros_like(positive)
        return torch.where(self.second_layer >= 0, negative, positive)

    @cached_property
    def _side_norms(self) -> tuple[Tensor, Tensor]:
        positive = torch.linalg.vector_norm(
            self.coordinates[..., : self.geometry.positive_dim], dim=-1
        )
        if not self.geometry.splits:
            return positive, positive
        return positive, torch.linalg.vector_norm(
            self.coordinates[..., self.geometry.positive_dim :], dim=-1
        )

    @cached_property
    def mass(self) -> Tensor:
        """|w|^2 of each neuron, (..., p)."""
        return self.coordinates.square().sum(dim=-1) + self.perp.square()

    @property
    def output_scale(self) -> float:
        """The factor on the sum over neurons: `scale`, or 1/p."""
        return 1 / self.second_layer.shape[-1] if self.scale is None else self.scale


def _checked_centres(centres: Tensor | Sequence[Sequence[float]]) -> Tensor:
    table = torch.as_tensor(centres, dtype=torch.float64).detach().cpu()
    if table.ndim != 2 or len(table) < 2:
        raise ExpectedError("centres", "a (K, d) table of K >= 2 centres", tuple(table.shape))
    if not table.isfinite().all():
        raise ExpectedError("centres", "finite values", "NaN or infinity")
    if len({tuple(row) for row in table.tolist()}) != len(table):
        raise ExpectedError("centres", "distinct rows", "a centre that repeats")
    return table


def _checked_labels(labels: Tensor | Sequence[float], count: int) -> Tensor:
    given = torch.as_tensor(labels, dtype=torch.float64).detach().cpu()
    if given.shape != (count,):
        raise ExpectedError("labels", f"one label for each of {count} centres", tuple(given.shape))
    values = set(given.tolist())
    if values not in ({-1.0, 1.0}, {0.0, 1.0}):
        raise ExpectedError("labels", "both classes, as {-1, +1} or {0, 1}", sorted(values))
    return torch.where(given > 0, 1.0, -1.0).to(torch.float64)


def _checked_weights(W: Tensor, a: Tensor, geometry: ClusterGeometry) -> Tensor:
    """The second layer as (..., p), after checking that both layers fit the geometry."""
    if W.ndim < 2 or W.shape[-1] != geometry.dim:
        raise ExpectedError("W", f"shape (..., p, {geometry.dim})", tuple(W.shape))
    if a.ndim == W.ndim and a.shape[-2] == 1:
        a = a.squeeze(-2)
    if a.shape != W.shape[:-1]:
        raise ExpectedError("a", f"shape {tuple(W.shape[:-1])}", tuple(a.shape))
    return a


def _orthonormal(vectors: Tensor) -> Tensor:
    """Orthonormal basis (d, rank) of the span of the rows of `vectors`."""
    _, sizes, rows = torch.linalg.svd(vectors, full_matrices=False)
    rank = int((sizes > ORTHOGONALITY_TOLERANCE * sizes.max()).sum())
    basis: Tensor = rows[:rank].T.contiguous()
    return basis
