"""Tasks whose samples are those of another task with something changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phasetrack.tasks.base import Task
from phasetrack.tasks.bits import chance, sent
from phasetrack.tasks.boolean import XOR

# Whether each sample is among a share of them: share to bool (count,), on the samples' device.
Chance = Callable[[float], Tensor]


class Altered:
    """Draws from another task, and changes what was drawn sample by sample.

    Attributes:
        d: input dimension.
    """

    d: int

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
        x, y = self._plain().sample(
            count, seed=seed, step=step, start=start, device=device, dtype=dtype
        )
        return self._altered(
            x, y, lambda share: sent(chance(share, count, seed, step, start), x.device)
        )

    def _plain(self) -> Task:
        """The other task."""
        return XOR(self.d)

    def _altered(self, x: Tensor, y: Tensor, met: Chance) -> tuple[Tensor, Tensor]:
        """What becomes of its inputs (count, d) and labels (count,)."""
        raise NotImplementedError
