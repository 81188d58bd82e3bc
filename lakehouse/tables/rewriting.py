"""Writes that depend on what the table holds: merge, delete and insert, replace where, delete.

Copy on write: only the files that hold an affected row are written again, all in one commit. When another writer was first
it is done over on the new version.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import duckdb
from deltalake.schema import PrimitiveType

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConstraintViolated, SchemaMismatch, TableError, TableNotFound
from lakehouse.sql import quote_identifier
from lakehouse.tables.damage import telling
from lakehouse.tables.feed import CHANGE_FOLDER, CHANGE_TYPE, changes_sql, has_feed, is_worth_a_file
from lakehouse.tables.operations import check_same_partition, evolved, made, skipped
from lakehouse.tables.pruning import may_hold
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.snapshot import FILE_COLUMN, DataFile, Snapshot
from lakehouse.tables.sources import Source, align, check_constraints, check_partition, inner, prepare_source
from lakehouse.tables.sql import quote_identifiers
from lakehouse.tables.stamp import Commit
from lakehouse.tables.types import TableColumn
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written, copy_rows, is_done


@dataclass(frozen=True, slots=True)
class Affected:
    """Which rows of the table go: `condition` over the alias `t`; `bounds` are the lowest and highest value by column."""

    condition: str
    bounds: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Touched:
    """The files that hold rows which go, and how many rows that are."""

    files: list[DataFile]
    rows: int


@contextmanager
def staged(con: duckdb.DuckDBPyConnection, source: Source) -> Iterator[Source]:
    """The source's rows as they are now, in a temporary table (which spills to disk): they are needed more than once."""
    name = quote_identifier(f"__lakehouse_source_{uuid.uuid4().hex}")
    con.execute(f"CREATE TEMP TABLE {name} AS {source.sql}")
    try:
        yield replace(source, sql=f"SELECT * FROM {name}")
    finally:
        con.execute(f"DROP TABLE IF EXISTS {name}")


@telling
def merge_rows(
    writer: TableWriter,
    con: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    key: Sequence[str],
    is_unique: bool,
    partition_by: Sequence[str],
    evolve: bool,
    intent: Intent,
    gone: str | None = None,
) -> Commit:
    """Rows whose key is in the query go, the query's rows come, but for those that satisfy `gone`.

    With `is_unique` it is a merge: each key may come once, and columns that the query lacks keep their value.
    """
    prepared = prepare_source(con, sql, writer.table)
    for name in key:
        if prepared.column(name) is None:
            raise SchemaMismatch(
                f"{writer.table}, key {name}",
                "is not a column of the query",
                expected=", ".join(column.name for column in prepared.columns),
                found=name,
                fix="Add it to the query, or name another key",
            )
    if not key:
        raise SchemaMismatch(str(writer.table), "needs a key to find rows by", fix="Name the columns that identify a row")
    snapshot = writer.open()
    if snapshot is not None and is_done(snapshot, intent.transaction):
        return skipped(writer, snapshot)
    with staged(con, prepared) as source:
        if is_unique:
            _refuse_duplicates(writer, con, source, key)
        match = " AND ".join(f"s.{quote_identifier(name)} IS NOT DISTINCT FROM t.{quote_identifier(name)}" for name in key)
        affected = Affected(f"EXISTS (SELECT 1 FROM {inner(source.sql)} s WHERE {match})", _key_bounds(con, source, key))
        come = source if gone is None else Source(f"SELECT * FROM {inner(source.sql)} WHERE ({gone}) IS NOT TRUE", source.columns)
        return _rewrite(writer, con, come, affected, key=key if is_unique else (), partition_by=partition_by, evolve=evolve, intent=intent)


@telling
def replace_rows_where(
    writer: TableWriter,
    con: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    where: str,
    partition_by: Sequence[str],
    evolve: bool,
    intent: Intent,
) -> Commit:
    """Rows that satisfy `where` go, the query's rows, which must all satisfy it, come."""
    prepared = prepare_source(con, sql, writer.table)
    snapshot = writer.open()
    if snapshot is not None and is_done(snapshot, intent.transaction):
        return skipped(writer, snapshot)
    with staged(con, prepared) as source:
        outside = con.execute(f"SELECT count(*) FROM {inner(source.sql)} t WHERE ({where}) IS NOT TRUE").fetchall()[0][0]
        if outside:
            raise ConstraintViolated(
                str(writer.table),
                f"{outside} rows to be written do not satisfy the condition they replace",
                expected=where,
                fix="Filter the query by it",
            )
        affected = Affected(f"({where}) IS TRUE", {})
        return _rewrite(writer, con, source, affected, key=(), partition_by=partition_by, evolve=evolve, intent=intent)


@telling
def delete_rows(
    writer: TableWriter, con: duckdb.DuckDBPyConnection, *, where: str, within: Mapping[str, tuple[Any, Any]], intent: Intent
) -> Commit:
    """Rows that satisfy `where` go; their values are `within` these bounds."""
    snapshot = writer.open()
    if snapshot is None:
        raise TableNotFound(str(writer.table), "does not exist", fix="Create it before deleting from it")
    if is_done(snapshot, intent.transaction):
        return skipped(writer, snapshot)
    affected = Affected(f"({where}) IS TRUE", dict(within))
    return _rewrite(writer, con, None, affected, key=(), partition_by=(), evolve=False, intent=intent)


def _rewrite(
    writer: TableWriter,
    con: duckdb.DuckDBPyConnection,
    source: Source | None,
    affected: Affected,
    *,
    key: Sequence[str],
    partition_by: Sequence[str],
    evolve: bool,
    intent: Intent,
) -> Commit:
    attempt = 1
    while True:
        snapshot = writer.open()
        if snapshot is not None and is_done(snapshot, intent.transaction):
            return skipped(writer, snapshot, attempt)
        writer.check_expected(snapshot, intent)
        try:
            if snapshot is not None:
                return _rewrite_version(
                    writer,
                    con,
                    source,
                    affected,
                    snapshot,
                    key=key,
                    partition_by=partition_by,
                    evolve=evolve,
                    intent=intent,
                    attempt=attempt,
                )
            if source is None:
                raise TableNotFound(str(writer.table), "does not exist", fix="Create it first")
            return _create(writer, con, source, partition_by=partition_by, intent=intent, attempt=attempt)
        except Conflict:
            wait_after_conflict(writer.table, attempt)
            attempt += 1


def _create(
    writer: TableWriter, con: duckdb.DuckDBPyConnection, source: Source, *, partition_by: Sequence[str], intent: Intent, attempt: int
) -> Commit:
    partition = check_partition(writer.table, partition_by, source.columns)
    written = copy_rows(con, source, writer.storage, writer.table, partition)
    try:
        version = writer.create(written, source.columns, partition, intent)
    except Conflict:
        writer.discard(written)
        raise
    return made(writer, version, written, removed=0, attempt=attempt)


def _rewrite_version(
    writer: TableWriter,
    con: duckdb.DuckDBPyConnection,
    source: Source | None,
    affected: Affected,
    snapshot: Snapshot,
    *,
    key: Sequence[str],
    partition_by: Sequence[str],
    evolve: bool,
    intent: Intent,
    attempt: int,
) -> Commit:
    if snapshot.has_dead_rows:
        raise TableError(
            str(writer.table), "has deletion vectors that another engine wrote", fix="Rewrite it with overwrite, then try again"
        )
    ready = snapshot
    aligned: Source | None = None
    if source is not None:
        ready = evolved(writer, snapshot, source, evolve=evolve, intent=intent)
        check_same_partition(writer, ready, partition_by)
        aligned = align(source, ready)
    touched = _touched_files(con, ready, affected)
    scan = ready.scan_sql(con, files=[file.uri for file in touched.files])
    names = quote_identifiers(column.name for column in ready.columns)
    come = 0 if source is None else con.execute(f"SELECT count(*) FROM {inner(source.sql)}").fetchall()[0][0]
    parts = [f"SELECT {names} FROM {inner(scan)} t WHERE NOT ({affected.condition})"] if touched.files else []
    if not parts and source is None:
        return skipped(writer, ready, attempt)
    with _told_rows(con, ready, scan, affected, touched, come=come, is_merge=bool(key)) as gone:
        new_rows = None
        if aligned is not None and source is not None:
            old = f"SELECT * FROM {gone}" if gone else scan
            new_rows = aligned.sql if not key or not touched.files else _keep_missing(source, aligned, ready.columns, old, key)
            check_constraints(con, ready, Source(new_rows, ready.columns))
            parts.append(f"SELECT {names} FROM {inner(new_rows)}")
        combined = Source("\nUNION ALL\n".join(parts), ready.columns)
        reached(Point.MID_MERGE)
        written = copy_rows(con, combined, writer.storage, writer.table, ready.partition_by)
        if gone:
            written = _with_changes(writer, con, ready, written, changes_sql(gone, new_rows, ready.columns, key))
    rows = touched.rows if source is None else come
    if not written.actions and not touched.files and intent.transaction is None:
        return skipped(writer, ready, attempt)
    try:
        version = writer.change(ready, written, touched.files, intent, rows=rows)
    except Conflict:
        writer.discard(written)
        raise
    return made(writer, version, written, removed=len(touched.files), attempt=attempt, rows=rows)


@contextmanager
def _told_rows(
    con: duckdb.DuckDBPyConnection, snapshot: Snapshot, scan: str, affected: Affected, touched: Touched, *, come: int, is_merge: bool
) -> Iterator[str | None]:
    """A temporary table of the rows that go, for the commit to tell of; None where its other actions tell as much."""
    counts = [file.rows for file in touched.files]
    there = None if any(rows is None for rows in counts) else sum(rows or 0 for rows in counts)
    is_whole = touched.rows == there and not is_merge
    rewritten = None if there is None else 2 * there + come
    if not touched.rows or is_whole or not has_feed(snapshot) or not is_worth_a_file(changed=touched.rows + come, rewritten=rewritten):
        yield None
        return
    name = quote_identifier(f"__lakehouse_gone_{uuid.uuid4().hex}")
    con.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {inner(scan)} t WHERE {affected.condition}")
    try:
        yield name
    finally:
        con.execute(f"DROP TABLE IF EXISTS {name}")


def _with_changes(writer: TableWriter, con: duckdb.DuckDBPyConnection, snapshot: Snapshot, written: Written, sql: str) -> Written:
    """What was written, together with files of the rows that go and come."""
    source = Source(sql, [*snapshot.columns, TableColumn(CHANGE_TYPE, PrimitiveType("string"))])
    try:
        reached(Point.BEFORE_CHANGES)
        changes = copy_rows(con, source, writer.storage, writer.table, snapshot.partition_by, inside=CHANGE_FOLDER)
    except BaseException:
        writer.discard(written)
        raise
    return replace(written, paths=[*written.paths, *changes.paths], changes=changes.actions)


def rows_that_stay(
    writer: TableWriter, con: duckdb.DuckDBPyConnection, snapshot: Snapshot, affected: Affected
) -> tuple[Written, list[DataFile]]:
    """New data files with what stays of those that hold an affected row, and the files that they stand for; nothing is committed."""
    if snapshot.has_dead_rows:
        raise TableError(
            str(writer.table), "has deletion vectors that another engine wrote", fix="Rewrite it with overwrite, then try again"
        )
    touched = _touched_files(con, snapshot, affected).files
    if not touched:
        return Written([], rows=0, size_bytes=0), []
    scan = snapshot.scan_sql(con, files=[file.uri for file in touched])
    names = quote_identifiers(column.name for column in snapshot.columns)
    kept = Source(f"SELECT {names} FROM {inner(scan)} t WHERE NOT ({affected.condition})", snapshot.columns)
    reached(Point.MID_MERGE)
    return copy_rows(con, kept, writer.storage, writer.table, snapshot.partition_by), touched


def _keep_missing(source: Source, aligned: Source, columns: Sequence[TableColumn], scan: str, key: Sequence[str]) -> str:
    """A merge's rows, where columns that the query lacks keep the value that the table has for the key."""
    missing = [column.name for column in columns if source.column(column.name) is None]
    if not missing:
        return aligned.sql
    match = " AND ".join(f"s.{quote_identifier(name)} IS NOT DISTINCT FROM o.{quote_identifier(name)}" for name in key)
    old = f"SELECT DISTINCT ON ({quote_identifiers(key)}) {quote_identifiers([*key, *missing])} FROM {inner(scan)}"
    picked = ", ".join(f"{'o' if column.name in missing else 's'}.{quote_identifier(column.name)}" for column in columns)
    return f"SELECT {picked} FROM {inner(aligned.sql)} s LEFT JOIN {inner(old)} o ON {match}"


def _touched_files(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, affected: Affected) -> Touched:
    candidates = [file for file in snapshot.files if may_hold(file, affected.bounds)]
    if not candidates:
        return Touched([], 0)
    scan = snapshot.scan_sql(con, files=[file.uri for file in candidates], with_file=True)
    column = quote_identifier(FILE_COLUMN)
    found = con.execute(f"SELECT {column}, count(*) FROM {inner(scan)} t WHERE {affected.condition} GROUP BY 1").fetchall()
    by_uri = {file.uri: file for file in candidates}
    return Touched([by_uri[uri] for uri, _ in found], sum(rows for _, rows in found))


def _key_bounds(con: duckdb.DuckDBPyConnection, source: Source, key: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Lowest and highest of each key column; none for a column with NULLs, which bounds say nothing about."""
    bounds: dict[str, tuple[Any, Any]] = {}
    for name in key:
        column = source.column(name)
        if column is None or column.sql_type not in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "VARCHAR", "DATE", "TIMESTAMP"):
            continue
        quoted = quote_identifier(column.name)
        query = f"SELECT min({quoted}), max({quoted}), count(*) - count({quoted}) FROM {inner(source.sql)}"
        low, high, nulls = con.execute(query).fetchall()[0]
        if not nulls and low is not None:
            bounds[column.name] = (low, high)
    return bounds


def _refuse_duplicates(writer: TableWriter, con: duckdb.DuckDBPyConnection, source: Source, key: Sequence[str]) -> None:
    names = quote_identifiers(key)
    groups = f"SELECT CAST(ROW({names}) AS VARCHAR) AS shown FROM {inner(source.sql)} GROUP BY {names} HAVING count(*) > 1"
    query = f"SELECT count(*), any_value(shown) FROM ({groups})"
    count, shown = con.execute(query).fetchall()[0]
    if count:
        raise ConstraintViolated(
            f"{writer.table}, key {', '.join(key)}",
            f"{count} keys come more than once in the rows to merge",
            expected="each key once",
            found=f"for example {shown}",
            fix="Deduplicate the query, or use delete_insert",
        )
