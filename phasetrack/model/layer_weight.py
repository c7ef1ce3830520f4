"""A weight matrix where it lives in a model, read without touching it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@dataclass(frozen=True)
class Weight:
    """One layer's matrix: an attribute of a module.

    Attributes:
        owner: the module whose forward uses it.
        attribute: what it is called there.
        name: what it is called in the whole model, such as ``blocks.0.fc1.weight``.
        transposed: whether it is kept as (inputs, outputs); torch.nn.Linear keeps (outputs, inputs).
    """

    owner: nn.Module
    attribute: str
    name: str
    transposed: bool = False

    @property
    def value(self) -> Tensor:
        """The weights now, detached, (outputs, inputs); a vector counts as one output.

        A parametrised weight is computed with its parametrisation in evaluation mode: spectral
        norm would otherwise go on with its power iteration, and training would not be the same.
        """
        matrix: Tensor
        # a parameter as it stands, which most are, is not in need of slower questions
        plain = self.owner._parameters.get(self.attribute)
        if plain is not None:
            matrix = plain.detach()
        else:
            with torch.no_grad(), _evaluating(self._parametrisation):
                matrix = getattr(self.owner, self.attribute).detach()
        if matrix.ndim == 1:
            return matrix.unsqueeze(0)
        return matrix.T if self.transposed else matrix

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        outputs, inputs = self.value.shape
        return outputs, inputs

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains of it: itself, or what its parametrisation is made of."""
        hidden = self._parametrisation
        if hidden is not None:
            return list(hidden.parameters())
        found = getattr(self.owner, self.attribute)
        if isinstance(found, nn.Parameter):
            return [found]
        # the older weight_norm keeps <name>_g and <name>_v beside a weight that it recomputes
        return [
            parameter
            for name, parameter in self.owner.named_parameters(recurse=False)
            if name.startswith(f"{self.attribute}_")
        ]

    @property
    def _parametrisation(self) -> nn.Module | None:
        if not parametrize.is_parametrized(self.owner, self.attribute):
            return None
        hidden: nn.Module = self.owner.parametrizations[self.attribute]  # type: ignore[index, assignment]
        return hidden


@contextmanager
def _evaluating(module: nn.Module | None) -> Iterator[None]:
    modules = [] if module is None else [m for m in module.modules() if m.training]
    for each in modules:
        each.training = False
    try:
        yield
    finally:
        for each in modules:
            each.training = True
