"""The paper's loss, and any loss seen one sample at a time."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError

Loss = Callable[[Tensor, Tensor], Tensor]


class LogisticLoss(nn.Module):
    """The loss of arXiv 2309.15111 as phasetrack reads it: ``2 log(1 + exp(-y f))``.

    The factor 2 makes ``|dl/df| = 1`` at f = 0, which every predicted rate assumes (theory.md).

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, as in torch.nn.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction: expected mean, sum or none, got {reduction!r}")
        self.reduction = reduction

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of outputs (m,) against targets (m,) in {-1, +1}; a scalar, or (m,) unreduced."""
        losses = 2 * nn.functional.softplus(-targets * outputs)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()


# Samples that are evaluated one by one at most, where a loss cannot be evaluated on all at once.
MOST_ONE_BY_ONE = 512


def pointwise(loss: Loss) -> Loss:
    """The same loss without its reduction: (m,) or (m, K) outputs and their targets to (m,) losses.

    A module with a `reduction` attribute (all of torch.nn's losses) is copied with reduction
    ``"none"``, and a function with such a parameter is called with it. Any other callable, and one
    that reduces all the same, is applied to each sample as a batch of one, under `torch.func.vmap` or
    in a loop, where mean and sum are the same thing.

    Raises:
        ExpectedError: if the loss has to be called sample by sample, and there are too many.
    """
    unreduced = _unreduced(loss)

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0)).sum()

    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        if unreduced is not None:
            losses = unreduced(outputs, targets)
            if losses.ndim and len(losses) == len(outputs):
                return losses.reshape(len(outputs), -1).sum(dim=1)
        try:
            return torch.func.vmap(one)(outputs, targets)
        except Exception:  # it looks at values, which vmap does not know
            return _one_by_one(one, outputs, targets)

    return each


def _one_by_one(one: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    if len(outputs) > MOST_ONE_BY_ONE:
        raise ExpectedError(
            "loss",
            f"The loss looks at values, so that {len(outputs)} samples would be evaluated one by one.",
            "Write it with tensor operations alone, or give it a `reduction` as torch.nn's have.",
        )
    return torch.stack([one(*pair) for pair in zip(outputs, targets, strict=True)])


def setting_of(loss: object, name: str) -> object:
    """Return a setting of a loss: its attribute, or the value of a function's parameter; None without."""
    said = getattr(loss, name, None)
    if said is None and callable(loss):
        try:
            return inspect.signature(loss).parameters[name].default
        except (KeyError, TypeError, ValueError):  # without it, or without a signature
            return None
    return said


def reduction_of(loss: object) -> str | None:
    """Return how a loss reduces, as torch.nn's losses say it; None where it does not say so."""
    said = setting_of(loss, "reduction")
    return said if isinstance(said, str) else None


def _unreduced(loss: Loss) -> Loss | None:
    """The loss told to reduce nothing; None where it cannot be told."""
    if reduction_of(loss) is None:
        return None
    if not hasattr(loss, "reduction"):
        return partial(loss, reduction="none")  # type: ignore[call-arg]
    unreduced = copy.copy(loss)
    unreduced.reduction = "none"
    # forward(), not __call__: hooks that watch the user's loss must not see ours
    return unreduced.forward if isinstance(unreduced, nn.Module) else unreduced


def value_and_slope(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each sample, (m,), and its derivative by the outputs, as they are, by autograd."""
    each = getattr(loss, "each", None) or pointwise(loss)
    with torch.enable_grad():
        at = outputs.detach().clone().requires_grad_(True)
        losses = each(at, targets)
        (slopes,) = torch.autograd.grad(losses.sum(), at)
    return losses.detach(), slopes
