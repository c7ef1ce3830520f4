"""The signal span found from data or from a network, for those who know no clusters.

Two estimates, both a symmetric (d, d) matrix whose leading eigenvectors span the signal:

- moments of the centred data with the labels: mean of y x, and mean of y x x^T, which tends to 1 along mu1 and
  -1 along mu2 of XOR; they need no network, and see signals of first and second order;
- the average gradient outer product (AGOP) of a network, mean of grad f (grad f)^T: the directions that its
  output depends on.

The dimension is decided by labels: a direction counts if nearest neighbours on held-out samples know more labels
with it than without, or know some by it alone. A span is trustworthy if it knows the held-out labels better than
the largest class does, and if two estimates of it agree: of two halves of the data, or of two networks or
checkpoints. Two halves of one sample through one network always agree, and say nothing. All this is a
heuristic of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError, check_float, check_int
from phasetrack.measures.label_evidence import MIN_LABEL_ERRORS, HeldOut, proposed_clusters
from phasetrack.measures.label_moment import data_moment
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.samples import Table, class_labels, column, table

MIN_STABILITY = 0.9
MAX_DIM = 16
# Eigenvalues under this share of the largest are rounding and noise, and no directions.
FLOOR = 1e-3
# Labels that the nearest cluster may miss of those that nearest neighbours know.
LOST_LABELS = 0.03
# Finer clusters are taken where they divide the mean squared distance within the span by more than this, and
# that distance is more than this share of the inputs' variance.
FALL = 4.0
LEAST_SPREAD = 0.05

# In which a network may have its weights, when it does not take the inputs as they are.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

Moment = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DiscoveredSpan:
    """A signal span, with the evidence for it.

    Attributes:
        basis: orthonormal, float64 (d, k).
        eigenvalues: of the estimate, sorted by size, float64 (d,).
        gap: factor by which they fall behind the k-th, those under `FLOOR` of the largest counting as that.
        stability: mean squared cosine of the principal angles between the spans of two estimates, of halves of
            the data or of two networks; 1 for the same span, NaN for one network alone.
        chance: what two random spans of this dimension would give, k/d.
        accuracy: share of one half's labels that nearest neighbours in the other half's span know.
        majority: share of the largest class, the accuracy without any signal.
        reason: why the span is not trustworthy; empty if it is.
    """

    basis: Tensor
    eigenvalues: Tensor
    gap: float
    stability: float
    chance: float
    accuracy: float
    majority: float
    reason: str

    @property
    def trustworthy(self) -> bool:
        """Whether the span knows the labels and, where that was measured, is stable."""
        return not self.reason

    @property
    def dim(self) -> int:
        """Dimension k of the span."""
        return self.basis.shape[1]

    def angles_to(self, span: Tensor) -> Tensor:
        """Principal angles in degrees to the span of the columns of `span` (d, j), (min(k, j),)."""
        other = torch.linalg.qr(span.double()).Q
        cosines = torch.linalg.svdvals(self.basis.T @ other)
        return torch.rad2deg(torch.arccos(cosines.clamp(0, 1)))

    def geometry(self, inputs: Table, labels: Table) -> ClusterGeometry:
        """Clusters within the span, for `phasetrack.attach`.

        The first of these whose nearest centre tells the labels about as well as nearest neighbours do, and
        from there on as long as the inputs come much nearer to their centres: the classes' means; points on
        both sides of the mean along each direction of the label-weighted second moment, as far out as the
        class of its sign is; 2, 4 and 8 means per class.

        Args:
            inputs: (m, d).
            labels: (m,), as `discover` takes them.

        Raises:
            ExpectedError: if the inputs have another dimension, or no clusters tell the labels.
        """
        given, y = _checked_data(inputs, labels)
        if given.shape[1] != len(self.basis):
            raise ExpectedError(
                "inputs",
                f"Shape {tuple(given.shape)} does not fit a span in R^{len(self.basis)}.",
                f"Pass inputs of shape (m, {len(self.basis)}).",
            )
        projected = given.cpu().double() @ self.basis
        found, reached, best = None, projected.var(dim=0, correction=0).sum(), 0.0
        least = LEAST_SPREAD * reached
        for centres, owners in proposed_clusters(projected, y):
            distances, nearest = torch.cdist(projected, centres).min(dim=1)
            told = float((owners[nearest] == y).double().mean())
            best, spread = max(best, told), distances.square().mean()
            if told < self.accuracy - LOST_LABELS:
                continue
            if found is not None and not (reached > least and spread * FALL < reached):
                break
            found, reached = (centres, owners), spread
        if found is not None:
            names = [f"c{index}" for index in range(len(found[0]))]
            return ClusterGeometry(found[0] @ self.basis.T, found[1], names)
        raise ExpectedError(
            "span",
            f"No clusters in it tell the labels: the nearest of the best ones tells {best:.0%}, and nearest "
            f"neighbours {self.accuracy:.0%}.",
            "Declare the clusters, as ClusterGeometry(centres, labels).",
        )


def gradient_moment(function: Callable[[Tensor], Tensor]) -> Moment:
    """The AGOP of a function from inputs (m, d) to outputs (m,) or (m, 1), as a moment of data.

    Of n classes the outputs may be n logits, (m, n), whose AGOPs about their mean are added.
    The function is given the inputs in their own dtype, or in the first of `DTYPES` that it takes.
    """

    def moment(inputs: Tensor, labels: Tensor) -> Tensor:
        classes = len(torch.unique(labels))
        dtypes = dict.fromkeys((inputs.dtype, *DTYPES))
        refusals = []
        for dtype in dtypes if inputs.is_floating_point() else DTYPES:
            try:
                gradients = _gradients(function, inputs.to(dtype), classes).cpu().double()
            except (RuntimeError, TypeError) as error:
                refusals.append(error)
                continue
            product: Tensor = gradients.T @ gradients / len(inputs)
            return product
        raise ExpectedError(
            "function",
            f"It raises {refusals[0]!r} on inputs of shape {tuple(inputs.shape)}.",
            f"Pass a function of inputs (m, {inputs.shape[1]}) on {inputs.device}, through which "
            "gradients flow.",
        ) from refusals[0]

    return moment


def _gradients(function: Callable[[Tensor], Tensor], inputs: Tensor, classes: int) -> Tensor:
    """The gradient of each output by its input, (m, d), or (n m, d) for n logits about their mean."""
    with torch.enable_grad():
        at = inputs.detach().clone().requires_grad_(True)
        outputs = function(at)
        if outputs.shape not in ((len(at),), (len(at), 1), (len(at), classes)):
            raise ExpectedError(
                "function",
                f"It returns shape {tuple(outputs.shape)} for {len(at)} inputs.",
                "Pass a function with one output, such as the difference of two logits, or one output "
                f"per class ({classes}).",
            )
        columns = outputs.view(len(at), -1)
        if columns.shape[1] > 1:
            columns = columns - columns.mean(dim=1, keepdim=True)
        sums = columns.sum(dim=0).unbind()
        found = [torch.autograd.grad(each, at, retain_graph=True)[0] for each in sums]
    return torch.cat(found)


def discover(
    inputs: Table,
    labels: Table,
    function: Callable[[Tensor], Tensor] | None = None,
    *,
    other: Callable[[Tensor], Tensor] | None = None,
    dim: int | None = None,
    min_gap: float = 1.0,
    min_stability: float = MIN_STABILITY,
    seed: int = 0,
) -> DiscoveredSpan:
    """The signal span of data, or of a network on data.

    Args:
        inputs: (m, d), m >= 4, a tensor or numpy array.
        labels: (m,) or (m, 1), in {-1, +1} or {0, 1}, bool, class indices, or one-hot rows (m, n).
        function: a network, inputs (m, d) to outputs (m,) or (m, 1), or a logit per class, (m, n); its AGOP
            is taken. It is given the inputs as they are, or in its own dtype. None takes the moments of the data.
        other: a second network, or a checkpoint of the same one at another time, whose span has to agree; None
            leaves `stability` NaN and asks for labels alone.
        dim: the span's dimension; None takes the directions that tell labels, at most `MAX_DIM`.
        min_gap: smallest gap of a trustworthy span; 1 asks for none.
        min_stability: smallest stability of a trustworthy span, where it is measured.
        seed: of the division into halves.

    Raises:
        ExpectedError: naming the argument, what was expected and what was given.

    Example:
        >>> from phasetrack.tasks import XOR
        >>> x, y = XOR(d=16).sample(4000, seed=0, step=0)
        >>> found = discover(x, y)
        >>> found.dim, found.trustworthy, bool(found.angles_to(torch.eye(16)[:, :2]).max() < 5)
        (2, True, True)
    """
    given, y = _checked_data(inputs, labels)
    check_float("min_gap", min_gap, minimum=1.0)
    check_float("min_stability", min_stability, minimum=0.0, maximum=1.0)
    d = given.shape[1]
    if dim is not None:
        check_int("dim", dim, minimum=1, maximum=d)
    if function is None and other is not None:
        raise ExpectedError("other", "There is no first network.", "Pass it as function.")
    x = given.cpu().double()
    second: Tensor | None
    halves = torch.randperm(
        len(x), generator=torch.Generator().manual_seed(seed), device="cpu"
    ).chunk(2)
    if function is None:
        values, vectors = _leading(data_moment(x, y))
        tried, second = (_leading(data_moment(x[half], y[half]))[1] for half in halves)
    else:
        values, vectors = _leading(gradient_moment(function)(given, y))
        tried = vectors
        second = None if other is None else _leading(gradient_moment(other)(given, y))[1]
    candidates = min(MAX_DIM, d, int((values > FLOOR * values[0]).sum()) or 1)
    held_out = HeldOut(
        x[halves[0]] @ tried[:, :candidates],
        y[halves[0]],
        x[halves[1]] @ tried[:, :candidates],
        y[halves[1]],
    )
    chosen = list(range(dim)) if dim is not None else held_out.informative()
    basis = _matched(vectors[:, : max(candidates, len(chosen))], tried[:, chosen])
    k = len(chosen)
    stability = float("nan")
    if second is not None:
        stability = float(
            (tried[:, chosen].T @ _matched(second[:, : max(candidates, k)], tried[:, chosen]))
            .square()
            .sum()
            / k
        )
    fallen = values.clamp_min(float(FLOOR * values[0]))
    gap = float(fallen[k - 1] / fallen[k]) if k < d and values[0] > 0 else float("inf")
    known = HeldOut(
        x[halves[0]] @ tried[:, chosen], y[halves[0]], x[halves[1]] @ tried[:, chosen], y[halves[1]]
    )
    accuracy = known.accuracy(range(k))
    reasons = []
    if gap < min_gap:
        reasons.append(f"the eigenvalues fall by a factor of only {gap:.3g} (asked: {min_gap:g})")
    if stability < min_stability:
        estimates = "two halves of the data" if function is None else "the two networks"
        reasons.append(f"{estimates} agree by {stability:.2g} (asked: {min_stability:g})")
    if not accuracy > known.majority + MIN_LABEL_ERRORS * known.error:
        reasons.append(
            f"it tells {accuracy:.0%} of the labels where {known.majority:.0%} are guessed"
        )
    return DiscoveredSpan(
        basis, values, gap, stability, k / d, accuracy, known.majority, "; ".join(reasons)
    )


def _matched(vectors: Tensor, span: Tensor) -> Tensor:
    """Those of some orthonormal vectors (d, n) that lie most in a span (d, k), in their order: (d, k)."""
    inside = (span.T @ vectors).square().sum(dim=0)
    return vectors[:, inside.topk(span.shape[1]).indices.sort().values]


def _leading(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes of the eigenvalues, falling, and their eigenvectors."""
    values, vectors = torch.linalg.eigh(moment.double())
    order = values.abs().argsort(descending=True)
    return values.abs()[order], vectors[:, order]


def _checked_data(inputs: Table, labels: Table) -> tuple[Tensor, Tensor]:
    """Inputs as they are; labels on the host, float64: -1 and +1, or class indices."""
    x, y = table("inputs", inputs), column("labels", labels)
    if x.ndim != 2 or len(x) < 4 or y.shape != x.shape[:1]:
        raise ExpectedError(
            "inputs",
            f"Shapes {tuple(x.shape)} and {tuple(y.shape)} are not those of a sample.",
            "Pass a (m, d) table of at least 4 inputs, and m labels.",
        )
    if not x.isfinite().all():
        raise ExpectedError("inputs", "The inputs contain NaN or infinity.", "Pass finite inputs.")
    return x, class_labels("labels", y)
