"""A sample as callers hold it: tables and labels from tensors, numpy arrays and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import ExpectedError

# Numbers as callers hold them.
Table = Tensor | NDArray[np.generic] | Sequence[Any]


def table(argument: str, values: object) -> Tensor:
    """Return real numbers as a detached tensor; a tensor keeps its dtype and device.

    Args:
        argument: the caller's argument, for the error.
        values: a tensor, a numpy array, or a sequence of numbers, sequences, arrays or tensors.

    Raises:
        ExpectedError: if they are not numbers, are complex, or rows differ in length.
    """
    try:
        if isinstance(values, Tensor):
            found = values.detach()
        elif isinstance(values, Sequence) and any(isinstance(row, Tensor) for row in values):
            found = torch.stack([row.detach().cpu() for row in values])
        else:
            found = torch.as_tensor(np.asarray(values), device="cpu")
    except (TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        shown = f"A value of type {type(values).__name__} is not a table of numbers ({error})."
        raise ExpectedError(argument, shown, "Pass a tensor or a numpy array.") from None
    if found.is_complex():
        raise ExpectedError(
            argument, f"A tensor of {found.dtype} holds no real numbers.", "Pass real numbers."
        )
    return found


def column(argument: str, values: object) -> Tensor:
    """Return one number per sample, (m,), as `table` does.

    Args:
        argument: the caller's argument, for the error.
        values: (m,), or (m, 1), or one-hot rows (m, n), n >= 2, which become class indices.
    """
    found = table(argument, values)
    if found.ndim == 2 and found.shape[1] == 1:
        return found.squeeze(1)
    if found.ndim == 2 and found.shape[1] > 1 and _one_hot(found):
        return found.long().argmax(dim=1)
    return found


def two_classes(argument: str, labels: Tensor) -> Tensor:
    """Return labels in {-1, +1} or {0, 1} as -1 and +1, float64 on the host.

    Raises:
        ExpectedError: if they take further values, or one alone.
    """
    found = labels.cpu().double()
    values = sorted(set(found.tolist()))
    if len(values) < 2 and set(values) <= {-1.0, 0.0, 1.0}:
        raise ExpectedError(
            argument, "All labels are of one class.", "Pass a sample of both classes."
        )
    if values not in ([-1.0, 1.0], [0.0, 1.0]):
        raise ExpectedError(
            argument,
            f"The labels take the values {shortened(values)}.",
            "Pass labels of two classes, as {-1, +1} or {0, 1}.",
        )
    return torch.where(found > 0, 1.0, -1.0).double()


def class_labels(argument: str, labels: Tensor) -> Tensor:
    """Return labels of two classes as -1 and +1, of more as indices 0, 1, ..., n - 1; float64 on the host.

    Raises:
        ExpectedError: if they are of one class, or neither.
    """
    values = sorted(set(labels.cpu().double().tolist()))
    if len(values) > 2 and values == [float(index) for index in range(len(values))]:
        return labels.cpu().double()
    return two_classes(argument, labels)


def shortened(values: Sequence[float]) -> str:
    """Show a list of values, the first few of many."""
    shown = ", ".join(map(str, values[:6]))
    return f"[{shown}]" if len(values) <= 6 else f"[{shown}, ...] ({len(values)} in all)"


def _one_hot(rows: Tensor) -> bool:
    ones = (rows == 1).sum(dim=1) == 1
    return bool((ones & ((rows == 0) | (rows == 1)).all(dim=1)).all())
