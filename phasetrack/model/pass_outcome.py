"""What one forward pass did with two weights, from the operations that were noted in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from phasetrack.model.comparison import thinned
from phasetrack.model.layer_weight import Weight
from phasetrack.model.operations import Operation, way
from phasetrack.model.pass_site import Site, site_of
from phasetrack.model.products import Product, Use, compared_with_stored, heads_last


@dataclass(frozen=True, eq=False)
class SeenPass:
    """What one forward pass did with two weights. Holds copies of at most `comparison.MOST_ROWS` samples.

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
        site: where the pass shows the first product's inputs.
    """

    model: nn.Module
    swapped: bool
    first: Product
    second: Product
    between: tuple[Operation, ...] | None
    after: tuple[Operation, ...] | None
    output: Tensor | None
    uses: tuple[int, int]
    site: Site


class NotedPass(NamedTuple):
    """What was noted of a pass.

    Attributes:
        weights: the two weights, in any order.
        uses: the uses of either, in their order.
        followed: the other operations behind a use, in their order.
        given: the tensors that modules were given.
    """

    weights: tuple[Weight, Weight]
    uses: Sequence[Use]
    followed: Sequence[Operation]
    given: Mapping[nn.Module, Mapping[int | str, Tensor]]


def outcome(
    model: nn.Module, noted: NotedPass, returned: Sequence[tuple[Tensor, Operation | None]]
) -> SeenPass | str:
    """Return what a pass did, or why it did not use both weights one after the other.

    Args:
        model: the model.
        noted: the operations of the pass.
        returned: the tensors that the pass returned, each with the operation that made it.
    """
    pair = _pair(noted.uses)
    if pair is None:
        return _unused(noted)
    first_use, second_use, swapped = pair
    first_weight, second_weight = noted.weights[::-1] if swapped else noted.weights
    first = compared_with_stored(first_use, first_weight)
    second = compared_with_stored(second_use, second_weight)
    (before,) = second.operation.parents or (None,)
    between = way(first_use.product.operation, before)
    output, end = _output(returned, second)
    after = way(second.operation, end)
    if after is None:  # no output has a value per sample: what followed, whatever it led to
        ways = (way(second.operation, each) for each in reversed(noted.followed))
        after = next(filter(None, ways), None)
    return SeenPass(
        model,
        swapped,
        first,
        second,
        None if between is None else tuple(between),
        None if after is None else tuple(after),
        output,
        _counts(noted, swapped=swapped),
        site_of(noted.given, first, first_weight.owner),
    )


def _counts(noted: NotedPass, *, swapped: bool) -> tuple[int, int]:
    """Return how often each weight was used, the first one's number first."""
    one, other = noted.weights
    if one.name == other.name:
        return len(noted.uses) - 1, len(noted.uses) - 1
    counts = [sum(use.weights >> place & 1 for use in noted.uses) for place in (0, 1)]
    return (counts[1], counts[0]) if swapped else (counts[0], counts[1])


def _pair(uses: Sequence[Use]) -> tuple[Use, Use, bool] | None:
    """Return the last use of a weight whose inputs descend from the other one, and that one."""
    for follows in (_follows, _follows_unseen):
        for place, second in reversed(list(enumerate(uses))):
            for first in reversed(uses[:place]):
                if not follows(first, second):
                    continue
                for swapped in (False, True):
                    bits = (2, 1) if swapped else (1, 2)
                    if first.weights & bits[0] and second.weights & bits[1]:
                        return first, second, swapped
    return None


def _follows(first: Use, second: Use) -> bool:
    """Whether the inputs of one use descend from another."""
    start = first.product.operation
    return any(way(start, each) is not None for each in second.product.operation.parents)


def _follows_unseen(first: Use, second: Use) -> bool:
    """Whether one use may have led to another on a way that was not seen, as in a script."""
    fits = first.product.outputs.shape[1] == second.product.inputs.shape[1]
    return fits and not second.product.operation.parents


def _unused(noted: NotedPass) -> str:
    used = 0
    for use in noted.uses:
        used |= use.weights
    names = [w.layer_name for place, w in enumerate(noted.weights) if not used >> place & 1]
    if not names:
        first, second = (weight.layer_name for weight in noted.weights)
        return f"the inputs of neither {first} nor {second} come from the other one"
    return f"the forward pass did not multiply its inputs by {' or '.join(names)}"


def _output(
    returned: Sequence[tuple[Tensor, Operation | None]], second: Product
) -> tuple[Tensor | None, Operation | None]:
    """Return the rows of the output that comes from the second layer, and its last operation."""
    samples, heads = math.prod(second.lead), second.outputs.shape[1]
    fitting = []
    for each, operation in returned:
        if each.is_floating_point() and each.numel() == samples * heads:
            follows = way(second.operation, operation) is not None
            table = heads_last(each.detach(), heads).reshape(samples, heads)
            fitting.append((not follows, thinned(table), operation))
    if not fitting:
        return None, None
    _, rows, operation = min(fitting, key=lambda entry: entry[0])
    return rows.cpu().clone(), operation
