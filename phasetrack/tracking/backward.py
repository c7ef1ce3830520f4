"""What autograd is doing now: the backward pass that runs, transforms, and graphs that are replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_replayed: ContextVar[bool] = ContextVar("replayed", default=False)


def backward_pass() -> int:
    """Return the number of the backward pass that is running in this thread; -1 if none is."""
    number: int = torch._C._current_graph_task_id()
    return number


def is_transformed(values: Tensor) -> bool:
    """Whether a tensor is one that `torch.func` has wrapped; it has no values to look at."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(values)
    return wrapped


@contextmanager
def with_gradients() -> Iterator[None]:
    """Within, a loss call stands for a backward pass that has been taken, as when a graph is replayed."""
    token = _replayed.set(True)
    try:
        yield
    finally:
        _replayed.reset(token)


def gradients_are_there() -> bool:
    """Whether this is within `with_gradients`."""
    return _replayed.get()
