"""Clusters, their signal span, and neurons seen through it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack._precision import unrounded, widened
from phasetrack.errors import ExpectedError
from phasetrack.model.cluster_means import cluster_means, clusters_of_sample
from phasetrack.model.neurons import Activation as Activation  # where others import them from
from phasetrack.model.neurons import Neurons as Neurons
from phasetrack.model.neurons import checked_weights, largest
from phasetrack.model.neurons import head_length as head_length
from phasetrack.model.samples import Table, column, shortened, table
from phasetrack.model.span import ORTHOGONALITY_TOLERANCE, orthonormal
from phasetrack.model.span import Geometry as Geometry  # where others import them from
from phasetrack.model.span import NoGeometry as NoGeometry
from phasetrack.model.span import SpanGeometry as SpanGeometry


class Decomposition(NamedTuple):
    """``W = sig + opp + perp``, three mutually orthogonal parts, each (..., p, d)."""

    sig: Tensor
    opp: Tensor
    perp: Tensor


class ClusterGeometry(Geometry):
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
        separated: share of the pairs of clusters with different labels whose centres are told apart by the
            sample that they were made of (`from_data`); 1 where centres are declared.
        splits: whether they are orthogonal; where not, all signal counts as `sig` and `opp` is 0.

    Args:
        centres: (K, d), K >= 2 distinct rows.
        labels: (K,), in {-1, +1} or {0, 1}, or class indices 0, 1, ..., n - 1 as the model's logits
            are ordered; all classes present. Shape (K, 1), bool and one-hot rows (K, n) are fine.
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
        centres: Table,
        labels: Table,
        names: Sequence[str] | None = None,
    ) -> None:
        rows = _checked_centres(centres)
        self.labels, self.classes = _checked_labels(labels, len(rows))
        called = tuple(names) if names else tuple(f"c{i}" for i in range(len(rows)))
        if len(set(called)) != len(rows):
            raise ExpectedError(
                "names",
                f"{called!r} are not {len(rows)} distinct names.",
                "Pass one name per centre.",
            )
        parts = [orthonormal(rows[self.classes == c]) for c in range(self.class_count)]
        overlaps = (one.T @ other for one, other in itertools.combinations(parts, 2))
        self.splits = all(bool((o.abs() <= ORTHOGONALITY_TOLERANCE).all()) for o in overlaps)
        # of two classes the positive one comes first
        order = (1, 0) if self.class_count == 2 else range(self.class_count)
        basis = torch.cat([parts[c] for c in order], dim=1) if self.splits else orthonormal(rows)
        super().__init__(basis, called, rows)
        self.spans = self._spans([parts[c].shape[1] for c in order], order)

    @classmethod
    def from_directions(
        cls,
        directions: Table,
        labels: Table,
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
        rows = table("directions", directions).cpu().double()
        given = column("labels", labels).cpu().double()
        if rows.ndim != 2 or given.shape != rows.shape[:1]:
            raise ExpectedError(
                "directions",
                f"Shapes {tuple(rows.shape)} and {tuple(given.shape)} of directions and labels do not fit.",
                "Pass a (K, d) table and K labels.",
            )
        both = torch.stack([rows, -rows], dim=1).flatten(0, 1)
        stems = names or [f"c{i}" for i in range(len(rows))]
        called = [name for stem in stems for name in (stem, f"-{stem}")]
        return cls(both, given.repeat_interleave(2), called)

    @classmethod
    def from_data(
        cls, inputs: Table, labels: Table, clusters: Table | None = None
    ) -> ClusterGeometry:
        """Clusters at the means of a sample's classes, or of its clusters.

        Directions in which the means differ from 0 by no more than their standard errors are dropped
        (`cluster_means`; a heuristic of ours). `separated` is the share of the pairs of clusters whose means
        are told apart; under a half of them, labels of a run on these clusters are UNDETERMINED.

        Args:
            inputs: (m, d), a tensor or numpy array.
            labels: (m,), as the constructor takes them.
            clusters: which cluster each input belongs to, integers (m,); None takes one cluster a
                class. A cluster whose inputs differ in label is refused.

        Raises:
            ExpectedError: if sizes do not match, a value is not finite, all labels are equal, or a
                cluster has inputs of several labels.

        Example:
            >>> x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
            >>> ClusterGeometry.from_data(x, torch.tensor([1, 1, 0])).centres.tolist()
            [[0.0, 2.0], [2.0, 0.0]]
        """
        members, signs, names = clusters_of_sample(inputs, labels, clusters)
        means = cluster_means(members, signs)
        geometry = cls(means.centres, signs, names)
        geometry.separated = means.separated
        return geometry

    def _spans(self, sizes: Sequence[int], order: Sequence[int]) -> tuple[slice, ...]:
        """Columns of the basis for each class: its own, or all where the classes overlap."""
        if not self.splits:
            return (slice(0, self.signal_dim),) * self.class_count
        ends = list(itertools.accumulate(sizes))
        columns = {c: slice(end - n, end) for c, n, end in zip(order, sizes, ends, strict=True)}
        return tuple(columns[c] for c in range(self.class_count))

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
        A = checked_weights(W, A, self)
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
        """Return 1 in the basis columns of a class and 0 elsewhere, (k,)."""
        chosen = torch.zeros(self.signal_dim, device="cpu")
        chosen[self.spans[label]] = 1.0
        return chosen

    def assign(self, inputs: Tensor) -> Tensor:
        """Return the cluster nearest to each input within the signal span, (m, d) to int64 (m,).

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
            raise ExpectedError(
                "inputs",
                f"Shape {tuple(inputs.shape)} does not end in the geometry's dimension {self.dim}.",
                f"Pass inputs of shape (m, {self.dim}).",
            )
        inputs = inputs if inputs.is_floating_point() else widened(inputs)
        on = self._on(inputs)
        if on.few:
            return on.projection.inside(inputs)
        with unrounded(inputs):
            return torch.addmm(on.offsets, inputs, on.centres.T)

    def nearest(self, traces: Tensor) -> Tensor:
        """The cluster that each input's `traces` decide on: (..., .) -> int64 (...)."""
        on = self._on(traces)
        if not on.few:
            return largest(traces)
        # column by column: the last digits do not depend on how many rows there are;
        # clusters first: PyTorch is slow to find the largest along a last dimension of a few
        shape = (-1, *[1] * (traces.ndim - 1))
        scores = on.offsets.view(shape)
        for values, weights in zip(traces.unbind(-1), on.inside, strict=True):
            scores = scores + values * weights.view(shape)
        return scores.max(dim=0).indices

    def __repr__(self) -> str:
        sizes = f"clusters={len(self.centres)}, classes={self.class_count}"
        doubt = "" if self.separated == 1 else f", means told apart={self.separated:.0%}"
        return f"ClusterGeometry({sizes}, d={self.dim}, k={self.signal_dim}{doubt})"


def _checked_centres(centres: Table) -> Tensor:
    rows = table("centres", centres).cpu().double()
    if rows.ndim != 2 or len(rows) < 2:
        raise ExpectedError(
            "centres",
            f"Shape {tuple(rows.shape)} is not a table of at least two centres.",
            "Pass centres of shape (K, d), K >= 2.",
        )
    if not rows.isfinite().all():
        raise ExpectedError("centres", "A centre has NaN or infinity.", "Pass finite centres.")
    if len({tuple(row) for row in rows.tolist()}) != len(rows):
        raise ExpectedError("centres", "A centre appears twice.", "Pass each centre once.")
    return rows


def _checked_labels(labels: Table, count: int) -> tuple[Tensor, Tensor]:
    """Labels as the measures take them, and class indices."""
    given = column("labels", labels).cpu().double()
    if given.shape != (count,):
        raise ExpectedError(
            "labels",
            f"Labels of shape {tuple(given.shape)} do not fit {count} centres.",
            "Pass one label per centre.",
        )
    values = sorted(set(given.tolist()))
    if values in ([-1.0, 1.0], [0.0, 1.0]):
        positive = given > 0
        return torch.where(positive, 1.0, -1.0).to(torch.float64), positive.long()
    if len(values) < 3 or values != [float(c) for c in range(len(values))]:
        raise ExpectedError(
            "labels",
            f"The labels take the values {shortened(values)}.",
            "Pass both classes, as {-1, +1} or {0, 1}, or all of 0, 1, ..., n - 1.",
        )
    return given, given.long()
