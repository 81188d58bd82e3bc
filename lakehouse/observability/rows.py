"""The rows of one key, in every table on the way back, down to the lines of the files they came from."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts import Contracts, DatasetContract
from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Session, TableName

MAX_ROWS = 1_000
_SHOWN_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of the key in one table version."""

    table: str
    version: int
    count: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One line of one file.

    Args:
        row: 1-based data row (or line, or record) of the file.
        kept: staging kept this line; a later line of the same primary key replaces an earlier one.
    """

    dataset: str
    file: str
    sha256: str
    row: int
    batch: int
    kept: bool
    archive: str | None


@dataclass(frozen=True, slots=True)
class RowTrail:
    """The rows of one key from the table asked for down to the files; at most MAX_ROWS rows of each table are listed.

    Attributes:
        without_key: tables on the way that have no column of the key, so that its rows can't be told there.
    """

    tables: tuple[TableRows, ...]
    source_rows: tuple[SourceRow, ...]
    without_key: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The part of the lineage document that --key adds."""
        return {
            "rows": [{"table": one.table, "version": one.version, "count": one.count, "rows": list(one.rows)} for one in self.tables],
            "source_rows": [
                {
                    "dataset": one.dataset,
                    "file": one.file,
                    "sha256": one.sha256,
                    "row": one.row,
                    "batch": one.batch,
                    "kept": one.kept,
                    "archive": one.archive,
                }
                for one in self.source_rows
            ],
            "without_key": list(self.without_key),
        }


def follow_key(lake: Lake, contracts: Contracts, versions: Sequence[tuple[str, int]], *, key: str, settings: Settings) -> RowTrail:
    """Find the rows of a key, the value of the entity or primary key or `column=value[,column=value]`, in these table versions.

    The first of the versions is the table that was asked about.

    Raises:
        LakehouseError: the key is not written so, no table has its columns, or none has a row of it.
    """
    datasets = [contracts.datasets[name] for name in _raw_datasets(versions) if name in contracts.datasets]
    choices = [_conditions(key)] if "=" in key else _choices(datasets, key)
    best: dict[str, int] = {}
    for table, version in versions:
        best[table] = max(version, best.get(table, -1))
    found: list[TableRows] = []
    lines: list[SourceRow] = []
    without: list[str] = []
    looked_at: dict[str, tuple[str, ...]] = {}
    for table, version in best.items():
        columns = lake.schema(table, version=version)
        conditions = next((one for one in choices if set(one) <= set(columns)), None)
        if conditions is None:
            without.append(table)
            continue
        looked_at[table] = tuple(conditions)
        with lake.connect([table], as_of={table: version}) as session:
            matched = _matching(session, table, version, conditions)
            if matched.count == 0:
                continue
            found.append(matched)
            if TableName.parse(table).layer == "raw":
                lines += _lines(lake, session, table, conditions=conditions, versions=best, settings=settings)
    if not looked_at:
        raise _no_key(lake, versions[0], key, choices)
    if not found:
        places = "; ".join(f"{', '.join(columns)} in {table}" for table, columns in looked_at.items())
        raise LakehouseError(f"key {key}", "has no row", expected=f"a value of {places}", fix="Check the value, or name column=value")
    return RowTrail(tuple(found), tuple(lines), tuple(without))


def _no_key(lake: Lake, asked: tuple[str, int], key: str, choices: Sequence[Mapping[str, str]]) -> LakehouseError:
    """No table on the way has the columns of the key."""
    table, version = asked
    columns = [name for name in lake.schema(table, version=version) if not name.startswith("_")]
    shown = ", ".join(columns[:_SHOWN_COLUMNS]) + (" ..." if len(columns) > _SHOWN_COLUMNS else "")
    if "=" not in key:
        known = ", ".join(dict.fromkeys(name for choice in choices for name in choice if name != "row_id"))
        problem = f"is no value of a key that {table} or a table it came from has" + (f": none has {known}" if known else "")
        return LakehouseError(f"key {key}", problem, expected=f"column=value, with columns of {table}: {shown}", fix="Name the column")
    unknown = [name for name in choices[0] if name not in columns]
    close = difflib.get_close_matches(unknown[0], columns, n=1) if unknown else []
    return LakehouseError(
        f"key {key}",
        f"names {'columns' if len(unknown) > 1 else 'a column'} that neither {table} nor a table it came from has",
        expected=f"columns of {table}: {shown}",
        found=", ".join(unknown),
        fix=f"Did you mean {close[0]}?" if close else "Name another column",
    )


def _raw_datasets(versions: Sequence[tuple[str, int]]) -> list[str]:
    names = [TableName.parse(table) for table, _ in versions]
    return list(dict.fromkeys(one.name for one in names if one.layer == "raw"))


def _conditions(key: str) -> dict[str, str]:
    # A comma without a column after it is part of the value.
    parts = re.split(r",(?=[^,=]+=)", key)
    pairs = [part.partition("=") for part in parts]
    if any(not column.strip() for column, _, _ in pairs):
        raise LakehouseError(f"key {key}", "names no column", expected="column=value[,column=value]", fix="Write the column before =")
    return {column.strip(): value.strip() for column, _, value in pairs}


def _choices(datasets: Sequence[DatasetContract], key: str) -> list[dict[str, str]]:
    """What a bare value may be the value of, in order: an entity, a primary key, the row id of a dataset without one."""
    singles = [contract.entity for contract in datasets] + [contract.primary_key for contract in datasets] + [("row_id",)]
    return [{columns[0]: key} for columns in dict.fromkeys(singles) if len(columns) == 1]


def _where(conditions: Mapping[str, str]) -> str:
    return " AND ".join(f"CAST({quote_identifier(name)} AS VARCHAR) = {quote_literal(value)}" for name, value in conditions.items())


def _name(table: str) -> str:
    parsed = TableName.parse(table)
    return f"{quote_identifier(parsed.layer)}.{quote_identifier(parsed.name)}"


def _matching(session: Session, table: str, version: int, conditions: Mapping[str, str]) -> TableRows:
    cursor = session.con.execute(f"SELECT *, count(*) OVER () FROM {_name(table)} WHERE {_where(conditions)} ORDER BY ALL LIMIT {MAX_ROWS}")
    names = [str(column[0]) for column in cursor.description or ()]
    rows = cursor.fetchall()
    listed = tuple(dict(zip(names[:-1], row, strict=False)) for row in rows)
    return TableRows(table=table, version=version, count=rows[0][-1] if rows else 0, rows=listed)


def _lines(
    lake: Lake, session: Session, table: str, *, conditions: Mapping[str, str], versions: Mapping[str, int], settings: Settings
) -> list[SourceRow]:
    dataset = TableName.parse(table).name
    staging = f"staging.{dataset}"
    kept: set[tuple[str, int]] | None = None
    if staging in versions and {"_sha256", "_row"} <= set(lake.schema(staging, version=versions[staging])):
        with lake.connect([staging], as_of={staging: versions[staging]}) as later:
            kept = set(later.con.execute(f"SELECT _sha256, _row FROM {_name(staging)} WHERE {_where(conditions)}").fetchall())
    rows = session.con.execute(
        f"SELECT _file, _sha256, _row, _batch, _ingested_at FROM {_name(table)} WHERE {_where(conditions)} "
        f"ORDER BY _batch, _file, _row LIMIT {MAX_ROWS}"
    ).fetchall()
    archives = {digest: find_archived(lake, dataset, digest) for digest in {row[1] for row in rows}}
    return [
        SourceRow(
            dataset=dataset,
            file=file,
            sha256=digest,
            row=row,
            batch=batch,
            kept=kept is None or (digest, row) in kept,
            archive=archives[digest],
        )
        for file, digest, row, batch, _ in rows
    ]


def find_archived(lake: Lake, dataset: str, sha256: str) -> str | None:
    """Address of the original file's bytes, if they are there."""
    folder = f"files/{dataset}"
    days = lake.storage.folders(folder)
    for day, names in zip(days, lake.storage.files_of([f"{folder}/{day}" for day in days]), strict=True):
        for name in names:
            if name.startswith(sha256):
                return lake.storage.address(folder, day, name)
    return None
