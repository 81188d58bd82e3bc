"""What tests look at: a table's rows in a fresh session."""

from typing import Any

from lakehouse.tables import Lake
from lakehouse.tables.lake import AsOf


def rows(lake: Lake, table: str, *, columns: str = "*", version: AsOf | None = None) -> list[tuple[Any, ...]]:
    pinned = {table: version} if version is not None else None
    with lake.connect([table], as_of=pinned) as session:
        return session.con.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()
