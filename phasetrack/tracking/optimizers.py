"""The torch optimizer within a wrapper, whose step hooks see every step."""

from __future__ import annotations

import torch

from phasetrack.errors import ExpectedError

# Attributes under which wrappers keep their inner optimizer: accelerate, Lookahead and learning-rate
# schedules use the first; Lightning and Fabric the second.
INNER = ("optimizer", "_optimizer", "base_optimizer", "optim")


def innermost_optimizer(optimizer: object) -> torch.optim.Optimizer:
    """Return the torch optimizer that a wrapper steps, or the optimizer itself.

    A wrapper is an object whose `step` goes through no hooks of its own, such as accelerate's, Fabric's
    and Lightning's optimizers, and a Lookahead without ``super().__init__()``. An optimizer with hooks of
    its own is taken as it is, also where it steps an inner one: the training loop steps the outer.

    Raises:
        ExpectedError: if no optimizer with step hooks is found.
    """
    seen: list[object] = []
    found = optimizer
    while not _has_hooks_of_its_own(found):
        seen.append(found)
        inner = next((vars(found)[name] for name in INNER if name in _attributes(found)), None)
        if inner is None or any(inner is each for each in seen):
            raise ExpectedError(
                "optimizer",
                f"A {type(optimizer).__name__} has no step hooks of torch.optim.Optimizer.",
                "Pass the torch optimizer that it wraps, or call super().__init__() in its __init__.",
            )
        found = inner
    assert isinstance(found, torch.optim.Optimizer)
    return found


def inner_names(optimizer: object) -> list[str]:
    """Return the attributes in which an object keeps torch optimizers with hooks of their own."""
    kept = _attributes(optimizer)
    return [name for name in INNER if _has_hooks_of_its_own(kept.get(name))]


def _has_hooks_of_its_own(candidate: object) -> bool:
    # Optimizer.__init__ makes the hooks' table and has the class's step go through it; some
    # wrappers make a table of their own, which nothing calls
    return (
        isinstance(candidate, torch.optim.Optimizer)
        and "_optimizer_step_post_hooks" in _attributes(candidate)
        and getattr(type(candidate).step, "hooked", False)
    )


def _attributes(candidate: object) -> dict[str, object]:
    """The attributes that an object holds itself, and does not pass on from an inner one."""
    return getattr(candidate, "__dict__", {})
