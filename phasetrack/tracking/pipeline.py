"""measure(probes, snapshot): from K states to K rows of readings. Pure: no hook, no file, no label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.tracking.probes.base import (
    Family,
    Measurement,
    Member,
    Note,
    Probe,
    Reading,
    as_tensor,
)
from phasetrack.tracking.snapshot import Snapshot

# Why a probe has nothing to read.
NO_EARLIER_STEP = "it needs an earlier recorded step"
NO_SAMPLE = "too few samples were seen so far"
# Names that a record holds beside its readings.
RESERVED = frozenset(
    {
        "step",
        "phase/id",
        "loss/constant",
        "data/offset",
        "data/spread_inside",
        "data/spread_outside",
        "data/purity",
        "data/told",
        "data/told_error",
        "data/separated",
    }
)

# The labels of each vocabulary.
RESERVED_FAMILY = "phase/"

Column = Reading | Member

T = TypeVar("T")


class Row(NamedTuple):
    """One state's readings, its values per neuron, and why readings are missing from here on."""

    readings: dict[str, float]
    distributions: dict[str, NDArray[np.float64]]
    reasons: dict[str, str]


class Failure(NamedTuple):
    """A probe that raised, and what it raised."""

    probe: Probe
    error: Exception


class Measured(NamedTuple):
    """K states read by every probe.

    Attributes:
        rows: one per state.
        failures: the probes that raised, or returned a value that is not a reading; their metrics are
            absent from the rows.
        refused: name of a reading that is absent from the rows, to the reason: it is taken.
        givers: metric to the probe that gave it.
        notes: sentences about the run, one per key.
    """

    rows: list[Row]
    failures: list[Failure]
    refused: dict[str, str]
    givers: dict[str, Probe]
    notes: dict[str, str]


def measure(probes: Sequence[Probe], snapshot: Snapshot) -> Measured:
    """Read K states by every probe.

    Args:
        probes: in the order in which their metrics are recorded.
        snapshot: K states, all with a batch that can be used, or one without (`Snapshot.pieces`).
    """
    measured = Measured([Row({}, {}, {}) for _ in snapshot.steps], [], {}, {}, {})
    columns: dict[str, Column] = {}
    tables: dict[str, Tensor] = {}
    for probe in probes:
        if reason := missing(probe, snapshot):
            measured.rows[0].reasons.setdefault(probe.name, reason)
            continue
        try:
            found = probe.measure(snapshot)
            found_columns, found_tables = _checked(found, len(snapshot))
        except Exception as error:
            measured.failures.append(Failure(probe, error))
            continue
        measured.notes.update(_notes(found))
        columns.update(_untaken(found_columns, probe, measured))
        tables.update(_untaken(found_tables, probe, measured))
    _fill_readings(measured.rows, columns)
    for name, table in tables.items():
        for row, values in zip(measured.rows, table.cpu().double().numpy(), strict=True):
            row.distributions[name] = values
    return measured


def missing(probe: Probe, snapshot: Snapshot) -> str:
    """Return why a probe cannot read a snapshot; empty if it can."""
    if "clusters" in probe.needs and snapshot.geometry.no_clusters:
        return snapshot.geometry.no_clusters
    if "span" in probe.needs and snapshot.geometry.no_span:
        return snapshot.geometry.no_span
    if probe.needs & {"batch", "inputs"} and snapshot.batch is None:
        problem = snapshot.problems[0]
        return snapshot.no_batch if problem is None else str(problem)
    if "inputs" in probe.needs and not (snapshot.batch and snapshot.batch.inputs):
        return snapshot.loss_inputs.reason if snapshot.loss_inputs else snapshot.no_batch
    if "sample" in probe.needs and snapshot.sample is None:
        unseen = snapshot.loss_inputs.reason if snapshot.loss_inputs else snapshot.no_batch
        return unseen or NO_SAMPLE
    if "previous" in probe.needs and snapshot.before is None:
        return NO_EARLIER_STEP
    return ""


def _untaken(found: dict[str, T], probe: Probe, measured: Measured) -> dict[str, T]:
    """Return a probe's readings without those whose names are taken, and note both."""
    taken = [
        name
        for name in found
        if name in measured.givers or name in RESERVED or name.startswith(RESERVED_FAMILY)
    ]
    for name in taken:
        giver = measured.givers.get(name)
        by = "the tracker itself gives" if giver is None else f"the probe {giver.name!r} gives"
        problem = f"The probe {probe.name!r} names a reading {name!r}, which {by} already."
        measured.refused.setdefault(name, f"{problem} Give the reading a name of its own.")
    kept = {name: value for name, value in found.items() if name not in taken} if taken else found
    measured.givers.update(dict.fromkeys(kept, probe))
    return kept


def _checked(values: Measurement, count: int) -> tuple[dict[str, Column], dict[str, Tensor]]:
    """Split a probe's values into readings (K,) and tables (K, n).

    Raises:
        ExpectedError: if a value has another shape, or a name is not text.
    """
    columns: dict[str, Column] = {}
    tables: dict[str, Tensor] = {}
    for name, value in values.items():
        if isinstance(value, Family):
            columns.update(value.members())
            continue
        if isinstance(value, Note):
            continue
        if not isinstance(name, str):
            raise ExpectedError(
                "probes", f"{name!r} is not the name of a reading.", "Name readings by text."
            )
        reading = value if isinstance(value, Reading) else Reading(as_tensor(name, value))
        numbers = reading.values
        if numbers.ndim == 2 and len(numbers) == count and not isinstance(value, Reading):
            tables[name] = numbers
            continue
        if numbers.shape not in ((), (count,)):
            raise ExpectedError(
                name,
                f"A tensor of shape {tuple(numbers.shape)} is not a reading of {count} states.",
                f"Return shape ({count},), or ({count}, n) for a value per neuron.",
            )
        columns[name] = reading._replace(values=numbers.detach().cpu().double())
    return columns, tables


def _notes(values: Measurement) -> dict[str, str]:
    """Return the sentences that hold for a state, for the first of them."""
    notes = {key: note for key, note in values.items() if isinstance(note, Note)}
    return {
        key: note.line.format(value=float(note.values[note.holds][0]))
        for key, note in notes.items()
        if note.holds.any()
    }


def _fill_readings(rows: Sequence[Row], columns: dict[str, Column]) -> None:
    """Write readings into their rows, with one transfer for all, and the reason of each NaN."""
    if not columns:
        return
    names, sources = list(columns), list(columns.values())
    table = torch.cat([_lines(list(run), len(rows)) for _, run in groupby(sources, _table)])
    for row, numbers in zip(rows, table.T.tolist(), strict=True):
        row.readings.update(zip(names, numbers, strict=True))
    undefined = table.isnan()
    for line, source in enumerate(sources):
        if isinstance(source, Reading) and source.read is not None:
            undefined[line] &= source.read
            for row in (
                row for row, read in zip(rows, source.read.tolist(), strict=True) if not read
            ):
                del row.readings[names[line]]
    lasts = (len(rows) - 1 - undefined.flip(1).byte().argmax(dim=1)).tolist()
    for line in undefined.any(dim=1).nonzero().flatten().tolist():
        rows[lasts[line]].reasons[names[line]] = sources[line].reason(lasts[line])


def _table(column: Column) -> int:
    """Tell readings from the members of each family."""
    return id(column.family) if isinstance(column, Member) else 0


def _lines(run: Sequence[Column], count: int) -> Tensor:
    """Return the values of readings, or of members of one family, float64 (metrics, K)."""
    members = [column for column in run if isinstance(column, Member)]
    if not members:
        readings = [column.values for column in run if isinstance(column, Reading)]
        return torch.stack([values.expand(count) for values in readings])
    values = members[0].family.values.detach().cpu().double().T
    whole = len(members) == len(values)
    return values if whole else values[[member.place for member in members]]
