"""The distribution that a forecast is made for: points of the signal span, and the labels at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry

# Nodes per half-axis of the quadrature over Gaussian inputs, and its end in standard deviations. Five
# integrate the first four moments of a half-normal, and a logistic loss, to half a percent.
HALF_NODES = 5
HALF_AXIS = 4.0


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
        """Standard normal inputs, by a quadrature over the span that is split at each axis' zero.

        Args:
            geometry: whose basis is meant.
            label: from inputs (K, d) in the span to labels (K,) in {-1, +1}; a label that changes where no
                coordinate does is integrated to a few percent.
        """
        nodes, weights = np.polynomial.legendre.leggauss(HALF_NODES)
        half = HALF_AXIS * (nodes + 1) / 2
        likely = weights * np.exp(-(half**2) / 2)
        axis = torch.from_numpy(np.concatenate([-half, half]))
        along = torch.from_numpy(np.concatenate([likely, likely]) / (2 * likely.sum()))
        # the axes of the inputs, so that the split is where signs of coordinates change
        used = (geometry.basis != 0).any(dim=1).nonzero().squeeze(1)
        if len(used) != geometry.signal_dim:
            raise ExpectedError(
                "geometry",
                "The signal span does not lie along the inputs' axes.",
                "Pass a geometry whose span is that of a few coordinates.",
            )
        inputs = torch.zeros(
            len(axis) ** len(used), geometry.dim, dtype=torch.float64, device="cpu"
        )
        inputs[:, used] = torch.cartesian_prod(*[axis] * len(used)).view(-1, len(used))
        shares = torch.cartesian_prod(*[along] * len(used)).view(-1, len(used)).prod(dim=1)
        plus = (label(inputs) > 0).double()
        return cls(
            inputs @ geometry.basis, torch.stack([shares * (1 - plus), shares * plus], dim=1)
        )
