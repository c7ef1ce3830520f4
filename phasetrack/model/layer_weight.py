"""A weight or a bias where it lives in a model, read without touching it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from phasetrack.model.frozen_module import FrozenModule


@dataclass(frozen=True)
class Weight:
    """One layer's matrix: a parameter, a buffer or a plain tensor that is an attribute of a module.

    Attributes:
        owner: the module whose forward uses it.
        attribute: its name there.
        name: its name in the whole model, such as ``blocks.0.fc1.weight``.
        transposed: whether it is kept as (inputs, outputs); torch.nn.Linear keeps (outputs, inputs).
        factor: what the forward pass multiplies it by, such as ``1 / sqrt(d)``.
    """

    owner: nn.Module
    attribute: str
    name: str
    transposed: bool = False
    factor: float = 1.0

    @property
    def kept(self) -> Tensor:
        """The weights now, detached, in the shape and the way round that the model keeps them."""
        # a parameter as it stands, which most are, needs no slower questions
        plain = self.owner._parameters.get(self.attribute)
        if plain is not None:
            return plain.detach()
        if self._twin is None:
            found: Tensor = getattr(self.owner, self.attribute)
            return found.detach()
        self._twin.follow()
        with torch.no_grad():
            computed: Tensor = self._twin()
        return computed.detach()

    @property
    def value(self) -> Tensor:
        """The weights now, detached, (outputs, inputs); a vector counts as one output.

        A parametrised weight is computed by a copy of its parametrisation in evaluation mode:
        spectral norm would otherwise go on with its power iteration, and training would not be the
        same.
        """
        matrix = self._turned(self.kept)
        return matrix if self.factor == 1.0 else matrix * self.factor

    @property
    def gradient(self) -> Tensor | None:
        """The gradient at the stored numbers now, detached, (outputs, inputs); None where there is none of its own."""
        plain = self.owner._parameters.get(self.attribute)
        found = None if plain is None else plain.grad
        if found is None or found.layout is not torch.strided:
            return None
        return self._turned(found.detach())

    def _turned(self, matrix: Tensor) -> Tensor:
        """Turn a matrix as the model keeps it to (outputs, inputs)."""
        if matrix.ndim == 1:
            return matrix.unsqueeze(0)
        return matrix.T if self.transposed else matrix

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        outputs, inputs = self.value.shape
        return outputs, inputs

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """The shape as it is kept."""
        return tuple(self.kept.shape)

    @property
    def is_vector(self) -> bool:
        """Whether it is kept as a vector, which has no other way round."""
        return self.kept.ndim == 1

    @property
    def stored(self) -> list[Tensor]:
        """The tensors that it is made of: parameters, or the buffer or attribute itself."""
        if self.parameters or self._parametrisation is not None:
            return list(self.parameters)
        return [getattr(self.owner, self.attribute)]

    @property
    def is_computed(self) -> bool:
        """Whether the model computes it from several numbers: parametrised, or by older weight_norm."""
        return bool(self.parameters) and self.attribute not in self.owner._parameters

    @property
    def layer_name(self) -> str:
        """The name in the whole model, without ``.weight``."""
        return self.name.removesuffix(".weight")

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
    def is_direct(self) -> bool:
        """Whether the pass uses the stored numbers themselves, as the mean-field law assumes."""
        return self.factor == 1.0 and not self.is_computed

    @cached_property
    def _twin(self) -> FrozenModule | None:
        hidden = self._parametrisation
        return None if hidden is None else FrozenModule(hidden)

    @property
    def _parametrisation(self) -> nn.Module | None:
        if not parametrize.is_parametrized(self.owner, self.attribute):
            return None
        hidden: nn.Module = self.owner.parametrizations[self.attribute]  # type: ignore[index, assignment]
        return hidden


@dataclass(frozen=True)
class Vector:
    """A bias or a factor: an attribute of a module, read at its present values.

    Attributes:
        owner: the module that keeps it.
        attribute: its name there.
        name: its name in the whole model.
        factor: what it is multiplied by before it is added; -1 where it is subtracted.
    """

    owner: nn.Module
    attribute: str
    name: str
    factor: float = 1.0

    @property
    def value(self) -> Tensor:
        """The numbers now, detached, of one dimension."""
        plain = self.owner._parameters.get(self.attribute)  # as in `Weight.value`
        found: Tensor = (getattr(self.owner, self.attribute) if plain is None else plain).detach()
        found = found if found.ndim == 1 else found.reshape(-1)
        return found if self.factor == 1.0 else found * self.factor

    def spread(self, count: int) -> Tensor:
        """Return the numbers for `count` neurons or outputs, where one number may hold for all."""
        value = self.value
        return value if len(value) == count else value.expand(count)


def stored_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return a module's own parameters, buffers and plain tensor attributes, by name."""
    kept: dict[str, Any] = {**module._parameters, **module._buffers, **vars(module)}
    return [(name, value) for name, value in kept.items() if isinstance(value, Tensor)]
