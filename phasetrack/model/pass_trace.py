"""PassTrace: what one forward pass of the user's did with two weights, operation by operation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakIdKeyDictionary

from phasetrack.model.layer_weight import Weight
from phasetrack.model.operations import CASTS, LAYOUTS, Foreign, Operation, leaves, replaced, way

# Samples of the pass that are copied and compared, at most; chosen here.
MOST_ROWS = 512
# Operations that are noted behind the two weights; a longer pass is given up.
MOST_OPERATIONS = 4096
# Passes that are watched in vain before the watch is given up.
MOST_PASSES = 5
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


@dataclass(frozen=True, eq=False)
class SeenPass:
    """What one forward pass did with two weights. Holds copies of at most `MOST_ROWS` samples.

    Read it at once (`TwoLayerView.resolved`): weights are compared as they stand.

    Attributes:
        model: the model.
        swapped: whether the weight named second came first.
        first: the use of the weight that came first.
        second: the use of the other one.
        between: operations from the first product to the second one's inputs; None if the way
            between them was not seen.
        after: operations from the second product to the output, or to the last of them where no
            output has a value per sample; None if none was seen.
        output: the tensor that the pass returned, a row per sample, (n, outputs), a copy; None if
            it returned none with a value per sample and output.
        uses: how often each weight was used in the pass, the first one's number first.
        site: the module that is given the very inputs of the first product: the one that holds the
            first layer, or else the one whose call was followed; None if neither is.
        site_arg: place or name of its argument that holds them.
    """

    model: nn.Module
    swapped: bool
    first: Product
    second: Product
    between: tuple[Operation, ...] | None
    after: tuple[Operation, ...] | None
    output: Tensor | None
    uses: tuple[int, int]
    site: nn.Module | None
    site_arg: int | str | None


class _Trail(NamedTuple):
    """What is known of a tensor of the pass.

    Attributes:
        weights: bits of the weights that it was made of, where no input took part.
        data: whether it was made of the pass's inputs.
        operation: the last operation on its way from a product, or None.
        source: the stored tensor whose very numbers it holds, or None.
        changed: operations that made it of a weight and are neither casts nor layouts nor factors.
    """

    weights: int = 0
    data: bool = False
    operation: Operation | None = None
    source: Tensor | None = None
    changed: tuple[str, ...] = ()


class _Use(NamedTuple):
    """A product as it was seen, before it is compared with the stored weight."""

    weights: int
    matrix: Tensor  # (outputs, inputs), as it was used
    changed: tuple[str, ...]
    product: Product


class PassTrace(TorchFunctionMode):
    """Follows two weights and the pass's inputs through the operations of one forward pass.

    A tensor is followed by its identity, whatever its name and whichever way round it is used. No
    operation is changed or called twice, and no random number is drawn.

    Args:
        weights: the two weights, in any order.
        frame: the frame of the call; once it has ended, the trace is blind.
    """

    def __init__(self, weights: tuple[Weight, Weight], frame: FrameType | None = None) -> None:
        super().__init__()
        self.failure = ""
        self._weights, self._frame = weights, frame
        self._leaves: dict[int, int] = {}
        self._held: list[Tensor] = []
        for place, weight in enumerate(weights):
            for leaf in weight.stored:
                self._leaves[id(leaf)] = self._leaves.get(id(leaf), 0) | 1 << place
                self._held.append(leaf)
        self._trails: WeakIdKeyDictionary = WeakIdKeyDictionary()
        # products number by number, which a sum makes a product of matrices
        self._weighted: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._uses: list[_Use] = []
        self._count = 0
        self._followed: list[Operation] = []  # in their order
        self._open = True
        self._all_data = False
        self._given: dict[nn.Module, dict[int | str, object]] = {}

    # --- the pass ----------------------------------------------------------------------------

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Mark the tensors among the pass's arguments as its inputs, and follow the pass."""
        self.note_arguments(module, args, kwargs)
        tensors = [each for each in leaves((args, kwargs)) if isinstance(each, Tensor)]
        for each in tensors:
            self._trails[each] = _Trail(data=True)
        self._all_data = not tensors  # the model holds its data: as buffers, or as attributes
        _push_mode(self)

    def end(self) -> None:
        """Follow no more: the mode leaves the stack, wherever it is on it."""
        self._open, self._frame = False, None
        above = []
        if self not in _get_current_function_mode_stack():
            return
        while (mode := _pop_mode()) is not self:
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)

    @property
    def stale(self) -> bool:
        """Whether the call that is followed has ended, by an exception that no hook saw."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is None

    def note_arguments(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Note the arguments of a module that may be given the first layer's inputs."""
        self._given[module] = {**dict(enumerate(args)), **kwargs}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation as it is, and note it."""
        result = func(*args, **(kwargs or {}))
        if self._open:
            try:
                if self._frame is not None and self.stale:
                    self._open, self._frame = False, None
                else:
                    with torch.no_grad(), _disable_current_modes():
                        self._note(func, args, kwargs or {}, result)
            except Exception as error:
                self._open, self.failure = False, f"following the pass failed ({error!r})"
        return result

    def _note(
        self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], result: Any
    ) -> None:
        name = getattr(function, "__name__", "")
        if name == "__get__":  # of an attribute such as W.T
            name = getattr(getattr(function, "__self__", None), "__name__", name)
        results = args[:1] if name == "__setitem__" else leaves(result)
        made = [each for each in results if _is_plain(each)]
        if not made:
            return
        given = [each for each in leaves((args, kwargs)) if _is_plain(each)]
        trails = [self._trail(each) for each in given]
        weights = 0
        for trail in trails:
            weights |= trail.weights
        if not any(trail.data for trail in trails):
            self._note_stored(name, given, trails, weights, made)
            return
        operation = None
        if weights:
            used = self._product(name, args, kwargs, given, trails, made)
        else:
            used = self._summed(name, given, made)
        if (
            weights
            and used is None
            and name.strip("_") in _PRODUCTS
            and len(given) == len(made) + 1
        ):
            self._weighted[made[0]] = (given, trails)
        if used is not None:
            operation = used.product.operation
            self._uses.append(used)
        elif any(trail.operation is not None for trail in trails):
            operation = self._operation(name, function, args, kwargs, made[0])
        for place, each in enumerate(made):
            part = operation
            if operation is not None and len(made) > 1:
                part = Operation(**{**vars(operation), "part": place, "numel": each.numel()})
            self._trails[each] = _Trail(data=True, operation=part)

    def _note_stored(
        self,
        name: str,
        given: list[Tensor],
        trails: list[_Trail],
        weights: int,
        made: list[Tensor],
    ) -> None:
        """Note a tensor that no input took part in: a weight on its way to a product, or a bias."""
        keeps = len(given) == 1 and (name in CASTS or name in LAYOUTS or name == "__getitem__")
        source = (trails[0].source if trails[0].source is not None else given[0]) if keeps else None
        factor = name.strip("_") in _FACTORS and len(given) == 1
        changed = tuple(step for trail in trails for step in trail.changed)
        if weights and not (keeps or factor):
            changed = (*changed, name.strip("_"))
        if weights or source is not None:
            for each in made:
                self._trails[each] = _Trail(weights, False, None, source, changed)

    def _trail(self, tensor: Tensor) -> _Trail:
        known: _Trail | None = self._trails.get(tensor)
        if known is not None:
            return known
        weights = self._leaves.get(id(tensor), 0)
        stored = weights or isinstance(tensor, nn.Parameter)
        return _Trail(weights, data=self._all_data and not stored)

    def _operation(
        self, name: str, function: Callable[..., Any], args: Any, kwargs: Any, made: Tensor
    ) -> Operation:
        self._count += 1
        if self._count > MOST_OPERATIONS:
            self._open, self.failure = False, "the pass has too many operations to follow"

        def kept(each: Any) -> Any:
            if not isinstance(each, Tensor):
                return each
            trail = self._trail(each)
            if trail.operation is not None:
                return trail.operation
            if trail.data:
                return Foreign(tuple(each.shape))
            return each if trail.source is None else trail.source

        args, kwargs = replaced(tuple(args), kept), replaced(dict(kwargs), kept)
        parents = dict.fromkeys(e for e in leaves((args, kwargs)) if isinstance(e, Operation))
        operation = Operation(
            self._count, name, function, args, kwargs, tuple(parents), made.numel()
        )
        self._followed.append(operation)
        return operation

    def _product(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: list[Tensor],
        trails: list[_Trail],
        made: list[Tensor],
    ) -> _Use | None:
        """Return the use of a weight that an operation is, if it is one."""
        places = [place for place, trail in enumerate(trails) if trail.weights and not trail.data]
        data = [place for place, trail in enumerate(trails) if trail.data]
        if len(places) != 1 or not data or len(made) != 1:
            return None
        (place,) = places
        stored, trail = given[place], trails[place]
        rest = [each for i, each in enumerate(given) if i != place and i not in data]
        bias = rest[0] if len(rest) == 1 else None
        amount = float(kwargs.get("beta", 1)) if bias is not None else 1.0
        for at in data:
            found = _as_product(name, args, given[at], stored, made[0], bias, amount, at < place)
            if found is None:
                continue
            inputs, matrix, outputs, lead, biased, lookup = found
            source = self._trail(bias).source if biased and bias is not None else None
            before = trails[at].operation
            self._count += 1
            operation = Operation(
                self._count,
                name,
                torch.clone,
                (),
                {},
                () if before is None else (before,),
                made[0].numel(),
            )
            product = Product(
                inputs.cpu().clone(),
                outputs.cpu().clone(),
                transposed=False,
                factor=1.0,
                bias=(bias if source is None else source) if biased else None,
                bias_factor=amount,
                lookup=lookup,
                operation=operation,
                lead=lead,
            )
            return _Use(trail.weights, matrix, trail.changed, product)
        return None

    def _summed(self, name: str, given: list[Tensor], made: list[Tensor]) -> _Use | None:
        """Return the use of a weight that a sum ends, as in ``(hidden * a).sum(-1)``."""
        parts = self._weighted.get(given[0]) if name in ("sum", "mean") and given else None
        if parts is None or given[0].shape[:-1] != made[0].shape:
            return None
        (one, other), (here, there) = parts
        if here.weights and not here.data:
            one, other, here, there = other, one, there, here
        count = given[0].shape[-1] if name == "mean" else 1
        data = one.squeeze(-2) if other.ndim == 2 and one.ndim > 2 else one
        return self._product("linear", (), {}, [data, other / count], [here, there], made)

    # --- the end of the pass -----------------------------------------------------------------

    def seen(self, model: nn.Module, outputs: object) -> SeenPass | None:
        """Return what the pass did; None, with `failure` set, if it did not use both weights."""
        pair = self._pair()
        if self.failure or pair is None:
            self.failure = self.failure or self._unused()
            return None
        first_use, second_use, swapped = pair
        first_weight, second_weight = self._weights[::-1] if swapped else self._weights
        first = _compared(first_use, first_weight)
        second = _compared(second_use, second_weight)
        start = first_use.product.operation
        (before,) = second.operation.parents or (None,)
        between = way(start, before)
        tensors = [each for each in leaves(_plain_containers(outputs)) if _is_plain(each)]
        output, end = self._output(tensors, second)
        after = way(second.operation, end)
        if after is None:  # no output has a value per sample: what followed, whatever it led to
            after = next(
                filter(None, (way(second.operation, each) for each in reversed(self._followed))),
                None,
            )
        counts = [sum(1 for use in self._uses if use.weights >> place & 1) for place in (0, 1)]
        if self._weights[0].name == self._weights[1].name:
            counts = [len(self._uses) - 1] * 2
        return SeenPass(
            model,
            swapped,
            first,
            second,
            None if between is None else tuple(between),
            None if after is None else tuple(after),
            output,
            (counts[1], counts[0]) if swapped else (counts[0], counts[1]),
            *self._site(first, first_weight.owner),
        )

    def _site(self, first: Product, owner: nn.Module) -> tuple[nn.Module | None, int | str | None]:
        """Return the module, and its argument, that is given the first product's inputs."""
        places = [
            (module, key, value)
            for module, given in sorted(self._given.items(), key=lambda item: item[0] is not owner)
            for key, value in given.items()
        ]
        for module, key, value in places:
            if isinstance(value, Tensor) and _is_plain(value):
                rows = as_rows(value.detach(), first.inputs.shape[1], lookup=first.lookup)
                if rows is None or len(_thinned(rows)) != len(first.inputs):
                    continue
                if torch.equal(_thinned(rows).cpu().to(first.inputs), first.inputs):
                    return module, key
        return None, None

    def _pair(self) -> tuple[_Use, _Use, bool] | None:
        """Return the last use of a weight whose inputs descend from the other one, and that one."""
        for hidden in (False, True):
            for place, second in reversed(list(enumerate(self._uses))):
                for first in reversed(self._uses[:place]):
                    follows = self._follows_unseen if hidden else _follows
                    if not follows(first, second):
                        continue
                    for swapped in (False, True):
                        bits = (2, 1) if swapped else (1, 2)
                        if first.weights & bits[0] and second.weights & bits[1]:
                            return first, second, swapped
        return None

    def _follows_unseen(self, first: _Use, second: _Use) -> bool:
        """Whether one use may have led to another on a way that was not seen, as in a script."""
        fits = first.product.outputs.shape[1] == second.product.inputs.shape[1]
        return fits and not second.product.operation.parents

    def _unused(self) -> str:
        used = 0
        for use in self._uses:
            used |= use.weights
        names = [w.layer_name for place, w in enumerate(self._weights) if not used >> place & 1]
        if not names:
            first, second = (weight.layer_name for weight in self._weights)
            return f"the inputs of neither {first} nor {second} come from the other one"
        return f"the forward pass did not multiply its inputs by {' or '.join(names)}"

    def _output(
        self, tensors: list[Tensor], second: Product
    ) -> tuple[Tensor | None, Operation | None]:
        """Return the rows of the output that comes from the second layer, and its last operation."""
        samples, heads = math.prod(second.lead), second.outputs.shape[1]
        fitting = []
        for each in tensors:
            if each.is_floating_point() and each.numel() == samples * heads:
                operation = self._trail(each).operation
                follows = way(second.operation, operation) is not None
                turned = each.ndim > 1 and heads > 1 and each.shape[-1] != heads == each.shape[0]
                table = (each.movedim(0, -1) if turned else each).reshape(samples, heads)
                fitting.append((not follows, _thinned(table.detach()), operation))
        if not fitting:
            return None, None
        _, rows, operation = min(fitting, key=lambda entry: entry[0])
        return rows.cpu().clone(), operation


def _follows(first: _Use, second: _Use) -> bool:
    """Whether the inputs of one use descend from another."""
    start = first.product.operation
    return any(way(start, each) is not None for each in second.product.operation.parents)


_PRODUCTS = frozenset(["mul", "rmul", "multiply", "imul"])
_FACTORS = frozenset(
    [
        "mul",
        "div",
        "rmul",
        "truediv",
        "multiply",
        "divide",
        "true_divide",
        "neg",
        "imul",
        "itruediv",
    ]
)


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with numbers that can be read here."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter, nn.Buffer):
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(value)


def _plain_containers(outputs: object) -> object:
    """Return the attributes of an output object, such as a dataclass; the output itself otherwise."""
    plain = isinstance(outputs, Tensor | list | tuple | Mapping) or outputs is None
    return outputs if plain else dict(getattr(outputs, "__dict__", {}))


def as_rows(values: Tensor, width: int, *, lookup: bool) -> Tensor | None:
    """Return a module's argument as the inputs of its layer, (n, width); None if it has another size.

    Args:
        values: of any shape; indices where the layer looks them up.
        width: inputs of the layer.
        lookup: whether indices stand for unit vectors.
    """
    if lookup:
        if values.is_floating_point() or values.dtype == torch.bool:
            return None
        return nn.functional.one_hot(values.reshape(-1).long(), width)
    if not values.numel() or values.numel() % width:
        return None
    return values.reshape(-1, width)


def _thinned(rows: Tensor) -> Tensor:
    """Return at most `MOST_ROWS` rows, from all parts of a table."""
    return rows[:: max(1, -(-len(rows) // MOST_ROWS))]


# --- products ------------------------------------------------------------------------------------


def _as_product(
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
        whether the bias was added, and whether the inputs were indices; None if it is no product.
    """
    matrix = _matrix(stored)
    if matrix is None or not result.is_floating_point():
        return None
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
    indices = _thinned(data.reshape(-1))
    units = nn.functional.one_hot(indices.long() % entries, entries).to(result.dtype)
    outputs = _thinned(result.reshape(-1, features))
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
    return _thinned(moved.reshape(-1, size)), tuple(moved.shape[:-1])


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
    return bool((found - expected).norm() <= _LAYOUT_TOLERANCE * size)


def _compared(use: _Use, weight: Weight) -> Product:
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
        return Product(**{**vars(use.product), "changed": (*changed, "reshape")})
    miss, transposed, factor = min(trials, key=lambda trial: trial[0])
    factor = 1.0 if abs(factor - 1) <= 1e-6 else factor
    if abs(factor - 1) <= _LAYOUT_TOLERANCE and used.dtype != plain.dtype:
        factor = 1.0  # rounded by a cast
    rounding = 16 * max(torch.finfo(t.dtype).eps for t in (used, plain))
    if miss > rounding and not changed:
        changed = ("transformed",)
    return Product(
        **{**vars(use.product), "transposed": transposed, "factor": factor, "changed": changed}
    )


def _turns(stored: Tensor, used: Tensor) -> tuple[bool, bool]:
    """Return both ways round, that of the memory first: it tells them apart where values do not."""
    turned = (used.ndim == 2 and used.shape != stored.shape) or used.stride() == stored.T.stride()
    straight = used.shape == stored.shape and used.stride() == stored.stride()
    return (True, False) if turned and not straight else (False, True)


# --- the watch -----------------------------------------------------------------------------------


class PassWatch:
    """Waits for one forward pass with gradients, traces it, and takes its hooks away.

    Copies and pickles as a watch that waits for nothing, so that models stay saveable. No exception
    of its own reaches the model.

    Args:
        modules: the modules whose call is such a pass; the first one called counts.
        sites: modules that may be given the first layer's inputs.
        model: the whole model.
        weights: the two weights.
        done: called with the `SeenPass` when the pass has ended.
        failed: called with the reason where no pass could be followed.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module] = (),
        sites: Sequence[nn.Module] = (),
        model: nn.Module | None = None,
        weights: tuple[Weight, Weight] | None = None,
        done: Callable[[SeenPass], object] | None = None,
        failed: Callable[[str], object] | None = None,
    ) -> None:
        self._modules, self._sites, self._model = tuple(modules), tuple(sites), model
        self._weights, self._done, self._failed = weights, done, failed
        self._trace: PassTrace | None = None
        self._entered: nn.Module | None = None
        self._passes = 0
        self._handles = []
        for module in self._modules:
            self._handles += [
                module.register_forward_pre_hook(self.before, with_kwargs=True),
                module.register_forward_hook(self.after, always_call=True),
            ]
        for site in self._sites:
            self._handles.append(site.register_forward_pre_hook(self.at_site, with_kwargs=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return (PassWatch, ())

    @property
    def waiting(self) -> bool:
        """Whether the hooks are still there."""
        return bool(self._handles)

    @property
    def tracing(self) -> bool:
        """Whether a pass is followed now; it will tell more than comparisons can."""
        return self._trace is not None

    def remove(self) -> None:
        """Take the hooks away, and the trace with them; further calls do nothing."""
        self._close()
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Begin to follow a pass, if it is one with gradients that is not followed yet."""
        if is_dynamo_compiling() or not self._handles or self._weights is None:
            return
        try:
            if self._trace is not None:
                if not self._trace.stale:
                    return
                self._close()
            if self._passes >= MOST_PASSES:
                self.remove()
            elif any(module is each for each in self._modules) and _can_follow(module):
                self._entered = module
                self._trace = PassTrace(self._weights, sys._getframe(1))
                self._trace.begin(module, args, kwargs)
        except Exception as error:
            self._give_up(f"following the pass failed ({error!r})")

    def at_site(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note the arguments of the first layer's module in a pass that is followed."""
        if is_dynamo_compiling() or self._trace is None:
            return
        if any(module is each for each in self._sites):
            self._trace.note_arguments(module, args, kwargs)

    def after(self, module: nn.Module, _: Any, output: Any) -> None:
        """End the pass, whatever became of it, and hand over what was seen."""
        if is_dynamo_compiling() or self._trace is None or module is not self._entered:
            return
        trace = self._trace
        self._close()
        self._passes += 1
        if output is None:  # the forward pass raised
            return
        try:
            with torch.no_grad(), _disable_current_modes():
                seen = trace.seen(self._model or module, output)
            if seen is not None:
                self.remove()
                if self._done is not None:
                    self._done(seen)
            elif self._passes >= MOST_PASSES:
                self._give_up(trace.failure)
        except Exception as error:
            self._give_up(f"reading the pass failed ({error!r})")

    def _close(self) -> None:
        trace, self._trace, self._entered = self._trace, None, None
        if trace is not None:
            trace.end()

    def _give_up(self, reason: str) -> None:
        self.remove()
        if self._failed is not None:
            self._failed(reason)


def watch_next_pass(
    modules: Sequence[nn.Module],
    model: nn.Module,
    weights: tuple[Weight, Weight],
    done: Callable[[SeenPass], object],
    failed: Callable[[str], object],
) -> PassWatch:
    """Trace the next forward pass with gradients, on which the two weights act.

    Args:
        modules: the modules whose call is a pass, as `layer_search.entries` returns them. Empty for
            compiled models: nothing is watched then.
        model: the whole model, whose parameters and buffers are told by name.
        weights: the two weights, in any order.
        done: called once, within the module's call and after its forward, while the weights are
            those of the pass.
        failed: called with a reason, if several passes did not use both weights.

    Returns:
        A handle; `remove()` ends the watch.
    """
    owners = dict.fromkeys(weight.owner for weight in weights) if modules else ()
    return PassWatch(modules, tuple(owners), model, weights, done, failed)


def _can_follow(module: nn.Module) -> bool:
    """Whether a pass of the module can be followed: with gradients, and run by Python as it stands."""
    if not torch.is_grad_enabled() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return not any(is_compiled(each) for each in module.modules())


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile runs the module."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
