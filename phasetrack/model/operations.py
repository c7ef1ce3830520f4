"""Operations of a forward pass: the way from one tensor to another, peeled or run again."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Operations that change where numbers are kept, and no number.
CASTS = frozenset(
    [
        "to",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "contiguous",
        "clone",
        "detach",
        "data",
        "cpu",
        "cuda",
        "alias",
    ]
)
LAYOUTS = frozenset(
    [
        "T",
        "mT",
        "t",
        "transpose",
        "permute",
        "movedim",
        "swapaxes",
        "view",
        "view_as",
        "reshape",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
    ]
)
# Parts of the names of operations that draw random numbers, which are never run again.
RANDOM = ("dropout", "rrelu", "bernoulli", "rand", "multinomial", "normal_", "uniform_", "gumbel")
# Names of one arithmetic operation: as a function, as a method, in place, and as an operator.
_ARITHMETIC = {
    name: kind
    for kind, names in {
        "add": "add __add__ __radd__ __iadd__",
        "sub": "sub subtract __sub__ __isub__",
        "rsub": "rsub __rsub__",
        "mul": "mul multiply __mul__ __rmul__ __imul__",
        "div": "div divide true_divide __truediv__ __div__ __itruediv__",
        "neg": "neg negative __neg__",
    }.items()
    for name in names.split()
}


class Foreign(NamedTuple):
    """Stands for a tensor that came from the pass's inputs on a way of its own."""

    shape: tuple[int, ...]


class Scaled(NamedTuple):
    """Stands for a stored tensor times a number."""

    tensor: Tensor
    factor: float


class NotReplayable(Exception):  # noqa: N818 - no error: it ends an attempt
    """Operations cannot be run again on other values; the message is the reason."""


@dataclass(eq=False, frozen=True)
class Operation:
    """One operation on the way from a layer's product, as the pass ran it.

    Attributes:
        index: its place among the operations of the pass.
        name: of the function, such as ``relu``.
        function: the function itself.
        args: positional arguments; a tensor on the way is replaced by the `Operation` that made it,
            a tensor that came from the inputs on a way of its own by `Foreign`.
        kwargs: arguments by name, likewise.
        parents: the operations among the arguments.
        numel: count of numbers in its result.
        floating: whether the result is of a floating-point dtype.
        part: which tensor of the result this is, where the result holds several.
    """

    index: int
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    parents: tuple[Operation, ...]
    numel: int
    floating: bool = True
    part: int | None = None

    @property
    def label(self) -> str:
        """The name without the marks of methods, operators and in-place forms."""
        return _ARITHMETIC.get(self.name) or self.name.strip("_")

    @property
    def keeps_numbers(self) -> bool:
        """Whether the result holds the very numbers of the one operation before."""
        if len(self.parents) != 1 or self.numel != self.parents[0].numel or self.part is not None:
            return False
        kept = self.name in CASTS or self.name in LAYOUTS or self.name == "__getitem__"
        return kept or self._is_idle_dropout

    @property
    def is_random(self) -> bool:
        """Whether the operation draws random numbers."""
        return any(part in self.name for part in RANDOM) and not self._is_idle_dropout

    @property
    def _is_idle_dropout(self) -> bool:
        """Whether this is a dropout of a network in evaluation mode, or of probability 0."""
        if "dropout" not in self.name:
            return False
        given = dict(zip(("input", "p", "training"), self.args, strict=False)) | dict(self.kwargs)
        return given.get("p") == 0 or given.get("training", given.get("train")) is False

    @property
    def foreign(self) -> bool:
        """Whether a tensor took part that does not come from the layer."""
        return any(isinstance(each, Foreign) for each in leaves((self.args, self.kwargs)))

    @property
    def operands(self) -> list[Tensor]:
        """Parameters, buffers and constants among the arguments."""
        return [each for each in leaves((self.args, self.kwargs)) if isinstance(each, Tensor)]


def leaves(nested: object) -> list[object]:
    """Return what nested lists, tuples and mappings hold."""
    if isinstance(nested, Mapping):
        return [leaf for each in nested.values() for leaf in leaves(each)]
    if isinstance(nested, list | tuple) and not isinstance(nested, Foreign | Scaled):
        return [leaf for each in nested for leaf in leaves(each)]
    return [nested]


def replaced(nested: Any, change: Callable[[Any], Any]) -> Any:
    """Return nested lists, tuples and mappings with each thing in them changed."""
    if isinstance(nested, Foreign | Scaled):
        return change(nested)
    if isinstance(nested, Mapping):
        return {name: replaced(each, change) for name, each in nested.items()}
    if isinstance(nested, list | tuple):
        changed = [replaced(each, change) for each in nested]
        return changed if isinstance(nested, list) else tuple(changed)
    return change(nested)


def is_sum(name: str) -> bool:
    """Whether an operation adds or subtracts."""
    return _ARITHMETIC.get(name) in ("add", "sub", "rsub")


def factor_of(name: str, args: object) -> float | None:
    """Return the number by which an operation multiplies its one tensor; None for other operations."""
    kind = _ARITHMETIC.get(name)
    if kind == "neg":
        return -1.0
    values = leaves(args)
    others = [float(value) for value in values if isinstance(value, numbers.Real)]
    if len(others) != 1 or len(values) != 2:
        return None
    if kind == "mul":
        return others[0]
    is_divided = kind == "div" and isinstance(values[0], Tensor) and others[0] != 0
    return 1 / others[0] if is_divided else None


def way(start: Operation, end: Operation | None) -> list[Operation] | None:
    """Return the operations after `start` that led to `end`, in their order; None if none did."""
    if end is None:
        return None
    before, waiting = {end}, [end]
    while waiting:
        for parent in waiting.pop().parents:
            if parent.index >= start.index and parent not in before:
                before.add(parent)
                waiting.append(parent)
    if start not in before:
        return None
    after = {start}
    for each in sorted(before, key=lambda operation: operation.index):
        if any(parent in after for parent in each.parents):
            after.add(each)
    return sorted(after & before - {start}, key=lambda operation: operation.index)


class Affine(NamedTuple):
    """Factors and a bias that act one after another: ``after * (before * value + sign * bias)``.

    Attributes:
        before: factor before the bias; the whole factor where there is no bias.
        bias: what is added, as the operation was given it, or None.
        sign: factor on the bias: 1, or -1 where it is subtracted.
        after: factor behind the bias.
        scalars: trained or kept scalars that are factors too, each with its power, 1 or -1, and
            whether it acts behind the bias.
        end: the last of the operations.
        rest: the operations that follow.
    """

    before: float
    bias: Tensor | None
    sign: float
    after: float
    scalars: tuple[tuple[Tensor, int, bool], ...]
    end: Operation
    rest: list[Operation]


def peeled(start: Operation, operations: Sequence[Operation], *, scalars: bool = False) -> Affine:
    """Read factors and a bias off the first operations behind `start`.

    Args:
        start: the operation whose result they take.
        operations: what follows, as `way` returns it.
        scalars: take scalar tensors that are parameters or buffers for factors, too.
    """
    found = Affine(1.0, None, 1.0, 1.0, (), start, list(operations))
    for place, each in enumerate(operations):
        users = [other for other in operations if found.end in other.parents]
        following = _step(found, each, scalars) if users == [each] else None
        if following is None:
            break
        found = following._replace(end=each, rest=list(operations[place + 1 :]))
    return found


def _step(found: Affine, operation: Operation, scalars: bool) -> Affine | None:
    """Return what is found after one more operation; None where it is neither factor nor bias."""
    if operation.keeps_numbers:
        return found
    kind = _ARITHMETIC.get(operation.name)
    values = leaves(operation.args)
    if kind == "neg" and len(values) == 1:
        return _scaled(found, -1.0)
    if kind is None or operation.foreign or len(values) != 2 or len(operation.parents) != 1:
        return None
    first = values[0] is found.end
    other = values[1] if first else values[0]
    if kind in ("mul", "div"):
        if kind == "div" and not first:
            return None
        power = 1 if kind == "mul" else -1
        if isinstance(other, numbers.Real):
            return _scaled(found, float(other) ** power)
        if scalars and isinstance(other, Tensor) and other.numel() == 1:
            scalar = (other, power, found.bias is not None)
            return found._replace(scalars=(*found.scalars, scalar))
        return None
    bias, factor = other if isinstance(other, Scaled) else (other, 1.0)
    alpha = float(operation.kwargs.get("alpha", 1))  # on the second value
    if found.bias is not None or not isinstance(bias, Tensor):
        return None
    if first and kind != "rsub":
        amount = alpha * factor if kind == "add" else -alpha * factor
        return found._replace(bias=bias, sign=amount)
    if alpha != 1:
        return None
    turned = found if kind == "add" else _scaled(found, -1.0)  # bias - value
    return turned._replace(bias=bias, sign=factor)


def _scaled(found: Affine, factor: float) -> Affine:
    if found.bias is None:
        return found._replace(before=found.before * factor)
    return found._replace(after=found.after * factor)


class Replay:
    """An elementwise function made of the operations of a pass, which can be called on other values.

    Torch's own functions are called, and no module. Parameters among their arguments are read at
    their present values, until `frozen` copies them.

    Args:
        start: the operation whose result the function takes.
        operations: what follows, as `way` returns it.

    Raises:
        NotReplayable: if an operation draws random numbers, takes a tensor that does not come from
            the layer, or a tensor with more than one number.
    """

    def __init__(self, start: Operation, operations: Sequence[Operation]) -> None:
        for each in operations:
            if each.is_random:
                raise NotReplayable(f"{each.label} between the layers draws random numbers")
            if any(isinstance(leaf, Scaled) for leaf in leaves((each.args, each.kwargs))):
                raise NotReplayable(f"{each.label} between the layers takes a tensor with a factor")
            if each.foreign:
                raise NotReplayable(
                    f"{each.label} between the layers takes a tensor that is not theirs"
                )
            if any(operand.numel() != 1 for operand in each.operands):
                raise NotReplayable(
                    f"{each.label} between the layers has numbers of its own per neuron"
                )
        self._start, self._operations = start, tuple(operations)
        self._values = {id(t): t for each in operations for t in each.operands}
        self._versions: tuple[int, ...] | None = None
        self._copy: Replay | None = None

    @property
    def __name__(self) -> str:
        """The names of the operations."""
        return " ".join(each.label for each in self._operations if not each.keeps_numbers)

    @property
    def varies(self) -> bool:
        """Whether the function has parameters, which training changes."""
        return any(isinstance(t, torch.nn.Parameter) for t in self._values.values())

    def frozen(self) -> Replay:
        """Return the function with copies of its parameters; the same one while none has changed."""
        if not self.varies:
            return self
        versions = tuple(tensor._version for tensor in self._values.values())
        if self._copy is None or versions != self._versions:
            self._versions = versions
            self._copy = Replay(self._start, self._operations)
            self._copy._values = {k: t.detach().clone() for k, t in self._values.items()}
        return self._copy

    def __call__(self, values: Tensor) -> Tensor:
        """Return the function of each value, in their shape and dtype."""
        results: dict[Operation, Any] = {self._start: values}

        def given(each: Any) -> Any:
            if isinstance(each, Operation):
                return results[each]
            if isinstance(each, Tensor):
                operand = self._values[id(each)].detach().to(values.device)
                operand = operand.to(values.dtype) if operand.is_floating_point() else operand
                return operand.reshape(-1) if operand.ndim else operand
            return each

        for each in self._operations:
            if each.keeps_numbers or each.name in CASTS or each.name in LAYOUTS:
                before = results[each.parents[0]]
                same = before.is_floating_point() == each.floating
                kind = values.dtype if each.floating else torch.int64
                results[each] = before if same else before.to(kind)
                continue
            args = replaced(each.args, given)
            # in place: by name, by keyword, or by a True among the positional arguments
            flags = (*leaves(each.args), each.kwargs.get("inplace"))
            if each.name.endswith("_") or any(flag is True for flag in flags):
                args = replaced(args, lambda a: a.clone() if isinstance(a, Tensor) else a)
            result = each.function(*args, **replaced(each.kwargs, given))
            results[each] = result if each.part is None else leaves(result)[each.part]
        last: Tensor = results[self._operations[-1]] if self._operations else values
        return last
