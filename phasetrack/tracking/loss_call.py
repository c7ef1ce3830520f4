"""LossCall: one call of the loss, from its arguments to the optimizer step that its gradient goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack._precision import widened
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.step_copies import LossInputs

# The reasons of a call whose samples are in no cluster.
PASS_NOT_SEEN = "the forward pass of the loss's outputs was not seen"
ROWS_DIFFER = "the outputs are not one for each of the first layer's inputs"
NOT_THE_OUTPUT = (
    "the loss is given values that are not the model's output for each sample, such as distances, "
    "averages of several passes or samples in another order"
)
INPUTS_OVERWRITTEN = "the inputs were overwritten before the optimizer step"


# A sum of weights of less than this share of their sizes is none. Far above the rounding of float32.
CANCELLED = 1e-6


class KeptInputs(NamedTuple):
    """A reference to the inputs of a pass, and their version at that time."""

    tensor: Tensor
    version: int

    @classmethod
    def of(cls, inputs: Tensor) -> KeptInputs:
        """Refer to some inputs; those that keep no version are copied."""
        if inputs.is_inference():
            inputs = inputs.clone()
            return cls(inputs, 0)
        return cls(inputs, inputs._version)

    @property
    def are_whole(self) -> bool:
        """Whether nothing wrote to the inputs since."""
        return self.tensor.is_inference() or self.tensor._version == self.version


@dataclass(eq=False)
class LossCall:
    """One call of the loss.

    The graph behind the call's value keeps it alive until a gradient has arrived: a call that is
    thrown away goes with its graph.

    Attributes:
        outputs: copies of the outputs, (m,) or (m, n).
        targets: copies of the targets, (m,) or (m, n).
        traces: the numbers that decide each sample's cluster, or None.
        finite: whether no input was NaN or infinite, bool (); None where nothing raises doubt.
        value: the result that the loop got, () or of each sample.
        version: of the weights that made the outputs.
        loss: the loss as it was.
        inputs: a reference to the inputs, where a probe needs them.
        sample: copies of the first inputs, (n, d), where a fixed sample is collected.
        reason: why the samples are in no cluster.
        moments: where the samples of each cluster lie (`cluster_moments`), (K, d + 3), of a run's first
            samples; None for all others.
        is_output: whether outputs were followed, whose loss is not seen, and not a value of the loss.
        gradient: what arrived at the value or the outputs in backward passes that wrote to the
            layers' gradients, in their shape; None before.
        arriving: what arrived in the last backward pass, before it wrote; None otherwise.
        task: the backward pass in which a gradient arrived last; -1 before any.
        is_accumulated: whether a backward pass in which one arrived wrote to the layers' gradients.
    """

    outputs: Tensor
    targets: Tensor
    traces: Tensor | None
    finite: Tensor | None
    value: Tensor | None
    version: int
    loss: HostLoss
    inputs: KeptInputs | None = None
    sample: Tensor | None = None
    reason: str = ""
    moments: Tensor | None = None
    is_output: bool = False
    gradient: Tensor | None = None
    arriving: Tensor | None = None
    task: int = -1
    is_accumulated: bool = False

    def receive(self, gradient: Tensor, task: int) -> None:
        """Note a gradient that arrived in a backward pass; what an earlier one left unused is dropped."""
        earlier = self.arriving if task == self.task else None
        self.arriving, self.task = gradient if earlier is None else earlier + gradient, task

    def settle(self) -> None:
        """Count what arrived as a part of the coming step's gradient."""
        arriving, self.arriving = self.arriving, None
        if arriving is not None:
            self.gradient = arriving if self.gradient is None else self.gradient + arriving

    def forget(self) -> None:
        """Forget what was counted, as the layers' gradients are gone; the graph may be used again."""
        self.gradient, self.is_accumulated = None, False

    def packed(self) -> dict[str, Any]:
        """Return the call for other processes: copies on the host, without loss and inputs."""
        values = {name: getattr(self, name) for name in _PACKED}
        # a slice would be pickled with its whole storage
        return {n: v.cpu().clone() if isinstance(v, Tensor) else v for n, v in values.items()}

    @classmethod
    def unpacked(cls, values: Mapping[str, Any], loss: HostLoss) -> LossCall:
        """Return the call that another process packed."""
        return cls(**values, loss=loss)


_PACKED = (
    "outputs",
    "targets",
    "traces",
    "finite",
    "value",
    "version",
    "reason",
    "moments",
    "sample",
    "is_output",
    "gradient",
)


def joined(calls: Sequence[LossCall], *, keep_inputs: bool = False) -> LossInputs | None:
    """Join the loss calls of one step, and give them the leading dimension of one state."""
    if not calls:
        return None
    value = calls[0].value
    if len(calls) == 1 and not keep_inputs and value is not None and value.ndim == 0:
        return _alone(calls[0], value)
    outputs = _cat([call.outputs for call in calls])
    reasons = [call.reason for call in calls if call.traces is None]
    traces = None if reasons else _cat([c.traces for c in calls if c.traces is not None])
    doubts = [c.finite.to(outputs.device) for c in calls if c.finite is not None]
    total, weights = _weighed(calls)
    kept = [call.inputs for call in calls]
    whole = keep_inputs and all(each is not None and each.are_whole for each in kept)
    inputs = tuple(each.tensor for each in kept if each is not None) if whole else ()
    if keep_inputs and not whole and not reasons:
        reasons = [INPUTS_OVERWRITTEN]
    return LossInputs(
        outputs.unsqueeze(0),
        _cat([call.targets for call in calls]).unsqueeze(0),
        None if traces is None else traces.unsqueeze(0),
        torch.stack(doubts).all().unsqueeze(0) if doubts else None,
        (inputs,) if inputs else (),
        None if total is None else total.unsqueeze(0),
        None if weights is None else weights.unsqueeze(0),
        reasons[0] if reasons else "",
        _added([call.moments for call in calls]),
    )


def _alone(call: LossCall, value: Tensor) -> LossInputs:
    """`joined` of one call of a scalar loss, which most steps have."""
    return LossInputs(
        call.outputs.unsqueeze(0),
        call.targets.unsqueeze(0),
        None if call.traces is None else call.traces.unsqueeze(0),
        None if call.finite is None else call.finite.unsqueeze(0),
        value=value.unsqueeze(0),
        reason=call.reason,
        moments=_added([call.moments]),
    )


def _added(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of all calls' moments, (1, K, d + 3); None where some call has none."""
    seen = [part for part in parts if part is not None]
    if len(seen) < len(parts):
        return None
    return torch.stack([part.to(seen[0].device) for part in seen]).sum(dim=0, keepdim=True)


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _weighed(calls: Sequence[LossCall]) -> tuple[Tensor | None, Tensor | None]:
    """Return the loss of all calls, (), and the weight of each sample, (m,), or None where all are alike.

    The calls of a step are one batch. The loss is their mean, weighed by the gradients that arrived at the values; a single call
    has its own value. The loss leaves out a factor that the loop multiplies it by: a scale, several backward passes
    without a division, the division of a sum. `growth/gradient_factor` has that factor (theory.md 6).
    What is summed within the calls is summed over them.
    """
    totals = [_total(call) for call in calls]
    if any(total is None for total in totals):
        return None, None
    values, weights, samples = zip(*(t for t in totals if t is not None), strict=True)
    if len(calls) == 1:
        return values[0], samples[0]
    device = values[0].device
    value = torch.stack([widened(v.to(device)) for v in values])
    weight = torch.stack([widened(w.to(device)) for w in weights])
    total, sum_of_weights = (weight * value).sum(), weight.sum()
    cancels = sum_of_weights.abs() <= CANCELLED * weight.abs().sum()  # what is left has no mean
    total = total / torch.where(cancels, 1.0, sum_of_weights)
    if calls[0].loss.is_sum:
        total = total * len(calls)
    shares = [
        (widened(w) / (1 if c.loss.is_sum else len(c.outputs))).expand(len(c.outputs))
        if s is None
        else widened(s)
        for c, w, s in zip(calls, weights, samples, strict=True)
    ]
    return total, torch.cat([share.to(device) for share in shares])


def _total(call: LossCall) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return a call's loss, its weight among several, and the weights of its samples if they differ."""
    value, weight = call.value, None if call.is_output else call.gradient
    if value is None:
        return None
    if weight is None:
        weight = torch.ones_like(value)
    if value.ndim == 0 or value.numel() == 1:
        return value.reshape(()), weight.reshape(()), None
    value, weight = value.reshape(-1), weight.reshape(-1)
    first = weight[0]
    alike = (weight == first).all()
    plain = torch.where(first == 1, value.sum(), value.mean())
    total = torch.where(alike, plain, (weight * value).sum())
    samples = weight if len(weight) == len(call.outputs) else None
    return total, weight.sum(), samples
