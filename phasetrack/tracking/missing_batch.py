"""Why a step has no batch, in words, with the remedy."""

from __future__ import annotations

from torch import nn

# A loss is given, and the loop does not call it.
MODULE_NOT_CALLED = (
    "no loss call was seen in this step: give attach() the loss module that the loop calls, or "
    "loss=None to have the loss recognised by its gradient"
)
FUNCTION_NOT_CALLED = (
    "no loss call was seen in this step: call tracker.loss(outputs, targets) in place of the function "
    "given to attach()"
)
# No loss is given, and no output of the model got a gradient.
OUTPUT_NOT_SEEN = (
    "no loss call was seen in this step, nor a gradient at the model's outputs: call the model itself, "
    "not its forward() or a traced copy, and attach to the model that torch.compile(model) returns; or "
    "give attach() the loss module that the loop calls"
)
UNDER_CHECKPOINT = (
    "the forward pass ran without gradients, and again within the backward pass: pass "
    "use_reentrant=False to the checkpoint that hides it"
)
NOT_RECOGNISED = (
    "no loss call was seen, and the gradient at the network's outputs is not that of a usual loss on "
    "classes: pass the loss to attach() as loss=, a module that the loop calls or a function that it "
    "calls as tracker.loss(outputs, targets)"
)
NO_GRADIENT = "loss calls were seen in this step, and the gradient of none reached the two layers"
OTHERS_OUTPUTS = (
    "the loss was called on outputs that the two layers did not make, such as those of a copy of the "
    "model: attach to the model whose outputs the loss is called on"
)
UNDER_TRANSFORM = (
    "the passes of this step ran under torch.func, whose tensors have no values to read; take the "
    "step's gradient by backward() where its samples are to be read"
)
OTHER_WEIGHTS = "the weights changed between the loss call and the optimizer step"
DETACHED = "the loss was called on detached outputs"
NO_SAMPLES = "the loss's arguments are not outputs and targets of the same samples"
# The reasons that are worth a warning at once: the problem and its remedy.
MISTAKES = {
    DETACHED: (
        "The loss was called on detached outputs.",
        "Call the loss on the model's outputs themselves.",
    ),
    OTHER_WEIGHTS: (
        "The weights changed between the loss call and the step of the tracked optimizer, as in "
        "sharpness-aware minimisation, where they cannot be read, or by another optimizer, so that loss "
        "and outputs are not those of the weights before the step; they are left out.",
        "Of several optimizers attach to the one that steps first, or step all after the backward pass.",
    ),
}


def not_called(loss: object) -> str:
    """Return why no loss call was seen, of a loss as it was given to attach()."""
    if loss is None:
        return OUTPUT_NOT_SEEN
    return MODULE_NOT_CALLED if isinstance(loss, nn.Module) else FUNCTION_NOT_CALLED
