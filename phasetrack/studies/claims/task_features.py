"""The features of the tasks that have several."""

from __future__ import annotations

from collections.abc import Sequence

from phasetrack.measures.feature_gain import Features

# For each task its number of relevant coordinates and its features, as terms for `Features.products`.
# Every feature has a positive mean product with the label; the feature of a parity is the label.
FEATURES: dict[str, tuple[int, dict[str, Sequence[int]]]] = {
    "xor": (2, {"-x1 x2": (-1, 1, 2)}),
    "two-xors": (4, {"-x1 x2": (-1, 1, 2), "-x3 x4": (-1, 3, 4)}),
    "equal-xors": (4, {"-x1 x2": (-1, 1, 2), "-x3 x4": (-1, 3, 4)}),
    "unequal-xors": (4, {"-x1 x2": (-1, 1, 2), "-x3 x4": (-1, 3, 4)}),
    "quadratic": (4, {"x1 x2": (1, 2), "x2 x3": (2, 3), "x3 x4": (3, 4), "-x1 x4": (-1, 1, 4)}),
    "staircase": (3, {"x1": (1,), "x1 x2": (1, 2), "-x1 x3": (-1, 1, 3), "x1 x2 x3": (1, 2, 3)}),
    "parity3": (3, {"x1 x2 x3": (1, 2, 3)}),
    "parity4": (4, {"x1 x2 x3 x4": (1, 2, 3, 4)}),
}


def features(task: str, d: int) -> Features:
    """Return the features of a task in dimension d."""
    k, terms = FEATURES[task]
    return Features.products(d, k, terms)
