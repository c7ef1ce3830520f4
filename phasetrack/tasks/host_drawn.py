"""Samples in two steps: what is random is drawn on the host, the rest is made where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from phasetrack.model.population import Population
from phasetrack.tasks.philox import sent
from phasetrack.tasks.task import Task


class DrawnTask(Task, Protocol):
    """A task whose samples follow, by the same operations every time, from what was drawn for them."""

    @property
    def population(self) -> Population:
        """How inputs and labels are distributed over the signal span, which the forecast asks for."""
        return Population.of(self.geometry)

    @property
    def signs(self) -> bool:
        """Whether every input is -1 or 1 in all coordinates."""
        return False

    def draw(self, count: int, *, seed: int, step: int, start: int = 0) -> tuple[Tensor, ...]:
        """What is random about samples start .. start + count - 1 of the batch of `step`.

        Returns:
            Tensors on the host, packed as they are to travel; their shapes and dtypes depend on
            `count` alone.
        """
        ...

    def made(self, drawn: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The samples that were drawn, on the device where the tensors of `draw` are.

        Returns:
            Inputs (count, d) and labels (count,) in {-1, +1}.
        """
        ...

    def sample(
        self,
        count: int,
        *,
        seed: int,
        step: int,
        start: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Samples start .. start + count - 1 of the batch of `step` (see `Task.sample`)."""
        drawn = self.draw(count, seed=seed, step=step, start=start)
        return self.made([sent(part, device) for part in drawn], dtype)
