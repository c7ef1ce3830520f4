"""What a tracker has not seen, in words: said once, after ten optimizer steps or at detach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.missing_batch import OUTPUT_NOT_SEEN, UNDER_CHECKPOINT
from phasetrack.tracking.optimizers import inner_names

# Optimizer steps after which a tracker says what it has not seen, and writes to the weights by
# something else after which it says that its optimizer takes no steps. A heuristic of ours.
PATIENCE = 10

# Remedies where no forward pass was seen.
CHECKPOINTED = "pass use_reentrant=False to the checkpoint that hides it"
COMPILED_IN_PLACE = (
    "compile the model by torch.compile(model) instead of model.compile(), call the module that it "
    "returns, and attach to that one"
)


class Seen(NamedTuple):
    """What a tracker has seen so far.

    Attributes:
        steps: optimizer steps.
        recorded: recorded steps.
        batches: recorded steps that had a batch.
        passes: forward passes with gradients.
        is_repeated: whether passes ran without gradients, and again within a backward pass.
        is_compiled: whether a module of the model is compiled in place, so that its hooks are not called.
        other_writes: updates of the weights by something that is not the tracked optimizer.
        reason: why the last recorded step had no batch.
    """

    steps: int
    recorded: int
    batches: int
    passes: int
    is_repeated: bool
    is_compiled: bool
    other_writes: int
    reason: str


def unseen(seen: Seen, view: TwoLayerView, optimizer: torch.optim.Optimizer) -> Iterator[str]:
    """Yield a sentence for each thing that was never seen, with what to change."""
    if not seen.steps:
        if not seen.recorded and (seen.other_writes or seen.passes >= PATIENCE):
            yield no_steps(optimizer, f"{seen.passes} forward passes with gradients were made")
        return
    if not seen.recorded:
        return
    hidden = not seen.passes and view.directions is None
    if hidden:
        how = (
            CHECKPOINTED
            if seen.is_repeated
            else COMPILED_IN_PLACE
            if seen.is_compiled
            else "call the model itself, not its forward() or a traced copy; attach to the model that "
            "torch.compile(model) returns; freeze a layer by requires_grad_(False), not by no_grad()"
        )
        yield (
            f"no forward pass with gradients through {view.names[0]} was seen in {seen.steps} steps, so "
            f"samples are in no cluster{' and margins are missing' if view.scale is None else ''}; {how}"
        )
    if not seen.batches and not (hidden and seen.reason in (OUTPUT_NOT_SEEN, UNDER_CHECKPOINT)):
        yield f"no recorded step had a loss: {seen.reason}"
    if view.scale is None and not view.doubt and not hidden:
        yield (
            "the factor between the layers' output and the model's was not measured, as no output for "
            "each of the first layer's inputs was seen, so that margins and all that rests on them are "
            "missing; pass scale= to attach()"
        )


def no_steps(optimizer: torch.optim.Optimizer, instead: str) -> str:
    """Return the sentence about an optimizer that takes no steps."""
    inner = inner_names(optimizer)
    such = f", such as its {inner[0]}," if inner else ""
    return (
        f"no step of the tracked {type(optimizer).__name__} is seen, though {instead}; attach to the "
        f"optimizer whose step() is called{such} and again where the loop makes another"
    )


def replaced_layer(name: str, step: int) -> str:
    """Return the sentence about a layer that is not the model's any more."""
    return (
        f"the layer {name} was replaced in the model since attach(), so that no step from {step} on is "
        "recorded; attach again, with the optimizer that trains the new one"
    )
