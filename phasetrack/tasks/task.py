"""What a task is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from phasetrack.model.geometry import ClusterGeometry


class Task(Protocol):
    """A distribution of labelled inputs with known clusters."""

    @property
    def geometry(self) -> ClusterGeometry:
        """Where the clusters are."""
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
        """Samples start .. start + count - 1 of the batch of `step`.

        Sample i of step t under a seed is the same whatever the device, the number of threads, or
        the pieces in which the batch is drawn.

        Returns:
            Inputs (count, d) and labels (count,) in {-1, +1}.
        """
        ...
