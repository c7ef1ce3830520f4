"""The samples of recorded steps, on the host, as the measures take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.linearization import FirstOrder, first_order
from phasetrack.measures.margins import cluster_means, cluster_sizes
from phasetrack.model.geometry import Geometry
from phasetrack.model.losses import Loss, reduction_of
from phasetrack.tracking.decisions import Decisions, decide
from phasetrack.tracking.host_loss import HostLoss

# How far the loss of the samples may be from the loop's, relative to it, before it counts as another
# loss: well above the rounding of float32, and a few roundings where the loop has a coarser dtype.
LOSS_TOLERANCE = 1e-3
ROUNDINGS = 16
# The reason of first-order errors that would be those of another loss.
LOSS_DIFFERS = (
    "the loss of the samples, evaluated one by one, does not come to the loop's: it is not a mean or "
    "sum over samples, or depends on more than outputs and targets"
)

CANCELS = (
    "the loop's loss counts some samples as much against as it counts others for, so that no loss per "
    "sample comes to it"
)
OF_PROBABILITIES = (
    "the loss takes probabilities, and what the network puts out before them is not known; give the "
    "loss logits, or let a forward pass be seen from the first layer to the loss"
)


class Pulls(NamedTuple):
    """How the samples' losses pull on the outputs, float64; NaN where that is not known.

    Attributes:
        shares: share of the samples in each cluster, (K, C).
        slopes: mean of -label_c dl/df over each cluster's samples, (K, C); 0 without samples.
        squares: mean of (dl/df)^2 over them, (K, C); 0 without samples.
        work: mean of dl/df f over the batch, (K,).
        slope: mean of |dl/df| over the batch, (K,).
    """

    shares: Tensor
    slopes: Tensor
    squares: Tensor
    work: Tensor
    slope: Tensor


class SampleLosses(NamedTuple):
    """The losses of the samples, and why those of some states are not known.

    Attributes:
        first_order: losses and slopes at the outputs and at 0; None where nothing can be evaluated.
        undefined: masks (...) of the states, each with its reason.
    """

    first_order: FirstOrder | None
    undefined: tuple[tuple[Tensor, str], ...] = ()


@dataclass(frozen=True)
class Batch:
    """The batch of each of K steps, all its micro-batches together, on the host.

    The batch of one state, in a `State`, has no leading dimension K.

    Attributes:
        outputs: outputs as the loss takes them, float64 (K, m), or logits (K, m, n).
        targets: targets as the loss takes them, float64, bool or int64, (K, m) or (K, m, n).
        clusters: index of each sample's cluster, int64 (K, m); -1 where it is in none.
        loss: the loss on the host, of (outputs, targets).
        inputs: for each state a tuple of references to its micro-batches' inputs, (m_i, d) each, on
            their device; empty unless a probe needs them.
        value: the loss that the loop got, float64 (K,); None where it is the mean over the samples.
        weights: how much each sample counts, float64 (K, m) of mean 1; None where all count alike, NaN
                where they cancel.
        precision: the dtype that the loop computed its loss from.
        reason: why the samples are in no cluster; empty where they are in one.
    """

    outputs: Tensor
    targets: Tensor
    clusters: Tensor
    loss: Loss | HostLoss
    inputs: Sequence[Any] = ()
    value: Tensor | None = None
    weights: Tensor | None = None
    precision: torch.dtype = torch.float64
    reason: str = ""

    def row(self, index: int | slice) -> Batch:
        """Return the batch of one state, without the leading dimension, or of some states."""
        return Batch(
            self.outputs[index],
            self.targets[index],
            self.clusters[index],
            self.loss,
            self.inputs[index] if self.inputs else (),
            None if self.value is None else self.value[index],
            None if self.weights is None else self.weights[index],
            self.precision,
            self.reason,
        )

    @property
    def many(self) -> bool:
        """Whether there are several outputs per sample, such as a logit for each class."""
        return self.outputs.ndim > self.clusters.ndim

    @property
    def size(self) -> int:
        """Samples per step, m."""
        return self.clusters.shape[-1]

    @property
    def classes(self) -> int:
        """Number of classes that the outputs distinguish."""
        return self.outputs.shape[-1] if self.many else 2

    @cached_property
    def host_loss(self) -> HostLoss:
        """The loss, frozen."""
        return HostLoss.of(self.loss)

    @cached_property
    def decisions(self) -> Decisions:
        """How far each sample is on the right side, as the loss means its targets."""
        return decide(self.outputs, self.targets, self.host_loss, many=self.many)

    @property
    def margins(self) -> Tensor:
        """Margin of each sample (see `Decisions`), float64 (K, m); NaN where it is undefined."""
        return self.decisions.margins

    @property
    def error(self) -> Tensor:
        """Share of the samples on the wrong side, float64 (K,); NaN where it is undefined."""
        wrong, counted = self.decisions.wrong, self.decisions.counted
        if counted.all():
            return wrong.mean(dim=-1)
        return wrong.where(counted, 0.0).sum(dim=-1) / counted.sum(dim=-1)

    @cached_property
    def placed(self) -> Tensor:
        """`clusters`, with -1 for the samples that the loss leaves out."""
        counted = self.decisions.counted
        return self.clusters if counted.all() else self.clusters.where(counted, -1)

    @cached_property
    def sample_losses(self) -> SampleLosses:
        """Losses and loss slopes of the samples, at their outputs and at output 0."""
        if not self.size:
            return SampleLosses(None, ((self._all_states(), self.reason),))
        if self.host_loss.takes_probabilities and self.host_loss.link is None:
            return SampleLosses(None, ((self._all_states(), OF_PROBABILITIES),))
        try:
            found = first_order(self.outputs, self.targets, self.host_loss, self.clusters.ndim)
        except Exception as error:
            said = str(error) if isinstance(error, ExpectedError) else repr(error)
            reason = f"the loss cannot be evaluated again on the host: {said}"[:300]
            return SampleLosses(None, ((self._all_states(), reason),))
        cancels = ~self._all_states()
        if self.weights is not None:
            cancels = self.weights.isnan().any(dim=-1)
        unlike = self._unlike_the_loop(found.values)
        return SampleLosses(found, ((cancels, CANCELS), (unlike, LOSS_DIFFERS)))

    @property
    def first_order(self) -> FirstOrder:
        """`sample_losses` without reasons.

        Raises:
            ExpectedError: if the loss cannot be evaluated on the host.
        """
        found, undefined = self.sample_losses
        if found is None:
            raise ExpectedError(
                "loss", f"{undefined[0][1]}.", "Read the reason in `sample_losses`."
            )
        return found

    @property
    def mean_loss(self) -> Tensor:
        """The loss that the loop got, or the mean over the samples, float64 (K,)."""
        if self.value is not None:
            return self.value
        found = self.sample_losses.first_order
        if found is None:
            return torch.full_like(self._all_states(), torch.nan, dtype=torch.float64)
        return found.values.mean(dim=-1)

    @cached_property
    def is_sum(self) -> bool:
        """Whether the loop's loss is the sum of its samples' losses, of more than one sample."""
        return self.value is not None and self.size > 1 and self.host_loss.is_sum

    def pulls(self, geometry: Geometry) -> Pulls:
        """Return how the samples of each cluster pull on a single output."""
        count, found = len(geometry.labels), self.sample_losses.first_order
        nothing = torch.full_like(self._all_states(), torch.nan, dtype=torch.float64)
        if found is None or self.many:
            table = nothing.unsqueeze(-1).expand(*nothing.shape, count)
            return Pulls(table, table, table, nothing, nothing)
        slopes = found.slopes if self.weights is None else found.slopes * self.weights
        sizes = cluster_sizes(self.placed, count)
        pulls, squares = (
            cluster_means(values, self.placed, count).where(sizes > 0, 0.0)
            for values in (slopes, slopes.square())
        )
        pulls = -pulls * geometry.labels
        for mask, _ in self.sample_losses.undefined:
            pulls = pulls.where(~mask.unsqueeze(-1), torch.nan)
        work, slope = (slopes * found.outputs).mean(dim=-1), slopes.abs().mean(dim=-1)
        return Pulls(sizes / self.size, pulls, squares, work, slope)

    def _all_states(self) -> Tensor:
        return torch.ones(self.clusters.shape[:-1], dtype=torch.bool, device="cpu")

    def _unlike_the_loop(self, losses: Tensor) -> Tensor:
        """Return for each state whether the samples' losses do not come to the loop's, bool (K,)."""
        if self.value is None:
            return ~self._all_states()
        weighed = losses if self.weights is None else losses * self.weights
        mean, total = weighed.mean(dim=-1), weighed.sum(dim=-1)
        one_by_one = self.many and self.targets.ndim == self.outputs.ndim
        wanted = [mean, total, *([mean / self.classes] if one_by_one else [])]
        unlike = torch.stack([self._differs(each, self.value) for each in wanted]).all(dim=0)
        if unlike.any() and self.weights is None and reduction_of(self.host_loss.function):
            unlike = self._evaluated_apart(unlike)  # weighted by class, for example
        return unlike

    def _evaluated_apart(self, unlike: Tensor) -> Tensor:
        """Return the states among some whose loss, evaluated on all their samples, is not the loop's."""
        assert self.value is not None
        if unlike.ndim == 0:
            return self._differs(self.host_loss(self.outputs, self.targets), self.value)
        rows = [
            self.row(index)._evaluated_apart(flag) if flag else flag
            for index, flag in enumerate(unlike)
        ]
        return torch.stack(rows)

    def _differs(self, ours: Tensor, theirs: Tensor) -> Tensor:
        tolerance = max(LOSS_TOLERANCE, ROUNDINGS * torch.finfo(self.precision).eps)
        return (ours - theirs).abs() > tolerance * theirs.abs().maximum(ours.abs())


def standard_deviation(values: Tensor) -> Tensor:
    """Sample standard deviation over the last dimension, (..., m) to (...); the same however many rows.

    The rounding of torch.std depends on the number of rows.
    """
    deviations = values - values.mean(dim=-1, keepdim=True)
    share = values.shape[-1] / max(values.shape[-1] - 1, 1)
    return (deviations.square().mean(dim=-1) * share).sqrt()
