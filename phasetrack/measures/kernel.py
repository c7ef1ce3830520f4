"""The tangent kernel of a two-layer network, and how far training moved it (theory.md 9).

With f(x) = scale * sum_j a_j act(w_j . x + b_j) the kernel of two inputs is the product of their gradients with respect to
all weights,

    K(x, x') = scale^2 sum_j ( act_j(x) act_j(x') + a_j^2 act'_j(x) act'_j(x') (x . x' + 1) ),

the 1 where the first layer has biases; a bias of the head adds a constant. Of several outputs it is the sum of their
kernels. A network is lazy if its kernel hardly moves in training: it then is a linear model of its start's gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.model.formula import FrozenLayers
from phasetrack.model.neurons import Activation


def preactivations(layers: FrozenLayers, inputs: Tensor) -> Tensor:
    """Return w_j . x + b_j of every neuron at some inputs, (n, d) to (n, p): most of the work of what follows."""
    return torch.nn.functional.linear(inputs, layers.W, layers.bias)


def kernel(layers: FrozenLayers, inputs: Tensor, at: Tensor | None = None) -> Tensor:
    """Return the tangent kernel on some inputs.

    Args:
        layers: the two layers and their formula.
        inputs: (n, d), in the layers' dtype.
        at: their `preactivations`, if at hand.

    Returns:
        (n, n), the sum over the outputs.
    """
    values = preactivations(layers, inputs) if at is None else at
    hidden, slopes = _activated(values, layers.formula.activation)
    products = inputs @ inputs.T
    if layers.bias is not None:
        products = products + 1
    second = len(layers.A) * (hidden @ hidden.T)
    first = (slopes * layers.A.square().sum(dim=0)) @ slopes.T * products
    found = _scale(layers) ** 2 * (first + second)
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
    found = _linearised(
        layers, start, preactivations(layers, inputs), preactivations(start, inputs)
    )
    return found.squeeze(-1) if start.formula.heads == 1 else found


def linearisation_error(
    layers: FrozenLayers,
    start: FrozenLayers,
    inputs: Tensor,
    at: Tensor | None = None,
    start_at: Tensor | None = None,
) -> Tensor:
    """Distance of the network from its linearisation, relative to the way its outputs went since the start: ().

    |f - f_lin| / |f - f_0| over the inputs; 0 for a linear model, and where no output has moved. `at` and
    `start_at` are the `preactivations` of both, if at hand.
    """
    values = preactivations(layers, inputs) if at is None else at
    first = preactivations(start, inputs) if start_at is None else start_at
    now = _outputs(layers, _activated(values, layers.formula.activation)[0])
    then = _outputs(start, _activated(first, start.formula.activation)[0])
    way = torch.linalg.vector_norm(now - then)
    gap = torch.linalg.vector_norm(now - _linearised(layers, start, values, first))
    return torch.where(way > 0, gap / way, 0.0)


def _linearised(layers: FrozenLayers, start: FrozenLayers, now: Tensor, then: Tensor) -> Tensor:
    """`linearised_outputs` by the preactivations of both, (n, outputs)."""
    hidden, slopes = _activated(then, start.formula.activation)
    moved = (slopes * (now - then)) @ start.A.T
    return _outputs(layers, hidden) + _scale(start) * moved


def _outputs(layers: FrozenLayers, hidden: Tensor) -> Tensor:
    """The second layer's outputs, (n, outputs)."""
    found = _scale(layers) * (hidden @ layers.A.T)
    if layers.head_bias is not None:
        found = found + layers.formula.bias_factor * layers.head_bias
    return found


def _scale(layers: FrozenLayers) -> float:
    return 1.0 if layers.formula.scale is None else layers.formula.scale


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
