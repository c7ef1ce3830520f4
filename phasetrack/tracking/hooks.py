"""Hooks that look: models stay saveable with them, and as fast as ever where nobody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.compiler import is_dynamo_compiling
from torch.utils.hooks import RemovableHandle


class Hook:
    """A hook that pickles and copies as one that does nothing, so that models stay saveable."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        """Call the function; PyTorch takes None as "change nothing"."""
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
        failed: called with what the function raises; None raises it into the training.
    """

    def __init__(
        self,
        register: Callable[[Hook], RemovableHandle],
        function: Callable[..., object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        super().__init__(function)
        self._failed = failed
        self._reached = self._compiled = False
        handle = register(self)
        # what registering has entered: entered and taken out again, it costs no new handle
        self._key = handle.id
        tables = [ref() for ref in (handle.hooks_dict_ref, *handle.extra_dict_ref)]
        self._entries = [(t, t[self._key]) for t in tables if t is not None and self._key in t]

    def __call__(self, *args: Any) -> None:
        """Call the function, and pass what it raises to `failed`."""
        self._reached = True
        if is_dynamo_compiling():
            self._compiled = True
        try:
            self.function(*args)
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(error)

    def switch(self, on: bool) -> None:
        """Put the hook there, or take it away if that is safe."""
        if on:
            for table, entry in self._entries:
                table[self._key] = entry
        elif self._reached and not self._compiled:
            self.remove()

    def remove(self) -> None:
        """Take the hook away, whatever comes; may be called again."""
        for table, _ in self._entries:
            table.pop(self._key, None)
