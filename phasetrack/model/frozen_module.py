"""A copy of a user's module that can be called without the user's module noticing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError

# Marks copies, which may be called.
COPIED = "_phasetrack_copy"


class FrozenModule:
    """A detached copy of a module in evaluation mode, without hooks.

    The module itself is never called: its hooks, its buffers and the random numbers stay as they are.

    Args:
        module: parameters and buffers of the copy follow those of the module (`renewed`).

    Raises:
        ExpectedError: if the module cannot be copied.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        try:
            self._copy = copy.deepcopy(module)
        except Exception as error:
            raise ExpectedError(
                "model",
                f"{type(module).__name__} cannot be copied ({error}).",
                "Pass activation= with a function of tensors.",
            ) from None
        for each in self._copy.modules():
            # calls go past every hook, those that watch all modules of the process included
            each._compiled_call_impl = each.forward
            if getattr(each, "inplace", False) is True:
                each.inplace = False  # type: ignore[assignment]
        self._copy.eval().requires_grad_(False)
        setattr(self._copy, COPIED, True)
        self._versions = self._present_versions()
        self._latest = self

    @property
    def __name__(self) -> str:
        """The kind of the module."""
        return type(self._module).__name__

    @property
    def copied(self) -> nn.Module:
        """The copy itself, a module of the same kind."""
        return self._copy

    @property
    def varies(self) -> bool:
        """Whether the module has parameters, which training changes."""
        return next(self._module.parameters(), None) is not None

    def renewed(self) -> FrozenModule:
        """Return a copy with the module's present parameters; the last one while they stay."""
        if self._latest._versions != self._present_versions():
            self._latest = FrozenModule(self._module)
        return self._latest

    def follow(self) -> None:
        """Take over the module's present parameters and buffers."""
        versions = self._present_versions()
        if versions == self._versions:
            return
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self._copy), _tensors(self._module), strict=True):
                mine.copy_(theirs)
        self._versions = versions

    def _present_versions(self) -> tuple[int, ...]:
        return tuple(tensor._version for tensor in _tensors(self._module))

    def __call__(self, *values: Any) -> Any:
        """Return the copy's output, at parameters of the device and dtype of floating-point values."""
        if values and isinstance(values[0], Tensor) and self.varies:
            self._copy.to(values[0].device, values[0].dtype)
        # copies: a module may write into what it is given
        return self._copy(*(v.clone() if isinstance(v, Tensor) else v for v in values))


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
