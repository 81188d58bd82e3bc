"""The weekly house-keeping: checkpoints, left-over spill, and how large every table is. Removes no row and no version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.sql import quote_literal
from lakehouse.tables import Commit, Lake, Stamp, TableName
from lakehouse.tables.spill import remove_stale_spill

TABLE = "monitoring.storage"


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table as it was measured."""

    table: str
    version: int
    rows: int
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StorageReport:
    """What the house-keeping found and did.

    Attributes:
        commit: of the sizes; None if there was no table to measure.
        spill_removed_bytes: what processes that no longer live had left in the spill folder.
    """

    tables: Sequence[TableSize]
    checkpoints: int
    spill_removed_bytes: int
    commit: Commit | None


def keep_house(lake: Lake, *, spill_dir: Path, run: str, now: datetime) -> StorageReport:
    """Checkpoint every table's log, remove what dead processes spilled, and record every table's size."""
    before = _bytes_below(spill_dir)
    remove_stale_spill(spill_dir)
    freed = before - _bytes_below(spill_dir)
    tables = [table for table in lake.tables() if str(table) != TABLE]
    sizes = [_measure(lake, table) for table in tables]
    for table in tables:
        # A checkpoint saves readers the replay of every commit since the last one; it deletes none of them.
        lake.checkpoint(table)
    commit = _record(lake, sizes, run=run, now=now) if sizes else None
    return StorageReport(tuple(sizes), checkpoints=len(tables), spill_removed_bytes=max(freed, 0), commit=commit)


def _measure(lake: Lake, table: TableName) -> TableSize:
    detail = lake.detail(table)
    return TableSize(str(table), detail.version, detail.rows, detail.files, detail.bytes)


def _record(lake: Lake, sizes: Sequence[TableSize], *, run: str, now: datetime) -> Commit:
    values = ", ".join(f"({quote_literal(size.table)}, {size.version}, {size.rows}, {size.files}, {size.size_bytes})" for size in sizes)
    sql = (
        f'SELECT {quote_literal(now.isoformat())}::TIMESTAMPTZ AS measured_at, "table", version::BIGINT AS version, rows::BIGINT AS rows, '
        f'files::BIGINT AS files, size_bytes::BIGINT AS size_bytes FROM (VALUES {values}) AS sizes("table", version, rows, files, size_bytes)'
    )
    stamp = Stamp(asset=TABLE, run=run, inputs={size.table: size.version for size in sizes}, code="storage-1")
    with lake.connect(()) as session:
        return lake.append(session.con, TABLE, sql, stamp=stamp)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # A live session has just removed it.
    return total
