"""The data's noise across the signal span, in whose units |perp| counts (theory.md 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.model.geometry import Geometry

# Noise counts as declared, with variance 1 and without a mean, unless a sample is this many standard errors away.
CERTAIN = 5.0


class Noise(NamedTuple):
    """Noise across the signal span.

    Attributes:
        deviation: standard deviation per coordinate.
        mean: its mean, (d,), orthogonal to the span; None: 0.
    """

    deviation: float
    mean: Tensor | None

    def spread(self, perp: Tensor, along_mean: Tensor | None) -> Tensor:
        """Root mean square of the noise's part of w . x, (..., p).

        Args:
            perp: length of each w across the span, (..., p).
            along_mean: w . mean, (..., p); None: 0.
        """
        scaled = self.deviation * perp
        return scaled if along_mean is None else torch.hypot(scaled, along_mean)


def noise_of(inputs: Tensor, geometry: Geometry) -> Noise | None:
    """Measure the noise on a sample.

    Args:
        inputs: (n, d).
        geometry: the clusters.

    Returns:
        None where the sample does not contradict variance 1 per coordinate and a mean of 0 by `CERTAIN` standard
        errors of Gaussian noise, or tells nothing: fewer than two inputs, a span that is everything, no spread.
    """
    x, basis = inputs.cpu().double(), geometry.basis
    n, free = len(x), geometry.dim - geometry.signal_dim
    if n < 2 or free < 1 or not x.isfinite().all():
        return None
    across = x - (x @ basis) @ basis.T
    mean = across.mean(dim=0)
    variance = float((across - mean).square().sum()) / ((n - 1) * free)
    expected = variance * (free + CERTAIN * math.sqrt(2 * free)) / n
    is_off = float(mean.square().sum()) > expected
    is_unit = abs(variance - 1) <= CERTAIN * math.sqrt(2 / ((n - 1) * free))
    if variance == 0 or (is_unit and not is_off):
        return None
    return Noise(1.0 if is_unit else math.sqrt(variance), mean if is_off else None)
