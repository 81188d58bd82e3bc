"""Rows of any table on a terminal: one line each, as many columns as fit; the others are named below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.cli.screen import cell, counted

if TYPE_CHECKING:
    from rich.console import Console

_NUMBERS = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "DOUBLE", "FLOAT", "DECIMAL", "HUGEINT")
_GAP = 2
# Longer values are cut where the whole does not fit, down to the last of these, before columns are left out.
_CUTS = (60, 40, 28)
_NULL = "NULL"


def print_rows(out: "Console", columns: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a grid of rows.

    Args:
        out: where to.
        columns: their names.
        types: their DuckDB types; numbers stand right.
        rows: values in the order of the columns.
    """
    from rich.table import Table
    from rich.text import Text

    texts = [[_NULL if value is None else " ".join(str(cell(value)).split()) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[number]) for row in texts)]) for number, name in enumerate(columns)]
    cut = next((cut for cut in (max(widths, default=0), *_CUTS) if _width(widths, cut) <= out.width), _CUTS[-1])
    shown = next((count for count in range(len(columns), 1, -1) if _width(widths[:count], cut) <= out.width), min(len(columns), 1))
    table = Table(box=None, pad_edge=False)
    for name, kind, width in list(zip(columns, types, widths, strict=True))[:shown]:
        is_number = kind.upper().startswith(_NUMBERS) and not kind.endswith("]")
        table.add_column(Text(name), justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis", max_width=min(width, cut))
    for row in texts:
        table.add_row(*(Text(value) for value in row[:shown]))
    out.print(table)
    if shown < len(columns):
        more = f"and {counted(len(columns) - shown, 'column')} more: {', '.join(columns[shown:])} (--json and --csv show all)"
        out.print(more, markup=False, soft_wrap=True, style="dim")


def _width(widths: Sequence[int], cut: int) -> int:
    return sum(min(width, cut) for width in widths) + _GAP * (len(widths) - 1)
