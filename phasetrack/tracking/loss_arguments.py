"""How a loop calls its loss: where outputs and targets stand, and where the value is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

# Names under which losses take their targets as a keyword.
TARGET_NAMES = ("target", "targets", "labels", "label", "y", "y_true")


class Form(NamedTuple):
    """How a loss is called.

    Attributes:
        outputs: place or name of the argument that holds the outputs.
        targets: place or name of the targets.
        is_packed: whether the value is returned within a tuple, list or mapping.
    """

    outputs: int | str
    targets: int | str
    is_packed: bool = False


USUAL = Form(0, 1)


def form_of(args: tuple[Any, ...], named: Mapping[str, Any], result: object) -> Form | None:
    """Return how a loss was called; None where it had fewer than two arguments.

    Outputs are what a gradient can reach; where that tells nothing, they come first.
    """
    packed = not isinstance(result, Tensor)
    if len(args) == 2 and not named and _has_gradient(args[0]):
        return Form(0, 1, packed) if packed else USUAL
    given: dict[int | str, Any] = dict((*enumerate(args), *named.items()))
    if len(given) < 2:
        return None
    targets: int | str | None = next((name for name in TARGET_NAMES if name in named), None)
    rest = [key for key in given if key != targets]
    outputs = next((key for key in rest if _has_gradient(given[key])), rest[0])
    if targets is None:
        rest.remove(outputs)
        targets = next((key for key in rest if isinstance(given[key], Tensor)), rest[0])
    return Form(outputs, targets, packed)


def argument(args: tuple[Any, ...], named: Mapping[str, Any], key: int | str) -> Any:
    """Return one argument of a call."""
    return args[key] if isinstance(key, int) else named[key]


def value_of(result: object) -> Any:
    """Return the loss among what a criterion returns: the first tensor with a gradient, or the first."""
    if not isinstance(result, tuple | list | Mapping):
        return result
    named = result if isinstance(result, Mapping) else {}
    values = [named["loss"]] if "loss" in named else list(named.values() or result)
    tensors = [value for value in values if isinstance(value, Tensor)]
    return next(filter(_has_gradient, tensors), tensors[0] if tensors else None)


def in_form(loss: Callable[..., Any], form: Form) -> Callable[[Tensor, Tensor], Any]:
    """Return a loss of (outputs, targets) that calls another one as the loop does."""
    names = _names(loss.forward if isinstance(loss, nn.Module) else loss)
    keys = [names.index(key) if key in names else key for key in form[:2]]
    if keys == [0, 1] and not form.is_packed:
        return loss

    def arranged(outputs: Tensor, targets: Tensor) -> Any:
        given = dict(zip(keys, (outputs, targets), strict=True))
        places = sorted(key for key in given if isinstance(key, int))
        named = {key: value for key, value in given.items() if isinstance(key, str)}
        return value_of(loss(*(given[place] for place in places), **named))

    return arranged


def _names(function: Callable[..., Any]) -> list[str | int]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # without a signature
        return []


def _has_gradient(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
