"""How large every table is, week by week."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp, TableName

TABLE = "monitoring.storage"


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table as it was measured."""

    table: str
    version: int
    rows: int
    files: int
    size_bytes: int


def measure_storage(lake: Lake, *, run: str, now: datetime) -> list[TableSize]:
    """Measure every table and record it, if there is one; read from the logs."""
    sizes = [_measure(lake, table) for table in lake.tables() if str(table) != TABLE]
    if sizes:
        _record(lake, sizes, run=run, now=now)
    return sizes


def _measure(lake: Lake, table: TableName) -> TableSize:
    detail = lake.detail(table)
    return TableSize(str(table), detail.version, detail.rows, detail.files, detail.bytes)


def _record(lake: Lake, sizes: Sequence[TableSize], *, run: str, now: datetime) -> None:
    values = ", ".join(f"({quote_literal(size.table)}, {size.version}, {size.rows}, {size.files}, {size.size_bytes})" for size in sizes)
    sql = (
        f'SELECT {quote_literal(now.isoformat())}::TIMESTAMPTZ AS measured_at, "table", version::BIGINT AS version, rows::BIGINT AS rows, '
        f'files::BIGINT AS files, size_bytes::BIGINT AS size_bytes FROM (VALUES {values}) AS sizes("table", version, rows, files, size_bytes)'
    )
    stamp = Stamp(asset=TABLE, run=run, inputs={size.table: size.version for size in sizes}, code="storage-1")
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, sql, stamp=stamp)
