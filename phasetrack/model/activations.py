"""Activations: those known by name, and the user's own as functions that can be called elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from phasetrack.model.frozen_module import COPIED, FrozenModule
from phasetrack.model.neurons import Activation
from phasetrack.model.operations import RANDOM, Replay

# Activations that are saved by name, and tried where the model shows none, in this order.
ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "softplus": nn.functional.softplus,
    "square": torch.square,
    "identity": lambda values: values,
}
# Where two activations are compared: values of both signs, small ones and beyond every threshold.
_GRID = torch.cat([torch.linspace(-e, e, 121, dtype=torch.float64, device="cpu") for e in (30, 1)])
# Largest difference on the grid of two writings of one function.
_SAME = 1e-9


def known_activation(activation: Any) -> str | None:
    """Return the name of an activation in `ACTIVATIONS`; None if it is not among them."""
    for name, function in ACTIVATIONS.items():
        if activation is function:
            return name
    if isinstance(activation, nn.Module) and not hasattr(activation, COPIED):
        activation = frozen_activation(activation)  # one of the user's
    if isinstance(activation, Replay | FrozenModule) and activation.varies:
        return None
    if not isinstance(activation, Replay | FrozenModule | nn.Module):
        return None
    try:
        with torch.no_grad():
            values = activation(_GRID)
    except Exception:
        return None
    for name, function in ACTIVATIONS.items():
        if values.shape == _GRID.shape and (values - function(_GRID)).abs().max() <= _SAME:
            return name
    return None


def named_activation(activation: Activation) -> Activation:
    """Return the function of `ACTIVATIONS` that does the same; the activation itself otherwise."""
    name = known_activation(activation)
    return activation if name is None else ACTIVATIONS[name]


def frozen_activation(module: nn.Module) -> Activation | None:
    """Return what a module does to single numbers, as a function that does not call the module.

    None where that cannot be known without its passes: the module draws random numbers, keeps
    buffers, cannot be copied, or does not treat each number by itself.
    """
    drawing = any(
        part in type(each).__name__.lower() for each in module.modules() for part in RANDOM
    )
    if drawing or next(module.buffers(), None) is not None:
        return None
    try:
        frozen = FrozenModule(module)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            before = torch.random.get_rng_state()
            values = frozen(_GRID)
            turned = frozen(_GRID.flip(0))
            quiet = torch.equal(before, torch.random.get_rng_state())
    except Exception:
        return None
    single = isinstance(values, Tensor) and values.shape == _GRID.shape
    if not (quiet and single and (turned.flip(0) - values).abs().max() <= _SAME):
        return None
    if known_activation(frozen) == "relu":
        return torch.relu
    own = not type(module).__module__.startswith("torch.nn.")
    return frozen if frozen.varies or own else frozen.copied


def present(activation: Activation) -> Activation:
    """Return an activation with copies of its parameters at their present values."""
    if isinstance(activation, Replay):
        return activation.frozen()
    if isinstance(activation, FrozenModule):
        return activation.renewed()
    return activation


def shown(activation: Activation) -> str:
    """Return the name of an activation for people."""
    name = known_activation(activation)
    return str(name or getattr(activation, "__name__", type(activation).__name__))
