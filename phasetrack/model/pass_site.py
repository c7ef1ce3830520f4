"""Where a followed pass shows the first layer's inputs: the module that is given them, and its argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.comparison import thinned
from phasetrack.model.products import Product, as_rows

# The arguments of modules in a pass, by place or name; those of the followed module come first.
Given = Mapping[nn.Module, Mapping[int | str, Tensor]]


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
    given: Mapping[int | str, Tensor]
    has_other_inputs: bool


def site_of(given: Given, first: Product, owner: nn.Module) -> Site:
    """Find the inputs of the first product among the arguments of modules.

    Args:
        given: the arguments.
        first: the first product.
        owner: the module that holds the first layer.
    """
    followed = next(iter(given), None)
    arguments = {} if followed is None else given[followed]
    width = first.inputs.shape[1]
    own = [rows for at, rows in _tables(arguments, first) if arguments[at].shape[-1:] == (width,)]
    differs = bool(own) and not any(_same_numbers(rows, first.inputs) for rows in own)
    for module in sorted(given, key=lambda module: module is not owner):
        for argument, rows in _tables(given[module], first):
            if torch.equal(rows, first.inputs):
                return Site(module, argument, given[module], differs)
    return Site(None, None, {}, differs)


def _tables(
    arguments: Mapping[int | str, Tensor], first: Product
) -> Iterator[tuple[int | str, Tensor]]:
    """Yield the arguments that have the size of the product's inputs, as rows like these."""
    for argument, value in arguments.items():
        rows = as_rows(value.detach(), first.inputs.shape[1], lookup=first.lookup)
        if rows is not None and len(rows := thinned(rows)) == len(first.inputs):
            yield argument, rows.cpu().to(first.inputs)


def _same_numbers(rows: Tensor, inputs: Tensor) -> bool:
    """Whether rows hold the inputs' numbers, in whatever order: of a table that is transposed, say."""
    return torch.equal(rows.flatten().sort().values, inputs.flatten().sort().values)
