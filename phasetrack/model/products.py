"""Products: an operation of a pass read as inputs times a weight, by its values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.comparison import thinned
from phasetrack.model.layer_weight import Weight
from phasetrack.model.operations import Operation

# Rows and neurons by which a product's layout is told, and how far off it may be: bfloat16 and
# TF32 round, and another layout differs by as much as the product itself.
_LAYOUT_SAMPLE, _LAYOUT_TOLERANCE = 64, 0.05


@dataclass(frozen=True, eq=False)
class Product:
    """One use of a weight: inputs times the weight.

    Attributes:
        inputs: the tensor that met the weight, a row per sample, (n, inputs); a copy.
        outputs: the result, with the bias that the same operation added, (n, outputs); a copy.
        transposed: whether the weight was used as (inputs, outputs) of its stored form.
        factor: the weight as it was used, divided by the stored one.
        bias: what the operation itself added, or None.
        bias_factor: the factor on it.
        lookup: whether the inputs were indices, which stand for unit vectors.
        operation: the operation that made it.
        lead: the shape of the samples before they became rows.
        changed: operations on the way from the stored weight to the product that the factor does
            not explain.
    """

    inputs: Tensor
    outputs: Tensor
    transposed: bool
    factor: float
    bias: Tensor | None
    bias_factor: float
    lookup: bool
    operation: Operation
    lead: tuple[int, ...]
    changed: tuple[str, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the pass computed in."""
        return self.outputs.dtype


class Use(NamedTuple):
    """A product as it was seen, before it is compared with the stored weight."""

    weights: int
    matrix: Tensor  # (outputs, inputs), as it was used
    changed: tuple[str, ...]
    product: Product


def as_rows(values: Tensor, width: int, *, lookup: bool) -> Tensor | None:
    """Return a module's argument as the inputs of its layer, (n, width); None if it has another size.

    Args:
        values: of any shape; indices where the layer looks them up.
        width: inputs of the layer.
        lookup: whether indices stand for unit vectors.
    """
    values = dense(values)
    if lookup:
        if values.is_floating_point() or values.dtype == torch.bool:
            return None
        return nn.functional.one_hot(values.reshape(-1).long(), width)
    if not values.numel() or values.numel() % width:
        return None
    return values.reshape(-1, width)


def dense(values: Tensor) -> Tensor:
    """Return a sparse tensor as a dense one, and any other as it is."""
    return values if values.layout is torch.strided else values.to_dense()


def heads_last(values: Tensor, heads: int) -> Tensor:
    """Return outputs with a number per head in the last dimension: (K, m) and (B, K, T) have it elsewhere."""
    if values.ndim < 2 or heads == 1 or values.shape[-1] == heads:
        return values
    places = [place for place in range(min(values.ndim - 1, 2)) if values.shape[place] == heads]
    return values.movedim(places[0], -1) if places else values


def as_product(
    name: str,
    args: tuple[Any, ...],
    data: Tensor,
    stored: Tensor,
    result: Tensor,
    bias: Tensor | None,
    amount: float,
    data_first: bool,
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...], bool, bool] | None:
    """Read an operation as inputs times a weight, by its values.

    Returns:
        Inputs (n, in), the weight as it was used (out, in), outputs (n, out), the samples' shape,
        whether the bias was added, and whether the inputs were indices; None if it is not a product.
    """
    matrix = _matrix(stored)
    if matrix is None or not result.is_floating_point():
        return None
    data, result = dense(data), dense(result)
    if not data.is_floating_point():
        return _as_lookup(name, data, matrix, result)
    for axis, turned, out_axis in _layouts(name, args, data, stored, data_first):
        used = matrix.T if turned else matrix
        single = used.shape[0] == 1 and result.ndim == data.ndim - 1
        inputs = _rows(data, axis, used.shape[1])
        outputs = (
            _rows(result.unsqueeze(-1), -1, 1) if single else _rows(result, out_axis, used.shape[0])
        )
        if inputs is None or outputs is None or inputs[1] != outputs[1]:
            continue
        for biased in (True, False) if bias is not None else (False,):
            added = bias if biased else None
            if _multiplies(inputs[0], used, outputs[0], added, amount):
                return inputs[0], used, outputs[0], inputs[1], biased, False
    return None


def _matrix(stored: Tensor) -> Tensor | None:
    """Return a weight as a matrix; a vector is a row, and a stack of one matrix is that matrix."""
    if stored.ndim == 1:
        return stored.unsqueeze(0)
    while stored.ndim > 2 and (stored.shape[0] == 1 or stored.stride(0) == 0):
        stored = stored[0]
    return stored if stored.ndim == 2 else None


def _as_lookup(
    name: str, data: Tensor, matrix: Tensor, result: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...], bool, bool] | None:
    """Read an embedding as the product of unit vectors with a table (entries, features)."""
    entries, features = matrix.shape
    if name not in ("embedding", "__getitem__", "index_select") or result.shape[-1] != features:
        return None
    if data.dtype == torch.bool or result.numel() != data.numel() * features:
        return None
    indices = thinned(data.reshape(-1))
    units = nn.functional.one_hot(indices.long() % entries, entries).to(result.dtype)
    outputs = thinned(result.reshape(-1, features))
    if not torch.equal(matrix[indices.long()].to(outputs), outputs):
        return None
    return units, matrix.T, outputs, tuple(data.shape), False, True


def _layouts(
    name: str, args: tuple[Any, ...], data: Tensor, stored: Tensor, data_first: bool
) -> Iterator[tuple[int, bool, int]]:
    """Yield the inputs' axis, whether the weight is turned, and the outputs' axis: likely ones first."""
    vector = stored.ndim == 1
    if name == "einsum":
        yield from _einsum_layout(args, data_first, vector)
    elif name == "linear":
        yield -1, False, -1
    elif data_first:
        yield -1, not vector, -1
    else:
        yield (-2, False, -2) if data.ndim > 1 else (-1, False, -1)
    for turned in (True, False):
        yield -1, turned, -1
        if data.ndim > 1:
            for axes in ((-2, -2), (-2, -1), (-1, -2)):
                yield axes[0], turned, axes[1]


def _einsum_layout(
    args: tuple[Any, ...], data_first: bool, vector: bool
) -> Iterator[tuple[int, bool, int]]:
    equation = args[0].replace(" ", "") if args and isinstance(args[0], str) else ""
    inputs, arrow, out = equation.partition("->")
    terms = inputs.split(",")
    if not arrow or len(terms) != 2:
        return
    data, weight = terms if data_first else terms[::-1]
    summed = [label for label in weight if label in data and label not in out]
    kept = [label for label in weight if label in out]
    if len(summed) != 1 or len(kept) > 1:
        return
    axis = data.index(summed[0]) - len(data)
    out_axis = out.index(kept[0]) - len(out) if kept else -1
    yield axis, not vector and weight.index(summed[0]) == 0, out_axis


def _rows(tensor: Tensor, axis: int, size: int) -> tuple[Tensor, tuple[int, ...]] | None:
    """Return a tensor as rows along an axis, and the shape of the samples; None if it does not fit."""
    if tensor.ndim < -axis or tensor.shape[axis] != size or not tensor.numel():
        return None
    moved = tensor.detach().movedim(axis, -1)
    return thinned(moved.reshape(-1, size)), tuple(moved.shape[:-1])


def _multiplies(
    inputs: Tensor, used: Tensor, outputs: Tensor, bias: Tensor | None, amount: float
) -> bool:
    """Whether inputs times the weight are the outputs, on some rows and neurons."""
    some = inputs[:_LAYOUT_SAMPLE].cpu().double()
    expected = some @ used.detach()[:_LAYOUT_SAMPLE].cpu().double().T
    if bias is not None:
        added = bias.detach().reshape(-1).cpu().double() * amount
        if added.numel() not in (1, len(used)):
            return False
        expected = expected + (added if added.numel() == 1 else added[:_LAYOUT_SAMPLE])
    found = outputs[:_LAYOUT_SAMPLE, :_LAYOUT_SAMPLE].cpu().double()
    size = torch.maximum(found.norm(), expected.norm())
    terms = (some.abs() @ used.detach()[:_LAYOUT_SAMPLE].cpu().double().abs().T).norm()
    # terms that cancel each other leave nothing but rounding
    rounding = 4 * torch.finfo(outputs.dtype).eps * terms
    return bool((found - expected).norm() <= _LAYOUT_TOLERANCE * size + rounding)


def compared_with_stored(use: Use, weight: Weight) -> Product:
    """Return the product with its weight compared with the stored one: which way round, and how large."""
    plain = Weight(weight.owner, weight.attribute, weight.name).value
    used = use.matrix.detach()
    changed = () if weight.is_computed else use.changed
    trials = []
    for transposed in _turns(plain, used):
        stored = plain.T if transposed else plain
        if stored.shape != used.shape:
            continue
        block = (slice(_LAYOUT_SAMPLE), slice(_LAYOUT_SAMPLE))
        mine, theirs = stored[block].cpu().double(), used[block].cpu().double()
        size = mine.square().sum()
        factor = float((mine * theirs).sum() / size) if size > 0 else 1.0
        miss = float((theirs - factor * mine).norm() / theirs.norm().clamp_min(1e-300))
        trials.append((miss, transposed, factor))
    if not trials:
        return replace(use.product, changed=(*changed, "reshape"))
    miss, transposed, factor = min(trials, key=lambda trial: trial[0])
    factor = 1.0 if abs(factor - 1) <= 1e-6 else factor
    if abs(factor - 1) <= _LAYOUT_TOLERANCE and used.dtype != plain.dtype:
        factor = 1.0  # rounded by a cast
    rounding = 16 * max(torch.finfo(t.dtype).eps for t in (used, plain))
    if miss > rounding and not changed:
        changed = ("transformed",)
    return replace(use.product, transposed=transposed, factor=factor, changed=changed)


def _turns(stored: Tensor, used: Tensor) -> tuple[bool, bool]:
    """Return both ways round, that of the memory first: it tells them apart where values do not."""
    turned = (used.ndim == 2 and used.shape != stored.shape) or used.stride() == stored.T.stride()
    straight = used.shape == stored.shape and used.stride() == stored.stride()
    return (True, False) if turned and not straight else (False, True)
