"""Read-only hooks that survive pickling and cost nothing on steps that are not recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.compiler import is_dynamo_compiling
from torch.utils.hooks import RemovableHandle

from phasetrack._picklable import PicklableHook as PicklableHook


def do_nothing(*_: Any) -> None:
    """Do nothing: the function of a hook that was copied, unpickled or switched off for good."""


class SwitchableHook(PicklableHook):
    """A hook that is registered only at recorded steps.

    PyTorch calls a module that has hooks by a slower path, so the hook leaves between recorded steps;
    one that no call has reached yet stays. While torch.compile traces a module, the hook does nothing.

    Args:
        register: registers the hook.
        function: called with the hook's arguments.
        failed: called with the function's exception; None raises it into the training.
    """

    def __init__(
        self,
        register: Callable[[PicklableHook], RemovableHandle],
        function: Callable[..., object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        super().__init__(function)
        self._failed = failed
        self._reached = False
        handle = register(self)
        # PyTorch's own entries for the hook: put back and removed again, they need no new handle
        self._key = handle.id
        tables = [ref() for ref in (handle.hooks_dict_ref, *handle.extra_dict_ref)]
        self._entries = [(t, t[self._key]) for t in tables if t is not None and self._key in t]

    def __call__(self, *args: Any) -> None:
        """Call the function, and pass its exception to `failed`."""
        if is_dynamo_compiling():  # the graph is the user's own: nothing of ours gets into it
            return
        self._reached = True
        try:
            self.function(*args)
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(error)

    def switch(self, on: bool) -> None:
        """Register the hook, or remove it where that is safe."""
        if on:
            for table, entry in self._entries:
                table[self._key] = entry
        elif self._reached:
            self.remove()

    def move_to_end(self) -> None:
        """Be called after all other hooks from now on, where the hook is registered."""
        for table, entry in self._entries:
            if table.pop(self._key, None) is not None:
                table[self._key] = entry

    def remove(self) -> None:
        """Remove the hook; further calls do nothing."""
        for table, _ in self._entries:
            table.pop(self._key, None)
