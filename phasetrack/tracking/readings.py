"""From a block of snapshots to rows of readings: what probes return, checked, with one transfer for all."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import expected_error
from phasetrack.phases.history import Undefined
from phasetrack.tracking.probes.default import Explained, Probe, reads_blocks
from phasetrack.tracking.snapshot import Block


class Row(NamedTuple):
    """One snapshot's readings, its distributions, and why some readings could not be made."""

    readings: dict[str, float]
    distributions: dict[str, NDArray[np.float64]]
    reasons: dict[str, str]


def missing(probe: Probe, block: Block) -> str:
    """Why a probe cannot read a block; empty if it can."""
    if probe.needs & {"batch", "inputs"} and block.batch is None:  # also where it has a problem
        if problem := block.snapshots[0].problem:
            return str(problem)
        return (
            "no loss call was seen in this step: call the loss module given to attach(), "
            "or tracker.loss(outputs, targets); if you compile the model, do so before its first step"
        )
    if "previous" in probe.needs and block.before is None:
        return "it needs an earlier recorded step"
    return ""


def add_readings(
    rows: Sequence[Row], probes: Sequence[Probe], block: Block, known: Container[str]
) -> None:
    """Add what some probes read to the rows; nothing if one of them fails.

    Args:
        rows: one for each snapshot of the block.
        probes: none of which is `missing` something.
        block: the snapshots.
        known: readings for which a reason is known already.

    Raises:
        ExpectedError: if a probe returns what is no reading; and whatever a probe raises.
    """
    values: dict[str, Tensor | Explained | float] = {}
    found: list[list[Row]] = []
    for probe in probes:
        if reads_blocks(probe):
            values.update(probe.measure_block(block))
        else:
            found.append([_row_of_one(dict(probe.measure(s))) for s in block.singles()])
    for singles in found:
        for row, new in zip(rows, singles, strict=True):
            row.readings.update(new.readings)
            row.distributions.update(new.distributions)
            row.reasons.update(new.reasons)
    _add_block(rows, values, known)


def _add_block(
    rows: Sequence[Row], values: Mapping[str, Tensor | Explained | float], known: Container[str]
) -> None:
    """Add a block's columns to its rows, with one transfer for those that are readings."""
    if not values:
        return
    plain = {k: v.values if isinstance(v, Explained) else v for k, v in values.items()}
    tables = {k: v.numpy() for k, v in plain.items() if isinstance(v, Tensor) and v.ndim == 2}
    names = [name for name in plain if name not in tables]
    if names:
        columns = torch.stack([_column(plain[name], len(rows)) for name in names])
        for row, numbers in zip(rows, columns.T.tolist(), strict=True):
            row.readings.update(zip(names, numbers, strict=True))
        undefined = columns.isnan()
        for name, any_is, first in zip(
            names,
            undefined.any(dim=1).tolist(),
            undefined.byte().argmax(dim=1).tolist(),
            strict=True,
        ):
            if any_is and name not in known:
                rows[first].reasons[name] = _reason(values[name], first)
    for name, table in tables.items():
        for row, line in zip(rows, table, strict=True):
            row.distributions[name] = line


def _column(value: Tensor | float, count: int) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.dtype == torch.float64 else value.double()
    return torch.full((count,), float(value), dtype=torch.float64)


def _row_of_one(values: Mapping[str, object]) -> Row:
    """A single snapshot's values, with one transfer for those that are scalar tensors."""
    checked = {name: _reading(name, value) for name, value in values.items()}
    tables = {k: v for k, v in checked.items() if isinstance(v, Tensor) and v.ndim == 1}
    scalars = {k: v for k, v in checked.items() if k not in tables}
    tensors = [value.double() for value in scalars.values() if isinstance(value, Tensor)]
    moved = iter(torch.stack(tensors).tolist() if tensors else ())
    numbers = {
        name: next(moved) if isinstance(value, Tensor) else float(value)
        for name, value in scalars.items()
    }
    reasons = {name: _reason(scalars[name], 0) for name, x in numbers.items() if math.isnan(x)}
    return Row(numbers, {k: v.detach().cpu().numpy() for k, v in tables.items()}, reasons)


def _reason(value: Tensor | Explained | float, index: int) -> str:
    """Why a value is NaN."""
    one = value.at(index) if isinstance(value, Explained) else value
    return one.reason if isinstance(one, Undefined) else "its value is NaN"


def _reading(name: str, value: object) -> Tensor | float:
    if isinstance(value, Tensor) and value.ndim <= 1:
        return value
    if isinstance(value, int | float):
        return value if isinstance(value, Undefined) else float(value)
    allowed = "a number, or a tensor of one dimension at most"
    shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise expected_error(name, allowed, shape)
