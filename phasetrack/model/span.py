"""Geometry: the directions of input space that weights are read along; with clusters, without, or none known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack._precision import widened
from phasetrack.errors import ExpectedError
from phasetrack.model.projection import Projection, with_control
from phasetrack.model.samples import Table, table

# Two unit vectors whose inner product stays under this count as orthogonal (far above
# float64 rounding, far below any angle that a person would declare).
ORTHOGONALITY_TOLERANCE = 1e-9
# Why readings that need clusters, or directions, are absent.
NO_CLUSTERS = "it needs clusters, and directions alone are declared (SpanGeometry)"
NOTHING_DECLARED = (
    "it needs clusters or directions, and none are declared: pass geometry=ClusterGeometry(centres, labels) "
    "or SpanGeometry(directions) to attach()"
)


@dataclass(frozen=True, eq=False)
class Placed:
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
    def of(cls, basis: Tensor, centres: Tensor) -> Placed:
        """Place a basis (d, k) and centres (K, d)."""
        projection = Projection(basis)
        inside = projection.inside(centres).T.contiguous()
        offsets = centres.square().sum(dim=1) / -2
        return cls(basis, centres, offsets, projection, len(inside) < len(basis), inside)


class Geometry:
    """A signal span, with the clusters in it as far as there are any. See `SpanGeometry`, `ClusterGeometry`.

    Attributes:
        basis: orthonormal basis of the signal span, float64 (d, k).
        names: of the clusters, or of the directions where there are no clusters.
        centres: cluster centres, float64 (K, d); K = 0 without clusters.
        labels: their labels, float64 (K,).
        classes: the class of each, int64 (K,).
        spans: columns of the basis for each class.
        splits: whether the spans of the classes are orthogonal.
        separated: see `ClusterGeometry`.
        no_clusters: why readings that need clusters are absent; empty where there are clusters.
        no_span: why readings that need a span are absent; empty where there is one.
    """

    basis: Tensor
    names: tuple[str, ...]
    centres: Tensor
    labels: Tensor
    classes: Tensor
    spans: tuple[slice, ...] = ()
    splits = False
    separated = 1.0
    no_clusters = ""
    no_span = ""

    def __init__(self, basis: Tensor, names: Sequence[str], centres: Tensor) -> None:
        self.basis, self.names, self.centres = basis, tuple(names), centres
        self._placed: dict[tuple[torch.device, torch.dtype], Placed] = {}

    @property
    def class_count(self) -> int:
        """Number of classes; 0 without clusters."""
        return int(self.classes.max()) + 1 if len(self.classes) else 0

    @property
    def dim(self) -> int:
        """Dimension d of the input."""
        return self.basis.shape[0]

    @property
    def signal_dim(self) -> int:
        """Dimension k of the signal span."""
        return self.basis.shape[1]

    @property
    def chance(self) -> float:
        """Share of a random direction's squared length that falls in the signal span: k/d."""
        return self.signal_dim / self.dim

    def takes(self, width: int) -> bool:
        """Whether the geometry fits inputs of a width."""
        return width == self.dim

    def traces(self, inputs: Tensor) -> Tensor:
        """Return what of each input decides on its cluster, a few numbers: (m, d) -> (m, .), a copy."""
        return inputs.new_empty((*inputs.shape[:-1], 0))

    def nearest(self, traces: Tensor) -> Tensor:
        """Return the cluster that each input's `traces` decide on, int64 (...); -1 without clusters."""
        return torch.full(traces.shape[:-1], -1, dtype=torch.int64, device=traces.device)

    def project(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (..., d) in the signal span's basis, (..., k), and the length of the rest, (...)."""
        return self._on(W).projection.parts(W)

    def coordinates(self, W: Tensor) -> Tensor:
        """W in the signal span's basis, (..., d) to (..., k)."""
        return self._on(W).projection.coordinates(W)

    def read(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """As `project`, and W in a random span beside it, the control: (..., 2k) and (...)."""
        return self._on(W).reading.parts(W)

    def _on(self, like: Tensor) -> Placed:
        """Basis and centres in the dtype and on the device of `like`."""
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = Placed.of(self.basis.to(like), self.centres.to(like))
        return self._placed[key]

    def _without_clusters(self) -> None:
        self.labels = torch.zeros(0, dtype=torch.float64, device="cpu")
        self.classes = torch.zeros(0, dtype=torch.int64, device="cpu")


class SpanGeometry(Geometry):
    """Directions of the input that the targets depend on, without clusters: a teacher's vectors, frequency pairs.

    Shares of the weights in their span, overlaps with each and growth are read (theory.md 2, 10); all signal
    counts as `sig`. Margins, zeta* and predicted rates need clusters, and are absent with that reason.

    Attributes:
        directions: as given, float64 (n, d).
        names: one name per direction, used in metric names.
        basis: orthonormal basis of their span, float64 (d, k).

    Args:
        directions: (n, d), n >= 1 rows of any length but 0.
        names: optional names; ``u0``, ``u1``, ... otherwise.

    Raises:
        ExpectedError: naming the argument, what was expected and what was given.

    Example:
        >>> teacher = SpanGeometry([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> teacher.signal_dim, teacher.names, round(teacher.chance, 3)
        (2, ('u0', 'u1'), 0.667)
    """

    no_clusters = NO_CLUSTERS

    def __init__(self, directions: Table, names: Sequence[str] | None = None) -> None:
        rows = table("directions", directions).cpu().double()
        if rows.ndim != 2 or not len(rows):
            problem = f"Shape {tuple(rows.shape)} is not a table of directions."
            raise ExpectedError("directions", problem, "Pass directions of shape (n, d), n >= 1.")
        if not rows.isfinite().all() or not rows.any(dim=1).all():
            problem = "A direction is 0, or has NaN or infinity."
            raise ExpectedError("directions", problem, "Pass finite directions other than 0.")
        self.directions = rows
        called = tuple(names) if names else tuple(f"u{index}" for index in range(len(rows)))
        if len(set(called)) != len(rows):
            problem = f"{called!r} are not {len(rows)} distinct names."
            raise ExpectedError("names", problem, "Pass one name per direction.")
        super().__init__(orthonormal(rows), called, rows[:0])
        self._without_clusters()

    def __repr__(self) -> str:
        return f"SpanGeometry(directions={len(self.directions)}, d={self.dim}, k={self.signal_dim})"


class NoGeometry(Geometry):
    """Nothing is declared, or found so far: neither clusters nor directions, for inputs of any width.

    Args:
        reason: why, and how to change it.
    """

    def __init__(self, reason: str = NOTHING_DECLARED) -> None:
        nothing = torch.zeros((0, 0), dtype=torch.float64, device="cpu")
        super().__init__(nothing, (), nothing)
        self._without_clusters()
        self.no_clusters = self.no_span = reason

    @property
    def chance(self) -> float:
        """0: the span is empty."""
        return 0.0

    def takes(self, width: int) -> bool:  # noqa: ARG002
        """Inputs of every width fit."""
        return True

    def project(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """No coordinates, (..., 0), and the whole length, (...)."""
        wide = W if W.is_floating_point() else widened(W)
        # a row that is the only one is summed in another order
        alone = W.ndim > 1 and W.shape[:-1].numel() == 1
        rows = torch.cat([wide, wide]) if alone else wide
        lengths = torch.linalg.vector_norm(rows, dim=-1)
        return self.coordinates(W), lengths[:1] if alone else lengths

    def coordinates(self, W: Tensor) -> Tensor:
        """No coordinates, (..., 0)."""
        return W.new_empty((*W.shape[:-1], 0))

    def read(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """As `project`: there is no control."""
        return self.project(W)

    def __repr__(self) -> str:
        return "NoGeometry()"


def orthonormal(vectors: Tensor) -> Tensor:
    """Orthonormal basis (d, rank) of the span of the rows of `vectors`."""
    _, sizes, rows = torch.linalg.svd(vectors, full_matrices=False)
    rank = int((sizes > ORTHOGONALITY_TOLERANCE * sizes.max()).sum())
    basis: Tensor = rows[:rank].T.contiguous()
    basis[(vectors == 0).all(dim=0)] = 0.0  # exactly, so that few coordinates are seen as few
    return basis
