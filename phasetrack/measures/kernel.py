"""The tangent kernel of a two-layer network, and how far training moved it (theory.md 9).

With f(x) = scale * sum_j a_j act(w_j . x + b_j) the kernel of two inputs is the product of their gradients with respect to
all weights,

    K(x, x') = scale^2 sum_j ( act_j(x) act_j(x') + a_j^2 act'_j(x) act'_j(x') (x . x' + 1) ),

the 1 where the first layer has biases; a bias of the head adds a constant. Of several outputs it is the sum of their
kernels. A network is lazy if its kernel hardly moves in training: it then is a linear model of its start's gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.model.formula import FrozenLayers
from phasetrack.model.neurons import Activation


def kernel(layers: FrozenLayers, inputs: Tensor) -> Tensor:
    """Return the tangent kernel on some inputs.

    Args:
        layers: the two layers and their formula.
        inputs: (n, d), in the layers' dtype.

    Returns:
        (n, n), the sum over the outputs.
    """
    seen = _Seen.of(layers, inputs)
    products = inputs @ inputs.T
    if layers.bias is not None:
        products = products + 1
    # of each output: the hidden values, and the slopes weighed by the second layer
    second = len(layers.A) * (seen.hidden @ seen.hidden.T)
    first = (seen.slopes * layers.A.square().sum(dim=0)) @ seen.slopes.T * products
    found = seen.scale**2 * (first + second)
    if layers.head_bias is not None:
        found = found + len(layers.A) * layers.formula.bias_factor**2
    return found


def drift(kernel: Tensor, start: Tensor) -> Tensor:
    """Relative change |K - K_0| / |K_0|, Frobenius norms of (..., n, n): (...).

    >>> drift(2 * torch.eye(3), torch.eye(3))
    tensor(1.)
    """
    return _norm(kernel - start) / _norm(start)


def alignment(kernel: Tensor, other: Tensor) -> Tensor:
    """Cosine of the angle between two kernels, (..., n, n): (...), whatever their scales.

    >>> alignment(2 * torch.eye(3), torch.eye(3))
    tensor(1.)
    """
    return (kernel * other).sum(dim=(-2, -1)) / (_norm(kernel) * _norm(other))


def velocity(kernel: Tensor, before: Tensor, elapsed: Tensor | float) -> Tensor:
    """`drift` from an earlier kernel per unit of time: (...).

    Args:
        kernel: (..., n, n).
        before: the earlier kernel, (..., n, n).
        elapsed: time in between, (...).
    """
    return drift(kernel, before) / elapsed


def distance(layers: FrozenLayers, start: FrozenLayers) -> Tensor:
    """Relative distance of all weights from the start, |theta - theta_0| / |theta_0|: ()."""
    now, then = _weights(layers), _weights(start)
    relative: Tensor = torch.linalg.vector_norm(now - then) / torch.linalg.vector_norm(then)
    return relative


def linearised_outputs(layers: FrozenLayers, start: FrozenLayers, inputs: Tensor) -> Tensor:
    """Return the outputs of the network linearised at its start, at the weights that training has reached.

    f_lin(x) = f_0(x) + grad f_0(x) . (theta - theta_0): a lazy network's own outputs.

    Args:
        layers: the layers now.
        start: the layers at the start, of the same formula.
        inputs: (n, d), in the layers' dtype.

    Returns:
        (n,), or (n, outputs) of several.
    """
    seen = _Seen.of(start, inputs)
    moved = inputs @ (layers.W - start.W).T
    if start.bias is not None and layers.bias is not None:
        moved = moved + (layers.bias - start.bias)
    values = seen.hidden @ layers.A.T + (seen.slopes * moved) @ start.A.T
    found = seen.scale * values
    if layers.head_bias is not None:
        found = found + start.formula.bias_factor * layers.head_bias
    return found.squeeze(-1) if start.formula.heads == 1 else found


def linearisation_error(layers: FrozenLayers, start: FrozenLayers, inputs: Tensor) -> Tensor:
    """Distance of the network from its linearisation, relative to the way its outputs went since the start: ().

    |f - f_lin| / |f - f_0| over the inputs; 0 for a linear model, and where no output has moved.
    """
    now, then = layers.outputs(inputs), start.outputs(inputs)
    way = torch.linalg.vector_norm(now - then)
    gap = torch.linalg.vector_norm(now - linearised_outputs(layers, start, inputs))
    return torch.where(way > 0, gap / way, 0.0)


class _Seen(NamedTuple):
    """Hidden values and slopes at some inputs, (n, p) each, and the factor on the sum over neurons."""

    hidden: Tensor
    slopes: Tensor
    scale: float

    @classmethod
    def of(cls, layers: FrozenLayers, inputs: Tensor) -> _Seen:
        values = torch.nn.functional.linear(inputs, layers.W, layers.bias)
        scale = 1.0 if layers.formula.scale is None else layers.formula.scale
        return cls(*_activated(values, layers.formula.activation), scale)


def _activated(values: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """Return act and its derivative, elementwise."""
    if activation is torch.relu:
        return values.clamp_min(0), (values > 0).to(values)
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        active = activation(values)
        (slopes,) = torch.autograd.grad(active.sum(), values)
    return active.detach(), slopes


def _norm(kernel: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(kernel)
    return norm


def _weights(layers: FrozenLayers) -> Tensor:
    parts = (layers.W, layers.A, layers.bias, layers.head_bias)
    return torch.cat([part.flatten() for part in parts if part is not None])
