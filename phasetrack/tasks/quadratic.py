"""Labels that a quadratic form tells, in part or wholly: several XORs at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.errors import check_float, check_int
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.population import Population
from phasetrack.tasks.boolean_functions import TwoXORs
from phasetrack.tasks.derived import Altered

# The share of samples whose label the stronger of two XORs tells. Chosen here: the other is half as
# strong, so that it is learned well after and still within a short run.
STRONGER = 2 / 3


def quadratic(x: Tensor) -> Tensor:
    """(x1 x2 + x2 x3 + x3 x4 - x1 x4) / 2, a sign: (..., 4) to (...).

    Of the quadratic forms that are signs the one of most terms (a bent function). It is half of
    x2 (x1 + x3) + x4 (x3 - x1): two XORs of equal strength, neither along the axes.
    """
    return (x[..., 1] * (x[..., 0] + x[..., 2]) + x[..., 3] * (x[..., 2] - x[..., 0])) / 2


@dataclass(frozen=True)
class MixedXORs(Altered):
    """x uniform on {-1, +1}^d; the label is -x_1 x_2 for a share s of the samples, -x_3 x_4 for the rest.

    The mean label at x is the quadratic form -(s x_1 x_2 + (1 - s) x_3 x_4), so that s and 1 - s are
    the strengths of two features that have nothing to do with each other.

    Args:
        d: input dimension, >= 4.
        first: the share s, in (0, 1).
    """

    d: int
    first: float = STRONGER

    def __post_init__(self) -> None:
        """Check both."""
        check_int("d", self.d, minimum=4)
        check_float("first", self.first, above=0.0, maximum=1.0)

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """The 8 corners at which the two agree; elsewhere a sample has either label."""
        return TwoXORs(self.d).geometry

    @property
    def population(self) -> Population:
        """All 16 corners; where the two disagree, each has the label with its strength."""
        corners = torch.cartesian_prod(
            *[torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu")] * 4
        )
        stronger, weaker = ((corners[:, i] * corners[:, i + 1] < 0).double() for i in (0, 2))
        positive = self.first * stronger + (1 - self.first) * weaker
        weights = torch.stack([1 - positive, positive], dim=1) / len(corners)
        return Population(corners @ self.geometry.basis[:4], weights)

    def _share(self) -> float:
        return self.first

    def _altered(self, x: Tensor, _: Tensor, *met: Tensor) -> tuple[Tensor, Tensor]:
        return x, -torch.where(met[0], x[:, 0] * x[:, 1], x[:, 2] * x[:, 3])
