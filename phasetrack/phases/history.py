"""Records and histories of a run, in plain Python and numpy: no torch, no files."""

from __future__ import annotations

import html
import math
import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasetrack.errors import ExpectedError
from phasetrack.phases.frames import arrow_table, pandas_frame, write_parquet

if TYPE_CHECKING:
    from phasetrack.phases.labels import Alert, Boundary, Phase, Transition


# Steps that are packed into columns, or unpacked into rows, together.
ROWS_AT_ONCE = 256


class Undefined(float):
    """A reading that could not be computed: NaN, with the reason.

    >>> reading = Undefined("no neuron is heavy")
    >>> reading, reading.reason
    (nan, 'no neuron is heavy')
    """

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        """Make NaN with a reason."""
        reading = super().__new__(cls, "nan")
        reading.reason = reason
        return reading


@dataclass(frozen=True)
class Record:
    """One recorded step, as every sink receives it.

    Attributes:
        step: the number of optimizer steps before the measured state.
        readings: metric name to value; NaN where it could not be computed.
        left: names of the boundaries that were seen at this step not to hold any more.
        distributions: metric name to one value per neuron, float64 (p,).
        phase: the label of this step.
        reason: why the label is UNDETERMINED; empty otherwise.
        transition: the change of label at this step, if it changed.
        boundaries: the boundaries detected at this step.
        alerts: the alerts raised at this step.
    """

    step: int
    readings: Mapping[str, float]
    phase: Phase
    reason: str = ""
    transition: Transition | None = None
    boundaries: tuple[Boundary, ...] = ()
    alerts: tuple[Alert, ...] = ()
    distributions: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def news(self) -> list[str]:
        """Describe each transition, boundary and alert of this step in one line."""
        lines = []
        if self.transition:
            before, after = self.transition.before.name, self.transition.after.name
            lines.append(f"step {self.step}: {before} to {after}")
        for boundary in self.boundaries:
            lines.append(f"step {self.step}: boundary {boundary.name}, onset {boundary.onset:.1f}")
        lines += [f"step {self.step}: boundary {name}, left again" for name in self.left]
        for alert in self.alerts:
            lines.append(f"alert {alert.sentence}")
        return lines


class History(Mapping[str, NDArray[np.float64]]):
    """Readings of a run as columns: ``history["loss/train"]`` is float64, one value per step.

    Example:
        >>> history = History([(0, {"loss/train": 1.5}), (2, {"loss/train": 1.0})])
        >>> history.steps.tolist(), history["loss/train"].tolist()
        ([0, 2], [1.5, 1.0])
    """

    def __init__(self, rows: Iterable[tuple[int, Mapping[str, float]]] = ()) -> None:
        # arrays, not lists: 8 bytes per reading of a long run
        self._steps = array("q")
        self._columns: dict[str, array[float]] = {}
        # the last steps, as rows of the same metrics: moving many into columns at once costs less
        self._names: tuple[str, ...] = ()
        self._rows: list[tuple[float, ...]] = []
        for step, readings in rows:
            self.append(step, readings)

    def append(self, step: int, readings: Mapping[str, float]) -> None:
        """Add one step; a metric that only other steps have is NaN here.

        Raises:
            ExpectedError: if the step does not follow the last one.
        """
        if self._steps and step <= self.last_step:
            raise ExpectedError(
                "step",
                f"Step {step} follows step {self.last_step}.",
                "Add records in the order of their steps, each step once.",
            )
        names = tuple(readings)
        if names != self._names or len(self._rows) == ROWS_AT_ONCE:
            self._fill_columns()
            self._names = names
        self._steps.append(step)
        self._rows.append(tuple(readings.values()))

    def _fill_columns(self) -> None:
        """Move the last rows into the columns."""
        count = self.count - len(self._rows)
        for name, values in zip(self._names, zip(*self._rows, strict=True), strict=False):
            column = self._columns.setdefault(name, array("d"))
            column.extend([math.nan] * (count - len(column)))
            column.extend(values)
        self._rows.clear()

    def extend(self, steps: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Add many steps, (n,), with each metric's values, (n,)."""
        self._fill_columns()
        count = self.count
        for name, values in columns.items():
            column = self._columns.setdefault(name, array("d"))
            column.extend([math.nan] * (count - len(column)))
            column.frombytes(np.asarray(values, dtype=np.float64).tobytes())
        self._steps.frombytes(np.asarray(steps, dtype=np.int64).tobytes())

    def cut(self, count: int) -> None:
        """Keep the first `count` steps alone."""
        self._fill_columns()
        del self._steps[count:]
        for column in self._columns.values():
            del column[count:]

    @property
    def count(self) -> int:
        """The number of recorded steps."""
        return len(self._steps)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The recorded steps, int64, ascending."""
        return np.array(self._steps, dtype=np.int64)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one metric, float64, as long as `steps`; KeyError lists the known metrics."""
        self._fill_columns()
        if name not in self._columns:
            raise KeyError(f"no metric {name!r}; {self._close_to(name)}")
        values = np.full(self.count, math.nan)
        column = self._columns[name]
        values[: len(column)] = column
        return values

    def __contains__(self, name: object) -> bool:
        """Whether a metric was recorded."""
        self._fill_columns()
        return name in self._columns

    def _close_to(self, name: object) -> str:
        """Return the metrics that a wrong name may have meant, or all."""
        parts = [known for known in self._columns if str(name) in known.split("/")]
        close = parts or get_close_matches(str(name), self._columns)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        return f"this history has {sorted(self._columns)}"

    def __iter__(self) -> Iterator[str]:
        """Iterate over metric names, in the order of their first appearance."""
        self._fill_columns()
        return iter(self._columns)

    def __len__(self) -> int:
        """Count the metrics; `count` is the number of steps."""
        self._fill_columns()
        return len(self._columns)

    def __repr__(self) -> str:
        """The number of steps and metrics."""
        if not self.count:
            return "<History without a record>"
        span = f"steps {self._steps[0]} to {self.last_step}"
        return f"<History of {self.count} recorded steps ({span}), {len(self)} metrics>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{self[name][0]:.4g}</td><td>{self[name][-1]:.4g}</td></tr>"
            for name in (self if self.count else ())
        )
        head = f"<p>{html.escape(repr(self)[1:-1])}</p>"
        table = f"<table><tr><th>metric</th><th>first</th><th>last</th></tr>{rows}</table>"
        return head + (f'<div style="max-height:20em;overflow:auto">{table}</div>' if rows else "")

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row per recorded step, its index, and a column per metric.

        Raises:
            ExpectedError: if pandas is not installed.
        """
        return pandas_frame(self.steps, self)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file with the columns ``step`` and each metric, by pyarrow.

        Raises:
            ExpectedError: if pyarrow is not installed, or the file cannot be written.
        """
        write_parquet(self.steps, self, os.fspath(path))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return an Arrow stream, by which polars, duckdb and pandas read the history, by pyarrow.

        Raises:
            ExpectedError: if pyarrow is not installed.
        """
        return arrow_table(self.steps, self).__arrow_c_stream__(requested_schema)

    @property
    def last_step(self) -> int:
        """The last recorded step, or -1."""
        return self._steps[-1] if self._steps else -1

    def rows(
        self, start: int = 0, names: Collection[str] | None = None
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """Iterate over the recorded steps and their readings.

        Args:
            start: the number of records to skip.
            names: the metrics to read, of those that exist; None reads all.
        """
        self._fill_columns()
        wanted = [name for name in self._columns if names is None or name in names]
        for first in range(start, self.count, ROWS_AT_ONCE):
            steps = self._steps[first : first + ROWS_AT_ONCE]
            columns = [self._part(name, first, len(steps)) for name in wanted]
            for step, *values in zip(steps, *columns, strict=True):
                yield step, dict(zip(wanted, values, strict=True))

    def _part(self, name: str, first: int, count: int) -> list[float]:
        """Read records of a column; NaN after the last step that had its metric."""
        values = self._columns[name][first : first + count].tolist()
        return values + [math.nan] * (count - len(values))
