"""What a tracker has not seen, in words: said once, after ten optimizer steps or at detach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from phasetrack.model.two_layer_view import TwoLayerView

# Optimizer steps after which a tracker says what it has not seen, and writes to the weights by
# something else after which it says that its optimizer takes no steps. A heuristic of ours.
PATIENCE = 10


class Seen(NamedTuple):
    """What a tracker has seen so far.

    Attributes:
        steps: optimizer steps.
        recorded: recorded steps.
        batches: recorded steps that had a batch.
        passes: forward passes with gradients.
        other_writes: updates of the weights by something that is not the tracked optimizer.
        optimizer: class of the tracked optimizer.
        reason: why the last recorded step had no batch.
    """

    steps: int
    recorded: int
    batches: int
    passes: int
    other_writes: int
    optimizer: str
    reason: str


def unseen(seen: Seen, view: TwoLayerView) -> Iterator[str]:
    """Yield a sentence for each thing that was never seen, with what to change."""
    if not seen.steps:
        if not seen.recorded and (seen.other_writes or seen.passes >= PATIENCE):
            yield no_steps(seen.optimizer, f"{seen.passes} forward passes with gradients were made")
        return
    if not seen.recorded:
        return
    if not seen.passes and view.directions is None:
        yield (
            f"no forward pass through {view.names[0]} was seen in {seen.steps} steps, so samples are in no "
            "cluster; call the model itself, not its forward(), and compile it before attach()"
        )
    if not seen.batches:
        yield f"no recorded step had a loss: {seen.reason}"
    if view.scale is None:
        yield (
            "the factor between the layers' output and the model's was not measured, so that margins "
            "and all that rests on them are missing; pass scale= to attach(), or let it see the loss"
        )


def no_steps(optimizer: str, instead: str) -> str:
    """Return the sentence about an optimizer that takes no steps."""
    return (
        f"no step of the tracked {optimizer} is seen, though {instead}; attach to the optimizer whose "
        "step() the loop calls, and again where the loop makes another"
    )
