"""Boolean functions of a few coordinates, the rest being noise, with a cluster at every corner."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.errors import check_int
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.tasks.derived import Altered
from phasetrack.tasks.host_drawn import DrawnTask

Function = Callable[[Tensor], Tensor]


def conjunction(x: Tensor) -> Tensor:
    """AND: +1 where all coordinates are +1; (..., k) to (...)."""
    return 2 * (x > 0).all(dim=-1).to(x) - 1


def disjunction(x: Tensor) -> Tensor:
    """OR: +1 where any coordinate is."""
    return -conjunction(-x)


def majority(x: Tensor) -> Tensor:
    """The sign of the sum, of an odd number of coordinates."""
    return x.sum(dim=-1).sign()


def parity(x: Tensor) -> Tensor:
    """The product; of two coordinates it is XOR with the other sign."""
    return x.prod(dim=-1)


def staircase(x: Tensor) -> Tensor:
    """Sign of x1 + x1 x2 + x1 x2 x3 (after Abbe et al. 2021): features that are learned in turn."""
    return x.cumprod(dim=-1).sum(dim=-1).sign()


@dataclass(frozen=True)
class BooleanFunction(Altered):
    """x uniform on {-1, +1}^d, labelled by a function of its first k coordinates.

    Args:
        d: input dimension, >= 2 and >= k.
        k: coordinates that matter.
        function: from (..., k) signs to (...) signs.
    """

    d: int
    k: int
    function: Function

    def __post_init__(self) -> None:
        """Check d."""
        check_int("d", self.d, minimum=max(2, self.k))

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """A cluster at every corner of the first k coordinates, named by its signs."""
        corners = torch.tensor(
            list(itertools.product((1, -1), repeat=self.k)), dtype=torch.float64, device="cpu"
        )
        centres = torch.zeros(len(corners), self.d, dtype=torch.float64, device="cpu")
        centres[:, : self.k] = corners
        names = ["".join("+" if sign > 0 else "-" for sign in corner) for corner in corners]
        return ClusterGeometry(centres, self.function(corners), names)

    def _altered(self, x: Tensor, _: Tensor, *__: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.function(x[:, : self.k])


@dataclass(frozen=True)
class TwoXORs(Altered):
    """Two XORs at once: y = -x_1 x_2 = -x_3 x_4, x being uniform where the two agree.

    Either one alone tells the label; a network may find both.

    Args:
        d: input dimension, >= 4.
    """

    d: int

    def __post_init__(self) -> None:
        """Check d."""
        check_int("d", self.d, minimum=4)

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """A cluster at each of the 8 corners at which the two agree."""
        whole = BooleanFunction(self.d, 4, lambda x: -x[..., 0] * x[..., 1]).geometry
        agree = whole.centres[:, :4].prod(dim=1) > 0
        names = [name for name, kept in zip(whole.names, agree.tolist(), strict=True) if kept]
        return ClusterGeometry(whole.centres[agree], whole.labels[agree], names)

    @cached_property
    def _plain(self) -> DrawnTask:
        return BooleanFunction(self.d, 4, parity)

    def _altered(self, x: Tensor, agreement: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone()
        x[:, 3] *= agreement  # mends the second where it disagrees
        return x, -x[:, 0] * x[:, 1]
