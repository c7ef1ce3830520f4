"""A history as a table of other libraries: pandas, Arrow (polars, duckdb), Parquet. None of them is required."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasetrack.errors import ExpectedError

Columns = Mapping[str, NDArray[np.float64]]
Steps = NDArray[np.int64]


def pandas_frame(steps: Steps, columns: Columns) -> Any:
    """Return a `pandas.DataFrame`: a row per recorded step, indexed by it, and a column per metric.

    Raises:
        ExpectedError: if pandas is not installed.
    """
    pandas = _imported("pandas")
    return pandas.DataFrame(dict(columns), index=pandas.Index(steps, name="step"))


def arrow_table(steps: Steps, columns: Columns) -> Any:
    """Return a `pyarrow.Table` with the columns ``step``, int64, and each metric, float64.

    Raises:
        ExpectedError: if pyarrow is not installed.
    """
    return _imported("pyarrow").table({"step": steps, **columns})


def write_parquet(steps: Steps, columns: Columns, path: str) -> None:
    """Write the columns of `arrow_table` into a Parquet file.

    Raises:
        ExpectedError: if pyarrow is not installed, or the file cannot be written.
    """
    table = arrow_table(steps, columns)
    try:
        _imported("pyarrow.parquet").write_table(table, path)
    except OSError as error:
        problem = f"{path!r} cannot be written ({error.strerror or error})."
        fix = "Choose a file in a directory that exists and is writable."
        raise ExpectedError("path", problem, fix) from None


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        problem = f"{library} is not installed."
        raise ExpectedError(library, problem, f"Install it: pip install {library}.") from None
