"""The distribution that a forecast is made for: points of the signal span, and the labels at each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry

# The quadrature over Gaussian inputs: angles per quadrant and radii per angle. A neuron's kink
# lies along one angle, so that the angles decide the error; two radii integrate three moments exactly.
ANGLES = 7
RADII = 2


@dataclass(frozen=True, eq=False)
class Population:
    """Inputs seen through the signal span, with unit Gaussian noise across it.

    Attributes:
        points: where the inputs lie in the span, in the geometry's basis, float64 (K, k).
        weights: probability of each point with the label -1 and with the label +1, float64 (K, 2); their
            sum is 1.
    """

    points: Tensor
    weights: Tensor

    @property
    def shares(self) -> Tensor:
        """Probability of each point, (K,)."""
        return self.weights.sum(dim=1)

    @property
    def mean_labels(self) -> Tensor:
        """Mean label at each point times the point's probability, (K,)."""
        return self.weights[:, 1] - self.weights[:, 0]

    @property
    def constant_loss(self) -> float:
        """The paper's loss, 2 log(1 + exp(-y f)), of the best constant output: twice the entropy of the labels."""
        return 2 * float(torch.special.entr(self.weights.sum(dim=0)).sum())

    @property
    def is_uninformative(self) -> bool:
        """Whether the labels are independent of the points."""
        even = self.shares * self.mean_labels.sum()
        return torch.allclose(self.mean_labels, even, atol=1e-9)

    @classmethod
    def of(
        cls,
        geometry: ClusterGeometry,
        shares: Tensor | None = None,
        positive: Tensor | None = None,
    ) -> Population:
        """Clusters at their centres.

        Args:
            geometry: of two classes.
            shares: probability of each cluster, (K,); None makes them equally likely.
            positive: probability of the label +1 on each cluster, (K,); None gives each cluster its own
                label.

        Raises:
            ExpectedError: if there are more than two classes.
        """
        if geometry.class_count > 2:
            raise ExpectedError(
                "geometry",
                f"A forecast is made for two classes, and {geometry!r} has {geometry.class_count}.",
                "Pass a geometry of two classes.",
            )
        count = len(geometry.labels)
        likely = (
            torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
            if shares is None
            else shares
        )
        plus = (geometry.labels > 0).double() if positive is None else positive
        weights = torch.stack([likely * (1 - plus), likely * plus], dim=1)
        return cls(geometry.centres @ geometry.basis, weights)

    @classmethod
    def gaussian(cls, geometry: ClusterGeometry, label: Callable[[Tensor], Tensor]) -> Population:
        """Standard normal inputs, by a quadrature in polar coordinates, split at the axes of the plane.

        Args:
            geometry: whose span is the plane of two coordinates.
            label: from inputs (K, d) in the span to labels (K,) in {-1, +1}; a label that changes within a
                quadrant is integrated to a few percent.

        Raises:
            ExpectedError: if the span is not the plane of two coordinates.
        """
        # the axes of the inputs, so that the split is where signs of coordinates change
        used = (geometry.basis != 0).any(dim=1).nonzero().squeeze(1)
        if len(used) != 2 or geometry.signal_dim != 2:
            raise ExpectedError(
                "geometry",
                "The signal span does not lie along the inputs' axes, or is not a plane.",
                "Pass a geometry whose span is that of two coordinates.",
            )
        nodes, weights = np.polynomial.legendre.leggauss(ANGLES)
        quadrants = np.arange(4)[:, None]
        angles = (np.pi / 2 * (quadrants + (nodes + 1) / 2)).reshape(-1, 1)
        radii, likely = rayleigh_rule(RADII)
        plane = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=-1).reshape(-1, 2)
        inputs = torch.zeros(len(plane), geometry.dim, dtype=torch.float64, device="cpu")
        inputs[:, used] = torch.from_numpy(plane)
        shares = torch.from_numpy(np.outer(np.tile(weights / 8, 4), likely).ravel())
        plus = (label(inputs) > 0).double()
        return cls(
            inputs @ geometry.basis, torch.stack([shares * (1 - plus), shares * plus], dim=1)
        )


def rayleigh_rule(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss nodes and weights of a mean over |z|, z standard normal in the plane.

    Exact for polynomials of degree under 2 count; well conditioned up to about 6 nodes.

    Example:
        >>> nodes, weights = rayleigh_rule(2)
        >>> print(f"{weights @ nodes:.4f} {weights @ nodes**2:.4f}")
        1.2533 2.0000
    """
    moments = np.array([2 ** (k / 2) * math.gamma(1 + k / 2) for k in range(2 * count)])
    hankel = moments[np.add.outer(np.arange(count), np.arange(count))]
    # the orthogonal polynomial of that degree, whose roots are the nodes
    lower = np.linalg.solve(hankel, -moments[count:])
    nodes: NDArray[np.float64] = np.real(np.roots([1.0, *lower[::-1]])).astype(np.float64)
    return nodes, np.linalg.solve(np.vander(nodes, increasing=True).T, moments[:count])
