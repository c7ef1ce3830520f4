"""PassMarks: forward passes, marked in the autograd graph, so that a loss's outputs lead back to their inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.tracking.loss_call import KeptInputs

# Forward passes without a graph node whose inputs are held until a loss call claims them.
HELD_PASSES = 4
# Autograd nodes visited, from a loss's outputs back, in search of their forward pass.
SEARCHED_NODES = 256


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


class PassMarks:
    """Marks passes, and finds them again from the outputs that they made.

    A mark lives in the graph node of the first layer's output: it costs nothing, holds nothing that
    the graph does not hold, and goes with the graph.

    Args:
        parameters: of the two layers; a graph that ends in one of them is theirs.

    Attributes:
        last: the pass that was marked last; None since `reset`.
    """

    def __init__(self, parameters: Collection[nn.Parameter]) -> None:
        self._parameters = {id(parameter) for parameter in parameters}
        self._mark = f"phasetrack {id(self)}"
        self._usual_path: tuple[int, ...] = ()
        self._unmarked: deque[Pass] = deque(maxlen=HELD_PASSES)
        self.last: Pass | None = None

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
        if (found := self._at_the_usual_place(outputs.grad_fn)) is not None:
            return Origin(found, is_ours=True)
        waiting: deque[tuple[Any, tuple[int, ...]]] = deque([(outputs.grad_fn, ())])
        seen: set[Any] = set()
        ours = False
        while waiting and len(seen) < SEARCHED_NODES:
            node, path = waiting.popleft()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (found := node.metadata.get(self._mark)) is not None:
                self._usual_path = path
                return Origin(found, is_ours=True)
            ours = ours or id(getattr(node, "variable", None)) in self._parameters
            before = enumerate(node.next_functions)
            waiting.extend((one, (*path, place)) for place, (one, _) in before)
        ours = ours or bool(waiting)  # too large a graph to tell
        if ours and len(self._unmarked) == 1:
            return Origin(self._unmarked.pop(), is_ours=True)
        return Origin(None, ours)

    def _at_the_usual_place(self, node: Any) -> Pass | None:
        """Return the pass where it was found last time, counted from a loss's outputs."""
        for place in self._usual_path:
            before = () if node is None else node.next_functions
            if place >= len(before):
                return None
            node = before[place][0]
        found: Pass | None = None if node is None else node.metadata.get(self._mark)
        return found
