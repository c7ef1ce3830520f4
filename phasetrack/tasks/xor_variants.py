"""XOR with something changed: unbalanced labels, wrong labels, rotated inputs, Gaussian inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.errors import check_float, check_int
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.population import Population
from phasetrack.tasks.derived import Altered
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.philox import uniform
from phasetrack.tasks.xor import XOR

NORMALS = 3  # stream of random bits, after boolean.py's and that of chances
NORMAL_BITS = 52  # of a uniform number that becomes a normal one
ROTATION_SEED = 20230915  # fixed, so that runs of different seeds see the same data


@dataclass(frozen=True)
class UnbalancedXOR(Altered):
    """XOR where +1 is the label of a given share of the samples.

    Args:
        d: input dimension, >= 2.
        positive: the share, in (0, 1).
    """

    d: int
    positive: float = 0.8

    def __post_init__(self) -> None:
        """Check both."""
        check_int("d", self.d, minimum=2)
        check_float("positive", self.positive, above=0.0, maximum=1.0)

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """XOR's."""
        return XOR(self.d).geometry

    @property
    def population(self) -> Population:
        """XOR's clusters, those of each label with half of its share."""
        plus = (self.geometry.labels > 0).double()
        shares = (plus * self.positive + (1 - plus) * (1 - self.positive)) / 2
        return Population.of(self.geometry, shares)

    def _share(self) -> float:
        return self.positive

    def _altered(self, x: Tensor, _: Tensor, *met: Tensor) -> tuple[Tensor, Tensor]:
        y = 2 * met[0].to(x) - 1
        x = x.clone()
        x[:, 1] = -y * x[:, 0]
        return x, y


@dataclass(frozen=True)
class NoisyXOR(Altered):
    """XOR where a share of the labels is turned round.

    Args:
        d: input dimension, >= 2.
        wrong: the share, in [0, 1/2].
    """

    d: int
    wrong: float = 0.1

    def __post_init__(self) -> None:
        """Check both."""
        check_int("d", self.d, minimum=2)
        check_float("wrong", self.wrong, minimum=0.0, maximum=0.5)

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """XOR's: each cluster has the label of most of its samples."""
        return XOR(self.d).geometry

    @property
    def population(self) -> Population:
        """XOR's clusters, with both labels on each."""
        plus = (self.geometry.labels > 0).double()
        positive = plus * (1 - self.wrong) + (1 - plus) * self.wrong
        return Population.of(self.geometry, positive=positive)

    def _share(self) -> float:
        return self.wrong

    def _altered(self, x: Tensor, y: Tensor, *met: Tensor) -> tuple[Tensor, Tensor]:
        return x, y * (1 - 2 * met[0].to(y))


@dataclass(frozen=True)
class RotatedXOR(Altered):
    """XOR in a random orthonormal basis: no axis of the inputs is special.

    Args:
        d: input dimension, >= 2; the rotation takes d^2 numbers.
    """

    d: int

    def __post_init__(self) -> None:
        """Check d."""
        check_int("d", self.d, minimum=2)

    @property
    def signs(self) -> bool:
        """Rotated they are none."""
        return False

    @cached_property
    def rotation(self) -> Tensor:
        """Orthogonal, float64 (d, d), uniform; inputs are rows times it."""
        generator = torch.Generator().manual_seed(ROTATION_SEED)
        Q, R = torch.linalg.qr(
            torch.randn(self.d, self.d, generator=generator, dtype=torch.float64, device="cpu")
        )
        turned: Tensor = Q * R.diagonal().sign()
        return turned

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        """The rotation where and as it was asked for: copied once, not at every step."""
        return {}

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """XOR's clusters, rotated."""
        plain = XOR(self.d).geometry
        return ClusterGeometry(plain.centres @ self.rotation, plain.labels, plain.names)

    def _altered(self, x: Tensor, y: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        key = (x.device, x.dtype)
        if key not in self._placed:
            self._placed[key] = self.rotation.to(x)
        return x @ self._placed[key], y


@dataclass(frozen=True)
class GaussianXOR(DrawnTask):
    """x normal in R^d with y = -sign(x_1 x_2): samples come as near to the boundary as they like.

    Args:
        d: input dimension, >= 2.
    """

    d: int

    def __post_init__(self) -> None:
        """Check d."""
        check_int("d", self.d, minimum=2)

    @cached_property
    def geometry(self) -> ClusterGeometry:
        """The mean of each quadrant; samples scatter about it within the signal span, too."""
        plain = XOR(self.d).geometry
        return ClusterGeometry(math.sqrt(2 / math.pi) * plain.centres, plain.labels, plain.names)

    @property
    def population(self) -> Population:
        """A quadrature over the plane of the first two coordinates."""
        return Population.gaussian(self.geometry, lambda x: -x[:, 0].sign() * x[:, 1].sign())

    def draw(self, count: int, *, seed: int, step: int, start: int = 0) -> tuple[Tensor, ...]:
        """The inputs, float64 (count, d), which nothing packs (see `DrawnTask.draw`)."""
        drawn = uniform(count, self.d, NORMAL_BITS, NORMALS, seed, step, start)
        return (torch.special.ndtri(drawn),)

    def made(self, drawn: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs (count, d) and labels (count,) (see `DrawnTask.made`)."""
        x = drawn[0].to(dtype)
        return x, -x[:, 0].sign() * x[:, 1].sign()
