"""What there is: tables with their size and age, and quarantined rows by rule. Read from the tables alone."""

import difflib
from dataclasses import dataclass
from datetime import datetime

from lakehouse.errors import TableNotFound
from lakehouse.tables import CommitInfo, Lake, TableName

LAYERS = ("raw", "quarantine", "staging", "analytics", "features", "models", "monitoring")


@dataclass(frozen=True, slots=True)
class TableOverview:
    """One table as it is now."""

    layer: str
    name: str
    rows: int
    version: int
    files: int
    size_bytes: int
    last_commit: datetime | None
    last_run: str | None


def list_tables(lake: Lake) -> list[TableOverview]:
    """Every table, layer by layer in the order data flows."""
    order = {layer: index for index, layer in enumerate(LAYERS)}
    found: list[TableOverview] = []
    for table in sorted(lake.tables(), key=lambda one: (order.get(one.layer, len(order)), one)):
        version = lake.version(table)
        if version is None:
            continue
        detail = lake.detail(table)
        newest = next(iter(lake.history(table, limit=1)), None)
        found.append(
            TableOverview(
                layer=table.layer,
                name=table.name,
                rows=detail.rows,
                version=version,
                files=detail.files,
                size_bytes=detail.bytes,
                last_commit=newest.timestamp if newest else None,
                last_run=newest.stamp.run if newest and newest.stamp else None,
            )
        )
    return found


def require_table(lake: Lake, name: str) -> TableName:
    """The table of that name.

    Raises:
        TableNotFound: there is none; the error names the closest ones.
    """
    names = [str(table) for table in lake.tables()]
    if name in names:
        return TableName.parse(name)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    close += [other for other in names if other.partition(".")[2] == name and other not in close]
    fix = f"Did you mean {' or '.join(close)}?" if close else "lakehouse tables lists what there is"
    raise TableNotFound(name, "does not exist", fix=fix)


def table_history(lake: Lake, name: str, *, limit: int | None = None) -> list[CommitInfo]:
    """The table's commits, newest first.

    Raises:
        TableNotFound: there is no such table.
    """
    return list(lake.history(require_table(lake, name), limit=limit))
