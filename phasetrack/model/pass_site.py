"""Where a followed pass shows the first layer's inputs: the module that is given them, and its argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.comparison import thinned
from phasetrack.model.products import Product, as_rows

# The arguments of modules in a pass, by place or name; those of the followed module come first.
Given = Mapping[nn.Module, Mapping[int | str, object]]


class Site(NamedTuple):
    """The module that is given the first layer's inputs.

    Attributes:
        module: the one that holds the first layer, or else the one whose call was followed; None if
            neither is given them.
        argument: place or name of its argument that holds them.
        given: all arguments of the module.
        has_other_inputs: whether the followed module was given samples of the same size with other
            numbers, of which the pass made the inputs.
    """

    module: nn.Module | None
    argument: int | str | None
    given: Mapping[int | str, object]
    has_other_inputs: bool


def site_of(given: Given, first: Product, owner: nn.Module) -> Site:
    """Find the inputs of the first product among the arguments of modules.

    Args:
        given: the arguments.
        first: the first product.
        owner: the module that holds the first layer.
    """
    tables = {
        module: dict(_tables(arguments, first))
        for module, arguments in sorted(given.items(), key=lambda item: item[0] is not owner)
    }
    followed = next(iter(given), None)
    own = [] if followed is None else list(tables[followed].values())
    differs = bool(own) and not any(own)
    for module, found in tables.items():
        for argument, is_same in found.items():
            if is_same:
                return Site(module, argument, given[module], differs)
    return Site(None, None, {}, differs)


def _tables(
    arguments: Mapping[int | str, object], first: Product
) -> Iterator[tuple[int | str, bool]]:
    """Yield the arguments that are samples like the product's inputs, and whether they are these."""
    for argument, value in arguments.items():
        if isinstance(value, Tensor):
            rows = as_rows(value.detach(), first.inputs.shape[1], lookup=first.lookup)
            if rows is not None and len(rows := thinned(rows)) == len(first.inputs):
                yield argument, torch.equal(rows.cpu().to(first.inputs), first.inputs)
