"""The tables that commands print: no lines, dim headers."""

from __future__ import annotations

from rich.table import Table


def open_table(*headers: str, gap: int = 2) -> Table:
    """A table with a column for each header, the first to the left, the others to the right."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        table.add_column(header, justify="right" if table.columns else "left")
    return table
