"""PassMarks: forward passes, marked in the autograd graph, so that a loss's outputs lead back to their inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.tracking.loss_call import KeptInputs

# Forward passes without a graph node whose inputs are held until a loss call claims them.
HELD_PASSES = 4
# Autograd nodes visited, from a loss's outputs back, in search of their forward pass.
SEARCHED_NODES = 256
# The node of a reentrant checkpoint, behind which the graph is made within the backward pass alone.
CHECKPOINT = "CheckpointFunctionBackward"


class Pass(NamedTuple):
    """One forward pass: the arguments of the first layer's module, and the dtype of its output."""

    args: tuple[Any, ...]
    named: Mapping[Any, Any]
    inputs: KeptInputs
    precision: torch.dtype | None


class Origin(NamedTuple):
    """Where a loss's outputs come from: the pass, if it was seen, and whether the layers made them."""

    seen: Pass | None
    is_ours: bool


class _Ways(NamedTuple):
    """The ways from a loss's outputs back to a pass's mark and to a parameter of the second layer."""

    to_mark: tuple[int, ...]
    to_second: tuple[int, ...]


class PassMarks:
    """Marks passes, and finds them again from the outputs that they made.

    A mark lives in the graph node of the output of the first layer's module: it costs nothing, holds nothing that
    the graph does not hold, and goes with the graph. Outputs are the layers' own if their graph holds
    a mark or a parameter of the first layer, and a parameter of the second one where it is trained:
    another head on the same first layer does not make them.

    Args:
        first: parameters of the first layer.
        second: parameters of the second layer.

    Attributes:
        last: the pass that was marked last; None since `reset`.
    """

    def __init__(self, first: Iterable[nn.Parameter], second: Iterable[nn.Parameter]) -> None:
        self._mark = f"phasetrack {id(self)}"
        self._unmarked: deque[Pass] = deque(maxlen=HELD_PASSES)
        self.last: Pass | None = None
        self.follow(first, second)

    def follow(self, first: Iterable[nn.Parameter], second: Iterable[nn.Parameter]) -> None:
        """Search for these layers from now on."""
        self._second = tuple(second)
        self._first_ids, self._second_ids = set(map(id, first)), set(map(id, self._second))
        self._usual: _Ways | None = None

    def reset(self) -> None:
        """Forget the passes that have no graph node."""
        self._unmarked.clear()
        self.last = None

    def add(self, seen: Pass, node: Any) -> None:
        """Mark a pass in the graph node of the first layer's output, if it has one."""
        self.last = seen
        if node is None:
            self._unmarked.append(seen)
        else:
            node.metadata[self._mark] = seen

    def replace_last(self, seen: Pass) -> None:
        """Put a pass in the place of all marks so far, which were set at another module."""
        self._mark += "'"
        self.add(seen, None)

    def origin(self, outputs: Tensor) -> Origin:
        """Look for the pass that made some outputs, from their autograd node back."""
        start = outputs.grad_fn
        if (found := self._at_the_usual_places(start)) is not None:
            return Origin(found, is_ours=True)
        mark = leaf = None
        waiting: deque[tuple[Any, tuple[int, ...]]] = deque([(start, ())])
        seen: set[Any] = set()
        reached = is_hidden = False
        sought = self._second_is_trained
        while (
            waiting and len(seen) < SEARCHED_NODES and (mark is None or (sought and leaf is None))
        ):
            node, path = waiting.popleft()
            if node is None or node in seen:
                continue
            seen.add(node)
            if mark is None and (found := node.metadata.get(self._mark)) is not None:
                mark = found, path
            variable = id(getattr(node, "variable", None))
            if leaf is None and variable in self._second_ids:
                leaf = path
            reached = reached or variable in self._first_ids
            is_hidden = is_hidden or node.name() == CHECKPOINT
            before = enumerate(node.next_functions)
            waiting.extend((one, (*path, place)) for place, (one, _) in before)
        is_open = is_hidden or (bool(waiting) and len(seen) >= SEARCHED_NODES)
        if sought and leaf is None and not is_open:
            return Origin(None, is_ours=False)
        if mark is not None:
            self._usual = _Ways(mark[1], leaf or ())
            return Origin(mark[0], is_ours=True)
        ours = reached or leaf is not None or is_open
        return Origin(self.claimed() if ours else None, ours)

    def claimed(self) -> Pass | None:
        """Return, once, the pass that has no graph node, where there is one alone."""
        return self._unmarked.pop() if len(self._unmarked) == 1 else None

    @property
    def _second_is_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self._second)

    def _at_the_usual_places(self, start: Any) -> Pass | None:
        """Return the pass where it was found last time, counted from a loss's outputs."""
        if self._usual is None:
            return None
        node = _followed(start, self._usual.to_mark)
        found: Pass | None = None if node is None else node.metadata.get(self._mark)
        if found is None or not self._second_is_trained:
            return found
        leaf = _followed(start, self._usual.to_second)
        return found if id(getattr(leaf, "variable", None)) in self._second_ids else None


def _followed(node: Any, path: tuple[int, ...]) -> Any:
    """Return the node at the end of a way through the graph; None where the way ends before."""
    for place in path:
        before = () if node is None else node.next_functions
        if place >= len(before):
            return None
        node = before[place][0]
    return node
