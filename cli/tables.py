"""The tables that commands print: no lines, dim headers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table


def open_table(*headers: str, gap: int = 2) -> Table:
    """A table with a column for each header, the first to the left, the others to the right."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        table.add_column(header, justify="right" if table.columns else "left")
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table of texts: fitted to a terminal; elsewhere one line per row, however long.

    A program that searches the lines gets each row whole, and a thousand rows take no second.
    """
    if console.is_terminal:
        console.print(table, highlight=False)
        return
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    padded = [
        _padded(cells, column.justify) for cells, column in zip(columns, table.columns, strict=True)
    ]
    for line in zip(*padded, strict=True):
        console.file.write("  ".join(line).rstrip() + "\n")


def _padded(cells: Sequence[str], justify: str) -> list[str]:
    """Return the cells of a column, each as wide as the widest."""
    width = max(map(cell_len, cells))
    if justify == "right":
        return [" " * (width - cell_len(cell)) + cell for cell in cells]
    return [set_cell_size(cell, width) for cell in cells]


def step_text(value: float) -> str:
    """Return a step, which may lie between two, for people; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.1f}"
