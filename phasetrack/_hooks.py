"""Hooks that look: models stay saveable with them, and as fast as ever where nobody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle


class Hook:
    """A hook that pickles and copies as one that does nothing, so that models stay saveable."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        self.function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Hook, (nothing,))


def nothing(*_: Any) -> None:
    """What a hook does that was copied, unpickled or switched off for good."""


class Watch(Hook):
    """A hook that is there only at the steps that are looked at.

    PyTorch calls a module that has hooks by a slower way. torch.compile takes hooks in when it traces a
    module, and looks for none later: a hook that it has taken in stays, and so does one that no call has
    reached yet, which may still be taken in.

    Args:
        register: puts a hook where it is called.
        function: what it does.
    """

    def __init__(
        self, register: Callable[[Hook], RemovableHandle], function: Callable[..., object]
    ) -> None:
        super().__init__(function)
        self._register = register
        self._reached = self._compiled = False
        self._handle: RemovableHandle | None = register(self)

    def __call__(self, *args: Any) -> None:
        self._reached = True
        if torch.compiler.is_compiling():
            self._compiled = True
        self.function(*args)

    def switch(self, on: bool) -> None:
        """Put the hook there, or take it away if that is safe."""
        if on and self._handle is None:
            self._handle = self._register(self)
        elif not on and self._handle is not None and self._reached and not self._compiled:
            self.remove()

    def remove(self) -> None:
        """Take the hook away, whatever comes; may be called again."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
