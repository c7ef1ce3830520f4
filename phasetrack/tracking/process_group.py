"""Loss calls of several processes that train one model (to be replaced at the merge)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from phasetrack.tracking.loss_call import LossCall


def gathered(calls: Sequence[LossCall]) -> list[LossCall]:
    """Return the loss calls of all processes, on the host; every process must call it."""
    return list(calls)


def is_sharing(model: nn.Module) -> bool:
    """Whether several processes train the model, each on a part of the batch."""
    return isinstance(model, nn.parallel.DistributedDataParallel)
