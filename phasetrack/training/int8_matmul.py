"""The products of a step whose inputs are signs, in whole numbers of 8 bits.

A processor with matrix units (AMX) multiplies bytes many times as fast as float32, and adds the products up
without rounding. A float32 matrix is three digits of a byte each, times a unit for each neuron; signs, and which
neurons are active, are bytes as they are. So a product becomes three of bytes, and its error stays that of
float32, in the norm: what the digits leave out is 2^-23 of a neuron's largest weight, or of the batch's largest
slope, however small the others are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack.model.matmul_backend import PLAIN, Passes

# Digits are -127 to 127: multiplied by a sign, they stay bytes.
BASE = 254
PLACES = (float(BASE**2), float(BASE), 1.0)
LARGEST = 127 * BASE**2
# The unit of anything less would lose digits itself.
SMALLEST = 2 * LARGEST * torch.finfo(torch.float32).tiny
# What one product may add up, so that no sum reaches 2^31.
MOST_INNER = 2**24
# For input dimensions that are not a multiple of it, oneDNN's kernels for matrix units get wrong (3.12, found by
# comparing each product with the exact one), and PyTorch the gradient of a single neuron.
GRAIN = 64


class Digits(NamedTuple):
    """Float32 numbers as digits times a unit.

    Attributes:
        parts: the digits, int8, the first one of all numbers first.
        unit: what the last digit counts, float32, broadcast over the numbers.
    """

    parts: list[Tensor]
    unit: Tensor

    @classmethod
    def of(cls, values: Tensor, largest: Tensor) -> Digits:
        """The digits of float32 numbers, and the largest absolute value, `countable` and broadcast over them."""
        unit = largest.div(LARGEST)
        # whole and below 2^23, so that nothing further on is rounded
        rest = values.div(unit).round_()
        parts = []
        for place in PLACES[:-1]:
            digit = rest.mul(1 / place).round_()
            rest.sub_(digit, alpha=place)
            parts.append(digit.to(torch.int8))
        return cls([*parts, rest.to(torch.int8)], unit)


class SignDigits(Passes):
    """The two products of a step in float32 on the processor, where all inputs are -1 or 1."""

    def prepared(self, x: Tensor) -> Tensor:
        """The signs as bytes."""
        return x.to(torch.int8, memory_format=torch.contiguous_format)

    def activated(self, x: Tensor, W: Tensor) -> Tensor:
        """See `Passes.activated`."""
        largest = W.abs().amax(dim=1)
        if not countable(largest):
            return PLAIN.activated(x.to(W.dtype), W)
        parts, unit = Digits.of(W.T.contiguous(), largest)
        first, middle, last = (
            _Factor(part, unit * place) for part, place in zip(parts, PLACES, strict=True)
        )
        return last.add_to(middle.add_to(first.times(x), x), x, then="relu")

    def pulled(self, active: Tensor, slopes: Tensor, x: Tensor) -> Tensor:
        """See `Passes.pulled`."""
        largest = slopes.abs().amax()
        if not countable(largest):
            return PLAIN.pulled(active, slopes, x.to(active.dtype))
        parts, unit = Digits.of(slopes, largest)
        weighted = x.new_empty(len(x), len(parts), x.shape[1])
        for place, part in enumerate(parts):
            torch.mul(x, part.unsqueeze(1), out=weighted[:, place])
        mask = active.bool().view(torch.int8).T
        sums = torch._int_mm(mask, weighted.flatten(1)).view(len(mask), len(parts), -1)
        first, middle, last = sums.unbind(1)
        whole = first.to(active.dtype).mul_(PLACES[0]).add_(middle, alpha=PLACES[1]).add_(last)
        pulls: Tensor = whole.mul_(unit)
        return pulls


def countable(largest: Tensor) -> bool:
    """Whether numbers of these largest absolute values have digits; a run that diverged has none."""
    return bool(((largest >= SMALLEST) & (largest < torch.inf)).all())


def fit(samples: int, neurons: int, d: int) -> bool:
    """Whether products of these sizes can be taken in digits."""
    return d % GRAIN == 0 and neurons > 1 and max(samples, d) <= MOST_INNER


@cache
def available() -> bool:
    """Whether the processor has matrix units for bytes, and this PyTorch a way to them."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if not capabilities.get("amx_int8"):
        return False
    ones, passes = torch.ones(2, GRAIN, device="cpu"), SignDigits()
    signs = passes.prepared(ones)
    try:  # they are none that PyTorch promises to keep
        active = passes.activated(signs, ones)
        pulls = passes.pulled(active.clone(), ones[:, 0], signs)
    except (AttributeError, RuntimeError, TypeError):
        return False
    right = (
        active.allclose(torch.tensor(float(GRAIN), device="cpu")),
        pulls.allclose(torch.tensor(2.0, device="cpu")),
    )
    return all(right)


class _Factor:
    """Digits (d, p) times units (p,), to multiply signs (m, d) by; PyTorch's quantized layers call it so."""

    def __init__(self, digits: Tensor, units: Tensor) -> None:
        self._weight = (
            digits.to_mkldnn(),
            units,
            torch.zeros(len(units), dtype=torch.int64, device="cpu"),
        )
        self._multiply: Any = torch.ops.onednn.qlinear_pointwise

    def times(self, signs: Tensor) -> Tensor:
        """The product, float32 (m, p)."""
        made: Tensor = self._multiply(
            signs, 1.0, 0, *self._weight, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return made

    def add_to(self, other: Tensor, signs: Tensor, then: str = "none") -> Tensor:
        """The product added to another in place, and after that, maybe, its ``relu``."""
        made: Tensor = self._multiply.binary(
            *(signs, 1.0, 0, *self._weight, other, None, 1.0, 0, torch.float32),
            *(1.0, 0, "sum", 1.0, then, [], ""),
        )
        return made
