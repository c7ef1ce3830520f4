"""Whether a tracker may be attached to an optimizer and the layers that it trains."""

from __future__ import annotations

import torch

from phasetrack.errors import ExpectedError
from phasetrack.model.two_layer_view import TwoLayerView


def check_watchable(
    optimizer: torch.optim.Optimizer, view: TwoLayerView, *, tracked: bool, shared_inputs: bool
) -> None:
    """Refuse an optimizer that cannot be followed.

    Args:
        optimizer: the optimizer.
        view: the model's two layers.
        tracked: whether another tracker is attached to it.
        shared_inputs: whether inputs are to be kept of a model that several processes train.

    Raises:
        ExpectedError: if it is tracked already, or trains neither layer, or inputs are to be kept that no process
            has whole.
    """
    if tracked:
        raise ExpectedError(
            "optimizer",
            "The optimizer has a tracker attached already.",
            "Call detach() on that tracker first.",
        )
    if shared_inputs:
        raise ExpectedError(
            "probes",
            "A probe needs the inputs of a model that several processes train.",
            "Leave out the gradient error.",
        )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in trained for w in (view.first, view.second) for p in w.parameters):
        raise ExpectedError(
            "optimizer",
            f"The optimizer trains neither {view.names[0]} nor {view.names[1]}.",
            "Pass the optimizer that is given these parameters.",
        )
