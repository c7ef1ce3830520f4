"""PassTrace: what one forward pass of the user's did with two weights, operation by operation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, NamedTuple, TypeGuard

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
from phasetrack.model.operations import (
    CASTS,
    LAYOUTS,
    Foreign,
    Operation,
    Scaled,
    factor_of,
    is_sum,
    leaves,
    replaced,
)
from phasetrack.model.pass_outcome import NotedPass, SeenPass, outcome
from phasetrack.model.products import Product, Use, as_product

# Operations that are noted behind the two weights; a longer pass is given up.
MOST_OPERATIONS = 4096


class _Trail(NamedTuple):
    """What is known of a tensor of the pass.

    Attributes:
        weights: bits of the weights that it was made of, where no input took part.
        data: whether it was made of the pass's inputs.
        operation: the last operation on its way from a product, or None.
        source: the stored tensor whose numbers it holds, times `factor`; or None.
        factor: the factor on them.
        derived: whether it was computed from stored tensors in any other way.
        changed: operations that made it of a weight and are neither casts nor layouts nor factors.
    """

    weights: int = 0
    data: bool = False
    operation: Operation | None = None
    source: Tensor | None = None
    changed: tuple[str, ...] = ()
    factor: float = 1.0
    derived: bool = False


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
        self._trails: Any = WeakIdKeyDictionary()
        # products number by number, which a sum makes a product of matrices
        self._weighted: Any = WeakIdKeyDictionary()
        self._uses: list[Use] = []
        self._count = 0
        self._followed: list[Operation] = []  # in their order
        self._open = True
        self._all_data = False
        self._given: dict[nn.Module, dict[int | str, Tensor]] = {}

    # --- the pass ----------------------------------------------------------------------------

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Mark the tensors among the pass's arguments as its inputs, and follow the pass."""
        self.note_arguments(module, args, kwargs)
        tensors = [each for each in leaves((args, kwargs)) if isinstance(each, Tensor)]
        for each in tensors:
            self._trails[each] = _Trail(data=True)
        self._all_data = not tensors  # the model holds its data: as buffers, or as attributes
        _push_mode(self)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Follow no more: the mode leaves the stack, wherever it is on it."""
        self._open, self._frame = False, None
        above = []
        if self not in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
            return
        while (mode := _pop_mode()) is not self:  # type: ignore[no-untyped-call]
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)  # type: ignore[no-untyped-call]

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
        given: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
        self._given[module] = {at: each for at, each in given if is_plain(each)}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation as it is, and note it."""
        if is_dynamo_compiling():  # a part of the pass is compiled: Dynamo traces this very method
            return func(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if self._open:
            try:
                if self._frame is not None and self.stale:
                    self._open, self._frame = False, None
                else:
                    with unseen():
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
        made = [each for each in results if is_plain(each)]
        if not made:
            return
        given = [each for each in leaves((args, kwargs)) if is_plain(each)]
        trails = [self._trail(each) for each in given]
        weights = 0
        for trail in trails:
            weights |= trail.weights
        if not any(trail.data for trail in trails):
            self._note_stored(name, args, given, trails, weights, made)
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
                part = replace(operation, part=place, numel=each.numel())
            self._trails[each] = _Trail(data=True, operation=part)

    def _note_stored(
        self,
        name: str,
        args: Any,
        given: list[Tensor],
        trails: list[_Trail],
        weights: int,
        made: list[Tensor],
    ) -> None:
        """Note a tensor that no input took part in: a weight on its way to a product, or a bias."""
        single = len(given) == 1
        keeps = single and (name in CASTS or name in LAYOUTS or name == "__getitem__")
        number = 1.0 if keeps else factor_of(name, args) if single else None
        source = None
        if number is not None and not trails[0].derived:
            source = given[0] if trails[0].source is None else trails[0].source
            number *= trails[0].factor
        changed = tuple(step for trail in trails for step in trail.changed)
        if weights and not (keeps or (single and name.strip("_") in _FACTORS)):
            changed = (*changed, name.strip("_"))
        factor, derived = 1.0 if number is None else number, source is None and not weights
        trail = _Trail(weights, False, None, source, changed, factor, derived)
        for each in made:
            if weights or source is not None or each.grad_fn is not None:
                self._trails[each] = trail

    def _trail(self, tensor: Tensor) -> _Trail:
        known: _Trail | None = self._trails.get(tensor)
        if known is not None:
            return known
        weights = self._leaves.get(id(tensor), 0)
        # what the pass computed where no operation was seen, such as a scripted function
        hidden = tensor.grad_fn is not None
        kept = weights or isinstance(tensor, nn.Parameter)
        return _Trail(weights, data=not kept and (hidden or self._all_data))

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
            if trail.data or trail.derived or (trail.factor != 1.0 and not is_sum(name)):
                return Foreign(tuple(each.shape))
            source = each if trail.source is None else trail.source
            return source if trail.factor == 1.0 else Scaled(source, trail.factor)

        args, kwargs = replaced(tuple(args), kept), replaced(dict(kwargs), kept)
        parents = dict.fromkeys(e for e in leaves((args, kwargs)) if isinstance(e, Operation))
        operation = Operation(
            self._count,
            name,
            function,
            args,
            kwargs,
            tuple(parents),
            made.numel(),
            made.is_floating_point(),
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
    ) -> Use | None:
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
            found = as_product(name, args, given[at], stored, made[0], bias, amount, at < place)
            if found is None:
                continue
            inputs, matrix, outputs, lead, biased, lookup = found
            kept = self._trail(bias) if biased and bias is not None else _Trail()
            source = kept.source
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
                floating=True,
            )
            product = Product(
                inputs.cpu().clone(),
                outputs.cpu().clone(),
                transposed=False,
                factor=1.0,
                bias=(bias if source is None else source) if biased else None,
                bias_factor=amount * kept.factor,
                lookup=lookup,
                operation=operation,
                lead=lead,
            )
            return Use(trail.weights, matrix, trail.changed, product)
        return None

    def _summed(self, name: str, given: list[Tensor], made: list[Tensor]) -> Use | None:
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
        if not self.failure:
            tensors = [each for each in leaves(_plain_containers(outputs)) if is_plain(each)]
            made = [(each, self._trail(each).operation) for each in tensors]
            noted = NotedPass(self._weights, self._uses, self._followed, self._given)
            found = outcome(model, noted, made)
            if isinstance(found, SeenPass):
                return found
            self.failure = found
        return None


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


def _plain_containers(outputs: object) -> object:
    """Return the attributes of an output object, such as a dataclass; the output itself otherwise."""
    plain = isinstance(outputs, Tensor | list | tuple | Mapping) or outputs is None
    return outputs if plain else dict(getattr(outputs, "__dict__", {}))


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor with numbers that can be read here."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter, nn.Buffer):
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(value)


@contextmanager
def unseen() -> Iterator[None]:
    """Compute without gradients, and unseen by the modes of anyone."""
    with torch._C.DisableTorchFunction(), torch.no_grad(), _disable_current_modes():
        yield
