"""The paper's loss, and any loss seen one sample at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

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


def pointwise(loss: Loss) -> Loss:
    """The same loss without its reduction: (m,) or (m, K) outputs and their targets to (m,) losses.

    A module with a `reduction` attribute (all of torch.nn's losses) is copied with reduction
    ``"none"``; any other callable is applied to each sample as a batch of one, under
    `torch.func.vmap`, where mean and sum are the same thing.
    """
    if isinstance(getattr(loss, "reduction", None), str):
        unreduced = copy.copy(loss)
        unreduced.reduction = "none"  # type: ignore[attr-defined]
        # forward(), not __call__: hooks that watch the user's loss must not see ours
        return unreduced.forward if isinstance(unreduced, nn.Module) else unreduced

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0)).sum()

    return torch.func.vmap(one)


def value_and_slope(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each sample, (m,), and its derivative by the outputs, as they are, by autograd."""
    with torch.enable_grad():
        at = outputs.detach().clone().requires_grad_(True)
        losses = pointwise(loss)(at, targets).reshape(len(at), -1).sum(dim=1)
        (slopes,) = torch.autograd.grad(losses.sum(), at)
    return losses.detach(), slopes
