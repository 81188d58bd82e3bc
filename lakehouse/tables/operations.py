"""Writes that need nothing of what the table holds: create or replace, append, replace partitions."""

from collections.abc import Callable, Sequence

import duckdb

from lakehouse.errors import ConcurrentWrite, SchemaMismatch
from lakehouse.tables.damage import telling
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.snapshot import DataFile, Snapshot
from lakehouse.tables.sources import Source, align, check_constraints, check_partition, new_columns, prepare_source
from lakehouse.tables.stamp import Commit
from lakehouse.tables.types import TableColumn
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written, copy_rows, is_done

Removes = Callable[[Snapshot, Written], list[DataFile]]


def skipped(writer: TableWriter, snapshot: Snapshot, attempt: int = 1) -> Commit:
    """The answer to a write that had nothing to do."""
    return Commit(writer.table, snapshot.version, snapshot.version, attempts=attempt, skipped=True)


def made(writer: TableWriter, version: int, written: Written, *, removed: int, attempt: int, rows: int | None = None) -> Commit:
    """The answer to a write that was committed."""
    return Commit(
        writer.table,
        version,
        version - 1 if version else None,
        rows=written.rows if rows is None else rows,
        files_added=len(written.actions),
        files_removed=removed,
        bytes_added=written.size_bytes,
        attempts=attempt,
    )


@telling
def create_or_replace(
    writer: TableWriter, con: duckdb.DuckDBPyConnection, sql: str, *, partition_by: Sequence[str], intent: Intent
) -> Commit:
    """The table holds exactly the query's rows and columns afterwards, whatever it was before."""
    source = prepare_source(con, sql, writer.table)
    partition = check_partition(writer.table, partition_by, source.columns)
    snapshot = writer.open()
    if snapshot is not None:
        if is_done(snapshot, intent.transaction):
            return skipped(writer, snapshot)
        writer.check_expected(snapshot, intent)
        _check_kept_constraints(con, snapshot, source)
    looked_at = snapshot.version if snapshot is not None else None
    written = copy_rows(con, source, writer.storage, writer.table, partition)
    attempt = 1
    try:
        while True:
            snapshot = writer.open()
            if snapshot is not None and is_done(snapshot, intent.transaction):
                writer.discard(written)
                return skipped(writer, snapshot, attempt)
            try:
                writer.check_expected(snapshot, intent)
                if snapshot is None:
                    version = writer.create(written, source.columns, partition, intent)
                    return made(writer, version, written, removed=0, attempt=attempt)
                if snapshot.version != looked_at:
                    _check_kept_constraints(con, snapshot, source)
                ready = writer.allow_types(snapshot, source.columns, intent)
                version = writer.replace(ready, written, source.columns, partition, intent)
                return made(writer, version, written, removed=len(ready.addresses()), attempt=attempt)
            except Conflict:
                wait_after_conflict(writer.table, attempt)
                attempt += 1
    except ConcurrentWrite:
        writer.discard(written)
        raise


def _check_kept_constraints(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, source: Source) -> None:
    """NOT NULL holds for a column that stays; a CHECK holds as long as the table does."""
    missing = [column.name for column in snapshot.columns if not column.is_nullable and source.column(column.name) is None]
    if missing:
        raise SchemaMismatch(
            f"{snapshot.table}, column {missing[0]}", "may not be NULL in the table and is not in the query", fix="Add it to the query"
        )
    check_constraints(con, snapshot, source)


@telling
def add_rows(
    writer: TableWriter,
    con: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    partition_by: Sequence[str],
    evolve: bool,
    removes: Removes | None,
    intent: Intent,
) -> Commit:
    """Append the query's rows; `removes` names the files that go in the same commit."""
    source = prepare_source(con, sql, writer.table)
    written: Written | None = None
    shape: list[TableColumn] | None = None
    attempt = 1
    try:
        while True:
            snapshot = writer.open()
            if snapshot is not None and is_done(snapshot, intent.transaction):
                writer.discard(written)
                return skipped(writer, snapshot, attempt)
            writer.check_expected(snapshot, intent)
            try:
                if snapshot is None:
                    partition = check_partition(writer.table, partition_by, source.columns)
                    written, shape = copy_rows(con, source, writer.storage, writer.table, partition), None
                    version = writer.create(written, source.columns, partition, intent)
                    return made(writer, version, written, removed=0, attempt=attempt)
                ready = evolved(writer, snapshot, source, evolve=evolve, intent=intent)
                check_same_partition(writer, ready, partition_by)
                # The files of a lost attempt are as good on the next version, unless its columns have changed.
                if written is None or shape != ready.columns:
                    writer.discard(written)
                    aligned = align(source, ready)
                    check_constraints(con, ready, aligned)
                    written, shape = copy_rows(con, aligned, writer.storage, writer.table, ready.partition_by), ready.columns
                removed = removes(ready, written) if removes else []
                if not written.actions and not removed and intent.transaction is None:
                    return skipped(writer, ready, attempt)
                version = writer.change(ready, written, removed, intent, rows=written.rows)
                return made(writer, version, written, removed=len(removed), attempt=attempt)
            except Conflict:
                if snapshot is None:
                    writer.discard(written)
                    written = None
                wait_after_conflict(writer.table, attempt)
                attempt += 1
    except ConcurrentWrite:
        writer.discard(written)
        raise


def evolved(writer: TableWriter, snapshot: Snapshot, source: Source, *, evolve: bool, intent: Intent) -> Snapshot:
    """The table with the source's new columns in it.

    Raises:
        SchemaMismatch: there are new columns and `evolve` is false.
        Conflict: somebody else has committed.
    """
    added = new_columns(source, snapshot)
    if not added:
        return snapshot
    if not evolve:
        raise SchemaMismatch(
            f"{writer.table}, column {added[0].name}",
            "is not in the table, and adding columns was not allowed",
            expected=", ".join(column.name for column in snapshot.columns),
            found=", ".join(column.name for column in added),
            fix="Leave it out of the query, or allow the table to evolve",
        )
    align(source, snapshot)
    return writer.add_columns(snapshot, added, intent)


def check_same_partition(writer: TableWriter, snapshot: Snapshot, partition_by: Sequence[str]) -> None:
    """Raise SchemaMismatch if other partition columns are asked for than the table has."""
    asked = tuple(name.casefold() for name in partition_by)
    if asked and asked != tuple(name.casefold() for name in snapshot.partition_by):
        raise SchemaMismatch(
            str(writer.table),
            "is partitioned by other columns",
            expected=", ".join(snapshot.partition_by) or "no partition columns",
            found=", ".join(partition_by),
            fix="Leave partition_by out, or replace the table with overwrite",
        )


def files_of_new_partitions(snapshot: Snapshot, written: Written) -> list[DataFile]:
    """The table's files in those partitions that the written files are in."""
    keys = {tuple(action.partition_values.get(name) for name in snapshot.partition_by) for action in written.actions}
    return [file for file in snapshot.files if tuple(file.partition[name] for name in snapshot.partition_by) in keys]
