"""Numbers, texts, functions and modules that a model's forward() may use, and that may change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import takewhile
from types import FunctionType
from typing import Any

import torch
from torch import nn

from phasetrack.model.layer_search import entries, unwrapped
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.named_values import PLAIN, Place, named_values

# A function's values are compared here: -3 to 3 holds where activations bend.
_GRID = torch.linspace(-3, 3, 61, dtype=torch.float64, device="cpu")

# How far two factors may be apart, relative to them, and be the same.
ROUNDING = 1e-6
# Why a formula does not hold: the pass that showed it was another one.
CHANGED = (
    "an attribute of the model ({name}), or a setting that its code names, is not what it was in the pass that "
    "showed the formula; it is read again off the next pass"
)


def attribute_root(model: nn.Module, view: TwoLayerView) -> nn.Module:
    """Return the module whose attributes a formula may depend on: the block, or the model without wrappers."""
    inner = unwrapped(model)
    if view.directions is None:
        return inner
    return next(iter(entries(inner, view.first, view.second, block=True)), inner)


class ModelAttributes:
    """Remembers the attributes of a model and the settings that its code names, and says which one has changed.

    Args:
        model: the model, or the part of it that holds the two layers (`attribute_root`).
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._harmless: set[tuple[int, str]] = set()  # those that change and leave the formula
        self._suspected: set[tuple[int, str]] = set()
        self._kept: list[tuple[Place, object]] = []

    def remember(self, *, same_formula: bool) -> None:
        """Remember the attributes as they are in a pass that was followed.

        Args:
            same_formula: whether it showed the formula of the pass before; the attributes that
                changed in between are then looked at no more.
        """
        if same_formula:
            self._harmless |= self._suspected
        self._suspected = set()
        places = {(id(place.owner), place.key): place for place in _places(self._model)}
        self._kept = [(p, p.value()) for key, p in places.items() if key not in self._harmless]

    def changed(self) -> str:
        """Return the name of an attribute that is not what it was; empty while all are."""
        changed = [
            place
            for place, value in self._kept
            if (found := place.value()) is not value and _differs(found, value)
        ]
        self._suspected |= {(id(place.owner), place.key) for place in changed}
        return changed[0].name if changed else ""


def _places(model: nn.Module) -> Iterator[Place]:
    for module in model.modules():
        moded = _asks_for_its_mode(module)
        for table in (vars(module), module._modules):
            for key, value in table.items():
                kept = isinstance(value, PLAIN) or callable(value)
                if kept and not key.startswith("_") and (moded or key != "training"):
                    yield Place(table, table, key)
        yield from named_values(module)


def _asks_for_its_mode(module: nn.Module) -> bool:
    """Whether a module's own code reads `training`, as dropout's and batch norm's does."""
    own = takewhile(lambda kind: kind is not nn.Module, type(module).__mro__)
    functions = (each for kind in own for each in vars(kind).values())
    return any("training" in f.__code__.co_names for f in functions if isinstance(f, FunctionType))


def compute_alike(one: TwoLayerView, other: TwoLayerView) -> bool:
    """Whether two views of the same weights have the same formula now."""
    mine, theirs = one.current_formula(), other.current_formula()
    same = [
        (view.formula.doubt, view.bias_scaled, view.link, view.first.factor, view.bias_at)
        for view in (one, other)
    ]
    scales = [math.nan if each.scale is None else each.scale for each in (mine, theirs)]
    return (
        same[0] == same[1]
        and math.isclose(*scales, rel_tol=ROUNDING)
        and _are_alike(mine.activation, theirs.activation)
    )


def _are_alike(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    return one is other or torch.equal(one(_GRID), other(_GRID))


def _differs(found: object, kept: object) -> bool:
    return type(found) is not type(kept) or bool(found != kept)
