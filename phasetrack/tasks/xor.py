"""Boolean functions on the hypercube {-1, +1}^d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.errors import check_int
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.population import Population
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.philox import packed_signs, unpacked

INPUTS, LABELS = 0, 1  # streams of random bits


@dataclass(frozen=True)
class XOR(DrawnTask):
    """x uniform on {-1, +1}^d with label y = -x_1 x_2 (arXiv 2309.15111).

    Args:
        d: input dimension, >= 2.
        shuffle_labels: give each sample a label that is drawn independently of it. In a stream of
            fresh samples this is what shuffling labels amounts to.
    """

    d: int
    shuffle_labels: bool = False

    def __post_init__(self) -> None:
        """Check d."""
        check_int("d", self.d, minimum=2)

    @property
    def signs(self) -> bool:
        """They are (see `DrawnTask.signs`)."""
        return True

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """Clusters +-mu1 = +-(e1 - e2) with label +1 and +-mu2 = +-(e1 + e2) with label -1."""
        centres = torch.zeros(4, self.d, dtype=torch.float64, device="cpu")
        centres[:, :2] = torch.tensor([[1, -1], [-1, 1], [1, 1], [-1, -1]], device="cpu")
        return ClusterGeometry(centres, [1, 1, -1, -1], ["mu1", "-mu1", "mu2", "-mu2"])

    @property
    def population(self) -> Population:
        """Its clusters, where labels are shuffled with both labels on each."""
        even = torch.full((4,), 0.5, dtype=torch.float64, device="cpu")
        return Population.of(self.geometry, positive=even if self.shuffle_labels else None)

    def draw(self, count: int, *, seed: int, step: int, start: int = 0) -> tuple[Tensor, ...]:
        """The bits of the inputs, and of labels that are drawn (see `DrawnTask.draw`)."""
        at = {"seed": seed, "step": step, "start": start}
        inputs = packed_signs(count, self.d, stream=INPUTS, **at)
        return (
            (inputs, packed_signs(count, 1, stream=LABELS, **at))
            if self.shuffle_labels
            else (inputs,)
        )

    def made(self, drawn: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs (count, d) and labels (count,) (see `DrawnTask.made`)."""
        x = unpacked(drawn[0], self.d, dtype)
        if not self.shuffle_labels:
            return x, -x[:, 0] * x[:, 1]
        return x, unpacked(drawn[1], 1, dtype)[:, 0]
