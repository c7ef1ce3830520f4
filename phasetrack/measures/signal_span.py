"""The signal span found from data or from a network, for those who know no clusters.

Two estimates, both a symmetric (d, d) matrix whose leading eigenvectors span the signal:

- the label-weighted second moment of the data, mean of y x x^T: needs no network, and sees signals
  of second order such as XOR's, where it tends to 1 along mu1 and -1 along mu2;
- the average gradient outer product (AGOP) of a network, mean of grad f grad f^T: the directions
  that its output depends on.

The dimension is where the eigenvalues fall by the largest factor. A span is called trustworthy if
that factor is large, if two halves of the data agree on it, and if it knows the labels: nearest
neighbours within it predict the labels of the other half better than always saying the larger class.
Without the last, an untrained network's mean gradient would pass for a signal. All this is chosen
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError, check_float, check_int
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.samples import Table, column, table, two_classes

# Defaults. At the end of the canonical run at d = 512 the gap is above 1000 and the
# labels are known to 100 percent; an untrained network and shuffled labels fail by the labels.
MIN_GAP = 2.0
MIN_STABILITY = 0.9
MIN_LABEL_ERRORS = 4.0  # standard errors above the larger class's share
NEIGHBOURS = 5
TEST_SAMPLES = 1000  # of each half at most, which keeps the search for neighbours small
MAX_DIM = 16
# The data's mean along the span, as a share of its size there, from which on the classes are told
# apart by first order, and their means are the clusters.
FIRST_ORDER_SHARE = 0.25

# In which a network may have its weights, when it does not take the inputs as they are.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

Moment = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DiscoveredSpan:
    """A signal span, with what it rests on.

    Attributes:
        basis: orthonormal, float64 (d, k).
        eigenvalues: of the estimate, sorted by size, float64 (d,).
        gap: factor by which they fall behind the k-th.
        stability: mean squared cosine of the principal angles between the spans that two halves of
            the data give; 1 for the same span.
        chance: what two random spans of this dimension would give, k/d.
        accuracy: share of one half's labels that nearest neighbours in the other half's span know.
        majority: share of the larger class, what accuracy would be without any signal.
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
        """Whether gap and stability are as large as was asked for."""
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

        Where the classes' means tell them apart along the span, those means; otherwise plus and
        minus each direction along which the label-weighted second moment is positive (class +1) or
        negative (class -1), as far out as that class's inputs are on average there.

        Args:
            inputs: (m, d).
            labels: (m,), in {-1, +1} or {0, 1}.

        Raises:
            ExpectedError: if the inputs have another dimension, or no direction of the span speaks for
                one of the classes.
        """
        given, y = _checked_data(inputs, labels)
        if given.shape[1] != len(self.basis):
            raise ExpectedError(
                "inputs",
                f"Shape {tuple(given.shape)} does not fit a span in R^{len(self.basis)}.",
                f"Pass inputs of shape (m, {len(self.basis)}).",
            )
        x = given.cpu().double()
        projected = x @ self.basis
        mean, size = (y.unsqueeze(1) * projected).mean(dim=0), projected.square().sum(dim=1).mean()
        if mean.square().sum() > FIRST_ORDER_SHARE * size:
            means = [projected[y == sign].mean(dim=0) @ self.basis.T for sign in (1, -1)]
            return ClusterGeometry(torch.stack(means), [1, -1], ["mean+", "mean-"])
        values, directions = torch.linalg.eigh(label_moment(projected, y))
        signs = torch.where(values > 0, 1.0, -1.0)
        if len(signs.unique()) < 2:  # type: ignore[no-untyped-call]
            raise ExpectedError(
                "span",
                "The directions found speak for one class only: the label-weighted second moment has "
                f"eigenvalues {values.tolist()}.",
                "Declare the clusters, as ClusterGeometry(centres, labels).",
            )
        along = projected @ directions
        reach = torch.stack(
            [along[y == sign, index].square().mean().sqrt() for index, sign in enumerate(signs)]
        )
        centres = (directions * reach).T @ self.basis.T
        names = [f"direction{index}" for index in range(self.dim)]
        return ClusterGeometry.from_directions(centres, signs, names)


def label_moment(inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean of y (x x^T - mean x x^T), (m, d) and (m,) to (d, d); classes need not be balanced."""
    weights = labels - labels.mean()
    moment: Tensor = (inputs * weights.unsqueeze(1)).T @ inputs / len(inputs)
    return moment


def gradient_moment(function: Callable[[Tensor], Tensor]) -> Moment:
    """The AGOP of a function from inputs (m, d) to outputs (m,) or (m, 1), as a moment of data.

    The function is given the inputs in their own dtype, or in the first of `DTYPES` that it takes.
    """

    def moment(inputs: Tensor, _: Tensor) -> Tensor:
        dtypes = dict.fromkeys((inputs.dtype, *DTYPES))
        refusals = []
        for dtype in dtypes if inputs.is_floating_point() else DTYPES:
            try:
                gradients = _gradients(function, inputs.to(dtype)).cpu().double()
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


def _gradients(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The gradient of each output by its input, (m, d)."""
    with torch.enable_grad():
        at = inputs.detach().clone().requires_grad_(True)
        outputs = function(at)
        if outputs.shape not in ((len(at),), (len(at), 1)):
            raise ExpectedError(
                "function",
                f"It returns shape {tuple(outputs.shape)} for {len(at)} inputs.",
                "Pass a function with one output, such as the difference of two logits.",
            )
        (gradients,) = torch.autograd.grad(outputs.sum(), at)
    return gradients


def discover(
    inputs: Table,
    labels: Table,
    function: Callable[[Tensor], Tensor] | None = None,
    *,
    dim: int | None = None,
    min_gap: float = MIN_GAP,
    min_stability: float = MIN_STABILITY,
    seed: int = 0,
) -> DiscoveredSpan:
    """The signal span of data, or of a network on data.

    Args:
        inputs: (m, d), m >= 4, a tensor or numpy array.
        labels: (m,) or (m, 1), in {-1, +1} or {0, 1}, bool, or one-hot rows (m, 2).
        function: a network, inputs (m, d) to outputs (m,) or (m, 1); its AGOP is taken. It is given
            the inputs as they are, or in its own dtype. None takes the data's label-weighted second
            moment.
        dim: the span's dimension; None chooses it by the largest gap, at most `MAX_DIM`.
        min_gap: smallest gap of a trustworthy span.
        min_stability: smallest stability of a trustworthy span.
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
    x = given.cpu().double()
    check_float("min_gap", min_gap, minimum=1.0)
    check_float("min_stability", min_stability, minimum=0.0, maximum=1.0)
    d = x.shape[1]
    moment = label_moment if function is None else gradient_moment(function)
    seen = x if function is None else given
    values, vectors = _leading(moment(seen, y))
    k = _dimension(values) if dim is None else check_int("dim", dim, minimum=1, maximum=d)
    gap = float(values[k - 1] / values[k]) if k < d and values[k] > 0 else float("inf")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed), device="cpu")
    one, other = order.chunk(2)
    halves = [_leading(moment(seen[half], y[half]))[1][:, :k] for half in (one, other)]
    stability = float((halves[0].T @ halves[1]).square().sum() / k)
    known = x @ halves[0]
    accuracy, majority, error = _label_accuracy(known[one], y[one], known[other], y[other])
    reasons = []
    if not gap >= min_gap:
        reasons.append(f"the eigenvalues fall by a factor of only {gap:.3g} (asked: {min_gap:g})")
    if not stability >= min_stability:
        reasons.append(
            f"two halves of the data agree by {stability:.2g} (asked: {min_stability:g})"
        )
    if not accuracy > majority + MIN_LABEL_ERRORS * error:
        reasons.append(f"it tells {accuracy:.0%} of the labels where {majority:.0%} are guessed")
    reason = "; ".join(reasons)
    return DiscoveredSpan(vectors[:, :k], values, gap, stability, k / d, accuracy, majority, reason)


def _label_accuracy(
    reference: Tensor, reference_labels: Tensor, tested: Tensor, labels: Tensor
) -> tuple[float, float, float]:
    """How many labels nearest neighbours know, the larger class's share, and its standard error."""
    reference, reference_labels = reference[:TEST_SAMPLES], reference_labels[:TEST_SAMPLES]
    tested, labels = tested[:TEST_SAMPLES], labels[:TEST_SAMPLES]
    count = min(NEIGHBOURS, len(reference))
    nearest = torch.cdist(tested, reference).topk(count, largest=False).indices
    votes = reference_labels[nearest].sum(dim=1)
    accuracy = float((votes * labels > 0).double().mean())
    share = float((labels > 0).double().mean())
    majority = max(share, 1 - share)
    return accuracy, majority, (majority * (1 - majority) / len(labels)) ** 0.5 + 1 / len(labels)


def _leading(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes of the eigenvalues, falling, and their eigenvectors."""
    values, vectors = torch.linalg.eigh(moment.double())
    order = values.abs().argsort(descending=True)
    return values.abs()[order], vectors[:, order]


def _dimension(values: Tensor) -> int:
    """Where the eigenvalues fall by the largest factor, within the first `MAX_DIM`."""
    count = min(MAX_DIM, len(values) - 1)
    if count == 0:
        return 1
    # what is zero but for rounding counts as equal
    floor = values[0] * torch.finfo(values.dtype).eps * len(values)
    kept = values[: count + 1].clamp_min(float(floor))
    return int((kept[:-1] / kept[1:]).argmax()) + 1


def _checked_data(inputs: Table, labels: Table) -> tuple[Tensor, Tensor]:
    """Inputs as they are, and labels -1 and +1 on the host, float64."""
    x, y = table("inputs", inputs), column("labels", labels)
    if x.ndim != 2 or len(x) < 4 or y.shape != x.shape[:1]:
        raise ExpectedError(
            "inputs",
            f"Shapes {tuple(x.shape)} and {tuple(y.shape)} are not those of a sample.",
            "Pass a (m, d) table of at least 4 inputs, and m labels.",
        )
    if not x.isfinite().all():
        raise ExpectedError("inputs", "The inputs contain NaN or infinity.", "Pass finite inputs.")
    return x, two_classes("labels", y)
