"""Hooks that models can be copied and saved with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any


class PicklableHook:
    """A hook that pickles and copies as one that does nothing, so that models stay saveable.

    The copy consists of the standard library alone: it loads where phasetrack is not installed.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        """Call the function; returning None leaves PyTorch's values as they are."""
        self.function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")
