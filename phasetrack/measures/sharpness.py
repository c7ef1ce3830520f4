"""The largest eigenvalue of a loss's Hessian, by Hessian-vector products (theory.md 12).

Sharpness, as in Cohen et al., arXiv 2103.00065: gradient descent with step eta is stable on a quadratic as long
as eta * sharpness < 2. Lanczos' method with full orthogonalisation needs only products with the Hessian, each
about twice the cost of a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.formula import FrozenLayers
from phasetrack.model.losses import Loss

# The residual, relative to the eigenvalue, at which the iteration ends, and the most products with the
# Hessian. Heuristics of ours: levels of 2 are crossed by percents.
TOLERANCE = 1e-3
MOST_PRODUCTS = 60
# Seed of the starting vector, so that a reading depends on the weights alone. The vector of an earlier step would
# save products, and would hide an eigenvalue that has overtaken it since.
SEED = 0

PARAMETERS = ("W", "A", "bias", "head_bias")

Rate = Tensor | float


class Eigenpair(NamedTuple):
    """The largest eigenvalue as far as the iteration found it.

    Attributes:
        value: a Rayleigh quotient, which the largest eigenvalue is never below (but for rounding).
        residual: |H v - value v| for the unit vector found; an eigenvalue lies within it of `value`.
        products: products with the Hessian that were taken.
        vector: the unit vector v, float64 (n,): the tensors one after another, on the host.
    """

    value: float
    residual: float
    products: int
    vector: Tensor


def sharpness(
    layers: FrozenLayers,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    parameters: Sequence[str] = PARAMETERS,
    rates: Sequence[Rate] | None = None,
    tolerance: float = TOLERANCE,
    most_products: int = MOST_PRODUCTS,
) -> Eigenpair:
    """Return the largest eigenvalue of the loss's Hessian over the two layers, in float64 on the host.

    Args:
        layers: copies of the layers whose formula is known (`formula.unlinked` is empty); on any device, in any dtype.
        inputs: (m, d).
        targets: as the loss takes them, whose dtype is kept unless it is a floating one.
        loss: of (outputs, targets), a scalar, at home on the host in float64.
        parameters: which of `PARAMETERS` are trained; those that the network lacks are skipped.
        rates: step size of each of `parameters`, numbers or tensors of its shape: the result is then the
            largest eigenvalue of D^(1/2) H D^(1/2) with D the steps, to be held against 2.
        tolerance: as in `largest_eigenvalue`.
        most_products: likewise.

    Raises:
        ExpectedError: if there are not as many rates as parameters.
    """
    host = {name: getattr(layers, name) for name in PARAMETERS}
    host = {name: _on_host(value) for name, value in host.items() if value is not None}
    chosen = [name for name in parameters if name in host]
    steps = None
    if rates is not None:
        _check_count(rates, len(parameters))
        by_name = dict(zip(parameters, rates, strict=True))
        steps = [by_name[name] for name in chosen]
    x, y = _on_host(inputs), _on_host(targets)

    def value(*trained: Tensor) -> Tensor:
        moved = replace(layers, **{**host, **dict(zip(chosen, trained, strict=True))})
        return loss(moved.linked_outputs(x), y)

    return largest_eigenvalue(
        value,
        [host[name] for name in chosen],
        rates=steps,
        tolerance=tolerance,
        most_products=most_products,
    )


def largest_eigenvalue(
    function: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    *,
    rates: Sequence[Rate] | None = None,
    tolerance: float = TOLERANCE,
    most_products: int = MOST_PRODUCTS,
) -> Eigenpair:
    """Return the largest eigenvalue of a function's Hessian at given tensors.

    Args:
        function: from as many tensors to a scalar, twice differentiable almost everywhere.
        tensors: where; they are copied to the host in float64, and are not changed.
        rates: see `sharpness`; None takes H itself.
        tolerance: the residual relative to |value| at which the iteration ends.
        most_products: products with the Hessian at most, one of them for the residual.

    Returns:
        The pair; NaN where a product with the Hessian is not finite.

    Raises:
        ExpectedError: if there are not as many rates as tensors.

    Example:
        >>> found = largest_eigenvalue(lambda x: x[0] ** 2 - 5 * x[1] ** 2, [torch.ones(2)])
        >>> round(found.value, 9), found.residual < 1e-9
        (2.0, True)
    """
    if rates is not None:
        _check_count(rates, len(tensors))
    times = _hessian(function, [_on_host(tensor) for tensor in tensors], rates)
    size = sum(tensor.numel() for tensor in tensors)
    return _lanczos(times, _unit_start(size), tolerance, most_products)


def _check_count(rates: Sequence[Rate], count: int) -> None:
    if len(rates) != count:
        raise ExpectedError(
            "rates",
            f"{len(rates)} step sizes do not fit {count} tensors.",
            "Pass one per tensor, in their order.",
        )


def _hessian(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], rates: Sequence[Rate] | None
) -> Callable[[Tensor], Tensor]:
    """Products of D^(1/2) H D^(1/2) with vectors (n,)."""
    with torch.inference_mode(False), torch.enable_grad():
        at = [tensor.requires_grad_(True) for tensor in tensors]
        value = function(*at)
        gradients = (
            torch.autograd.grad(value, at, create_graph=True, materialize_grads=True)
            if value.requires_grad
            else [torch.zeros_like(tensor) for tensor in at]
        )
        gradient = torch.cat([part.flatten() for part in gradients])
    roots = None
    if rates is not None:
        steps = [
            torch.as_tensor(rate, device="cpu").to(like)
            for rate, like in zip(rates, tensors, strict=True)
        ]
        spread = [step.expand_as(like) for step, like in zip(steps, tensors, strict=True)]
        roots = torch.cat([step.flatten() for step in spread]).sqrt()

    def times(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # the function is linear
            return 0 * gradient.detach() * vector
        along = vector if roots is None else roots * vector
        parts = torch.autograd.grad(gradient, at, along, retain_graph=True, materialize_grads=True)
        product = torch.cat([part.flatten() for part in parts])
        return product if roots is None else roots * product

    return times


def _lanczos(
    times: Callable[[Tensor], Tensor], vector: Tensor, tolerance: float, most_products: int
) -> Eigenpair:
    """Return the largest eigenpair of a symmetric matrix, starting at a unit vector (n,)."""
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        ahead = times(basis[-1])
        if not ahead.isfinite().all():
            return Eigenpair(torch.nan, torch.nan, len(basis), torch.full_like(vector, torch.nan))
        diagonal.append(float(ahead @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):  # once leaves rounding that grows
            ahead = ahead - known.T @ (known @ ahead)
        beside.append(float(torch.linalg.vector_norm(ahead)))
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside[:-1]))
        value, weights = float(values[-1]), vectors[:, -1]
        remainder = beside[-1] * abs(float(weights[-1]))
        spread = float(values.abs().max())
        exhausted = beside[-1] <= torch.finfo(vector.dtype).eps * spread * len(vector) ** 0.5
        if remainder <= tolerance * abs(value) or exhausted or len(basis) >= most_products - 1:
            break
        basis.append(ahead / beside[-1])
    found = known.T @ weights
    found = found / torch.linalg.vector_norm(found)
    residual = float(torch.linalg.vector_norm(times(found) - value * found))
    return Eigenpair(value, residual, len(basis) + 1, found)


def _tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> Tensor:
    """Return the symmetric matrix with these entries on and beside its diagonal."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64, device="cpu"))
    if beside:
        above = torch.diag(torch.tensor(beside, dtype=torch.float64, device="cpu"), 1)
        matrix = matrix + above + above.T
    return matrix


def _unit_start(size: int) -> Tensor:
    """Return the fixed starting vector, (n,), drawn apart from every other generator."""
    generator = torch.Generator(device="cpu").manual_seed(SEED)
    drawn = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu")
    return torch.nn.functional.normalize(drawn, dim=0)


def _on_host(tensor: Tensor) -> Tensor:
    """Return a copy on the host that autograd may use, float64 where it is floating."""
    with torch.inference_mode(False):
        dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to("cpu", dtype, copy=True)
