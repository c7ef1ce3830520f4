"""A history as a table of other libraries: pandas, Arrow (polars, duckdb), Parquet. None of them is required."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phasetrack.errors import ExpectedError

if TYPE_CHECKING:
    from phasetrack.phases.history import History


def pandas_frame(history: History) -> Any:
    """Return a `pandas.DataFrame`: a row per recorded step, indexed by it, and a column per metric.

    Raises:
        ExpectedError: if pandas is not installed.
    """
    pandas = _imported("pandas")
    index = pandas.Index(history.steps, name="step")
    return pandas.DataFrame({name: history[name] for name in history}, index=index)


def arrow_table(history: History) -> Any:
    """Return a `pyarrow.Table` with the columns ``step``, int64, and each metric, float64.

    Raises:
        ExpectedError: if pyarrow is not installed.
    """
    columns = {"step": history.steps} | {name: history[name] for name in history}
    return _imported("pyarrow").table(columns)


def write_parquet(history: History, path: str) -> None:
    """Write the columns of `arrow_table` into a Parquet file.

    Raises:
        ExpectedError: if pyarrow is not installed, or the file cannot be written.
    """
    table = arrow_table(history)
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
