"""measure(probes, snapshot): from K states to K rows of readings. Pure: no hook, no file, no label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot

# Why a probe has nothing to read.
NO_EARLIER_STEP = "it needs an earlier recorded step"


class Row(NamedTuple):
    """One state's readings, its values per neuron, and why readings are missing from here on."""

    readings: dict[str, float]
    distributions: dict[str, NDArray[np.float64]]
    reasons: dict[str, str]


class Failure(NamedTuple):
    """A probe that raised, and what it raised."""

    probe: Probe
    error: Exception


def measure(probes: Sequence[Probe], snapshot: Snapshot) -> tuple[list[Row], list[Failure]]:
    """Read K states by every probe.

    Args:
        probes: in the order in which their metrics are recorded.
        snapshot: K states, all with a batch that can be used, or one without (`Snapshot.pieces`).

    Returns:
        A row per state, and the probes that raised or returned a value that is not a reading; their
        metrics are absent from the rows.
    """
    rows = [Row({}, {}, {}) for _ in snapshot.steps]
    columns: dict[str, Reading] = {}
    tables: dict[str, Tensor] = {}
    failures = []
    for probe in probes:
        if reason := missing(probe, snapshot):
            rows[0].reasons.setdefault(probe.name, reason)
            continue
        try:
            found_columns, found_tables = _checked(probe.measure(snapshot), len(rows))
        except Exception as error:
            failures.append(Failure(probe, error))
            continue
        columns.update(found_columns)
        tables.update(found_tables)
    _fill_readings(rows, columns)
    for name, table in tables.items():
        for row, values in zip(rows, table.detach().cpu().numpy(), strict=True):
            row.distributions[name] = values
    return rows, failures


def missing(probe: Probe, snapshot: Snapshot) -> str:
    """Return why a probe cannot read a snapshot; empty if it can."""
    if probe.needs & {"batch", "inputs"} and snapshot.batch is None:
        problem = snapshot.problems[0]
        return snapshot.no_batch if problem is None else str(problem)
    if "inputs" in probe.needs and not (snapshot.batch and snapshot.batch.inputs):
        return snapshot.loss_inputs.reason if snapshot.loss_inputs else snapshot.no_batch
    if "previous" in probe.needs and snapshot.before is None:
        return NO_EARLIER_STEP
    return ""


def _checked(values: Measurement, count: int) -> tuple[dict[str, Reading], dict[str, Tensor]]:
    """Split a probe's values into readings (K,) and tables (K, n).

    Raises:
        ExpectedError: if a value has another shape.
    """
    columns: dict[str, Reading] = {}
    tables: dict[str, Tensor] = {}
    for name, value in values.items():
        if isinstance(value, Tensor) and value.ndim == 2 and len(value) == count:
            tables[name] = value
            continue
        reading = value if isinstance(value, Reading) else Reading(_as_tensor(value))
        reading = reading._replace(values=reading.values.detach().to("cpu", torch.float64))
        if reading.values.shape not in ((), (count,)):
            raise ExpectedError(
                name,
                f"A tensor of shape {tuple(reading.values.shape)} is not a reading of {count} states.",
                f"Return shape ({count},), or ({count}, n) for a value per neuron.",
            )
        columns[name] = reading
    return columns, tables


def _as_tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)


def _fill_readings(rows: Sequence[Row], columns: dict[str, Reading]) -> None:
    """Write readings into their rows, with one transfer for all, and the reason of each NaN."""
    if not columns:
        return
    table = torch.stack([column.values.expand(len(rows)) for column in columns.values()])
    for row, numbers in zip(rows, table.T.tolist(), strict=True):
        row.readings.update(zip(columns, numbers, strict=True))
    undefined = table.isnan()
    firsts = undefined.byte().argmax(dim=1).tolist()
    for name, is_any, first in zip(columns, undefined.any(dim=1).tolist(), firsts, strict=True):
        if is_any:
            rows[first].reasons[name] = columns[name].reason(first)
