"""Tasks whose samples are those of another task with something changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.philox import chance
from phasetrack.tasks.xor import XOR


class Altered(DrawnTask, Protocol):
    """Draws from another task, and changes what was drawn sample by sample.

    Attributes:
        d: input dimension.
    """

    d: int

    @property
    def signs(self) -> bool:
        """As those of the other task, which a change of signs keeps (see `DrawnTask.signs`)."""
        return self._plain.signs

    def draw(self, count: int, *, seed: int, step: int, start: int = 0) -> tuple[Tensor, ...]:
        """What the other task draws, and who is among the share (see `DrawnTask.draw`)."""
        plain = self._plain.draw(count, seed=seed, step=step, start=start)
        share = self._share()
        return plain if share is None else (*plain, chance(share, count, seed, step, start))

    def made(self, drawn: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs (count, d) and labels (count,) (see `DrawnTask.made`)."""
        plain = len(drawn) - (self._share() is not None)
        x, y = self._plain.made(drawn[:plain], dtype)
        return self._altered(x, y, *drawn[plain:])

    @cached_property
    def _plain(self) -> DrawnTask:
        """The other task."""
        return XOR(self.d)

    def _share(self) -> float | None:
        """The share of samples that something is met with by chance; None if nothing is."""
        return None

    def _altered(self, x: Tensor, y: Tensor, *met: Tensor) -> tuple[Tensor, Tensor]:
        """What becomes of its inputs (count, d) and labels (count,).

        Where there is a share, `met` says whether each sample is in it, bool (count,), on their device.
        """
        raise NotImplementedError
