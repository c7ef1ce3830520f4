"""Label-weighted moments of data."""

from __future__ import annotations

import torch
from torch import Tensor


def label_moment(inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean of y (x - mean x)(x - mean x)^T, (m, d) and (m,) to (d, d); classes need not be balanced."""
    weights, centred = labels - labels.mean(), inputs - inputs.mean(dim=0)
    moment: Tensor = (centred * weights.unsqueeze(1)).T @ centred / len(inputs)
    return moment


def data_moment(inputs: Tensor, labels: Tensor) -> Tensor:
    """Label-weighted moments of first and second order of every class, as one matrix: (d, d).

    The sum over classes of m m^T + |M|, with m the mean of y (x - mean x), M the `label_moment`, y being 1 in the
    class and -1 elsewhere; of two classes one is enough.
    """
    classes = torch.unique(labels)
    total = inputs.new_zeros(inputs.shape[1], inputs.shape[1])
    for label in classes[1:] if len(classes) == 2 else classes:
        y = torch.where(labels == label, 1.0, -1.0).to(inputs)
        first = ((y - y.mean()) @ (inputs - inputs.mean(dim=0))) / len(inputs)
        values, vectors = torch.linalg.eigh(label_moment(inputs, y))
        total += torch.outer(first, first) + (vectors * values.abs()) @ vectors.T
    return total
