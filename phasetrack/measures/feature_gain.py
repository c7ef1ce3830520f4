"""Which features a network has learned, and which neurons hold each.

A feature is a function phi on some points c of the signal span. What the clean network f (that of the
centres, without noise) holds of it is its gain, the mean of phi(c) f(c): for products of coordinates over
all corners of a hypercube the Fourier coefficient of f, exactly. The gain is a sum over neurons, so each
neuron's part of it is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import Neurons
from phasetrack.model.span import ORTHOGONALITY_TOLERANCE

# The neurons that hold a feature are the fewest that make this share of what is for it.
HOLDING = 0.9


@dataclass(frozen=True, eq=False)
class Features:
    """Functions on points of the signal span.

    Attributes:
        names: one a feature.
        points: float64 (C, d).
        values: each feature at each point, float64 (F, C).
    """

    names: tuple[str, ...]
    points: Tensor
    values: Tensor

    @classmethod
    def products(cls, d: int, k: int, terms: Mapping[str, Sequence[int]]) -> Features:
        """Products of some of the first k coordinates, over the corners of their hypercube.

        Args:
            d: input dimension.
            k: coordinates in all, at most 16.
            terms: the coordinates of each feature under its name, from 1 on as they are written in
                x1 x2; -1 among them turns its sign.

        Example:
            >>> xor = Features.products(8, 2, {"xor": (-1, 1, 2)})
            >>> xor.points[:, :2].tolist()
            [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
            >>> xor.values.tolist()
            [[-1.0, 1.0, 1.0, -1.0]]
        """
        if not 1 <= k <= min(d, 16):
            raise ExpectedError(
                "k", f"{k!r} coordinates cannot be enumerated.", f"Pass k from 1 to {min(d, 16)}."
            )
        corners = torch.tensor(
            list(itertools.product((1, -1), repeat=k)), dtype=torch.float64, device="cpu"
        )
        for name, term in terms.items():
            if any(i != -1 and not 1 <= i <= k for i in term):
                raise ExpectedError(
                    "terms",
                    f"{name!r} names the coordinates {term}.",
                    f"Name coordinates from 1 to {k}, and -1 for the sign.",
                )
        values = [
            (-1.0) ** list(term).count(-1) * corners[:, [i - 1 for i in term if i > 0]].prod(dim=1)
            for term in terms.values()
        ]
        points = torch.zeros(len(corners), d, dtype=torch.float64, device="cpu")
        points[:, :k] = corners
        return cls(tuple(terms), points, torch.stack(values))


def contributions(neurons: Neurons, features: Features) -> Tensor:
    """What each neuron adds to each feature's gain, (..., p, F).

    Args:
        neurons: a network with one output.
        features: on points of the geometry's signal span.

    Raises:
        ExpectedError: if the network has an output for each class, or a point is outside the span.

    Example:
        >>> from phasetrack.tasks import XOR
        >>> W, a = torch.tensor([[1.0, -1.0, 9.0]]), torch.tensor([3.0])
        >>> neurons = Neurons.of(W, a, XOR(3).geometry)
        >>> contributions(neurons, Features.products(3, 2, {"xor": (-1, 1, 2)}))
        tensor([[1.5000]])
    """
    if neurons.head is not None:
        raise ExpectedError(
            "neurons",
            "The network has an output for each class.",
            "Features are read off networks with one output.",
        )
    basis = neurons.geometry.basis
    inside = features.points @ basis
    outside = (inside @ basis.T - features.points).abs().amax(dim=-1)
    if outside.max() > ORTHOGONALITY_TOLERANCE:
        count = int((outside > ORTHOGONALITY_TOLERANCE).sum())
        raise ExpectedError(
            "features",
            f"{count} of {len(outside)} points lie outside the signal span of this geometry (largest "
            f"distance {float(outside.max()):.3g}).",
            "Pass features on points of the signal span.",
        )
    at_points = neurons.coordinates @ inside.T.to(neurons.coordinates)
    if neurons.bias is not None:
        at_points = at_points + neurons.bias.unsqueeze(-1)
    means = neurons.activated(at_points) @ features.values.T.to(at_points) / len(features.points)
    return means * (neurons.second_layer * neurons.output_scale).unsqueeze(-1)


def gains(parts: Tensor) -> Tensor:
    """What the network holds of each feature: (..., p, F) contributions to (..., F)."""
    return parts.sum(dim=-2)


def holders(parts: Tensor, share: float = HOLDING) -> Tensor:
    """The fewest neurons that make `share` of all that is for a feature, bool (..., p, F).

    Args:
        parts: contributions, (..., p, F).
        share: in (0, 1]. A feature that nothing is for has no holders.

    Example:
        >>> holders(torch.tensor([[0.6], [0.35], [0.05], [-0.2]])).flatten().tolist()
        [True, True, False, False]
    """
    useful = parts.clamp_min(0)
    sizes, order = useful.sort(dim=-2, descending=True, stable=True)
    before = sizes.cumsum(dim=-2) - sizes
    wanted = share * useful.sum(dim=-2, keepdim=True)
    return torch.zeros_like(parts, dtype=torch.bool).scatter(
        -2, order, (before < wanted) & (sizes > 0)
    )
