"""The one write path: DuckDB writes Parquet files into the table's folder, one Delta commit makes them visible.

A commit is tried on exactly the version that was looked at. Whoever comes second looks again: two writers can never both
build on the same version, whatever they do.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
from deltalake import CommitProperties, Schema, TableFeatures
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions
from deltalake.transaction import Transaction as DeltaTransaction

from lakehouse.crashpoints import Point, reached
from lakehouse.durable import flushing
from lakehouse.errors import ConcurrentWrite, ErasedMeanwhile, SchemaMismatch, StorageError, TableError
from lakehouse.sql import quote_literal
from lakehouse.tables.damage import explained, half_written_removed, telling
from lakehouse.tables.entries import commit_entry, create_entry
from lakehouse.tables.feed import feed_features, feed_properties
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.snapshot import DataFile, Snapshot, partition_text
from lakehouse.tables.sources import Source
from lakehouse.tables.sql import quote_identifiers
from lakehouse.tables.stamp import COMMITTED_AT, USER, Stamp, Transaction, machine_user
from lakehouse.tables.statistics import file_statistics
from lakehouse.tables.storage import Storage
from lakehouse.tables.types import TableColumn, has_local_timestamp

SERIAL = "lakehouse.serial"
"""Application transaction in every commit: writers other than ours that honour conflicts also conflict with us."""

_COMMIT_ID = "lakehouse.commit"
# Parquet's newer encodings (deltas for numbers and texts) with the lightest zstd: a quarter less work to write, smaller and faster to
# read than the defaults; pyarrow, delta-rs, polars and Spark read them.
PARQUET_OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION V2"
_FILE_SIZE_BYTES = 256 * 1024 * 1024
# Commits carry the stamps that lineage is made of: they outlive Delta's default of 30 days.
# Opening a table replays the commits since its last checkpoint: fewer of them keeps the thousandth write as fast as the tenth.
_PROPERTIES = {"delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "25"}


class Conflict(Exception):
    """Another writer's commit came first."""


@dataclass(frozen=True, slots=True)
class Written:
    """Data files that are in the table's folder but in no version yet.

    Attributes:
        paths: of all files, in the root.
        changes: files with the rows that go and come, which say so in a column of their own.
    """

    actions: list[AddAction]
    rows: int
    size_bytes: int
    paths: list[str] = field(default_factory=list)
    changes: list[AddAction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Intent:
    """What is asked of a write beyond its rows; `also` are transactions that the commit makes without being bound to them."""

    operation: str
    stamp: Stamp
    transaction: Transaction | None = None
    expect_version: int | None = None
    also: tuple[Transaction, ...] = ()


@telling
def copy_rows(
    con: duckdb.DuckDBPyConnection, source: Source, storage: Storage, table: TableName, partition_by: Sequence[str], *, inside: str = ""
) -> Written:
    """Write the rows as data files into the table's folder, or one `inside` it; no version has them yet."""
    folder = f"{table.layer}/{table.name}"
    base = storage.address(folder) + "/"
    target = f"{folder}/{inside}".rstrip("/")
    storage.make_folder(target)
    address = storage.address(target)
    reached(Point.BEFORE_DATA_FILES)
    prefix = f"part-{uuid.uuid4().hex[:8]}-"
    options = [f"{PARQUET_OPTIONS}, RETURN_STATS, OVERWRITE_OR_IGNORE, FILENAME_PATTERN '{prefix}{{uuid}}'"]
    options.append(f"PARTITION_BY ({quote_identifiers(partition_by)})" if partition_by else f"FILE_SIZE_BYTES {_FILE_SIZE_BYTES}")
    copy = f"COPY ({source.sql}) TO {quote_literal(address)} ({', '.join(options)})"
    with half_written_removed(storage, target, prefix), flushing(f"{address}/", prefix) if storage.is_local else nullcontext():
        returned = con.execute(copy).fetchall()
    types = {column.name: column.sql_type for column in source.columns}
    in_file = [column for column in source.columns if column.name not in partition_by]
    actions: list[AddAction] = []
    empty: list[str] = []
    now_ms = int(time.time() * 1000)
    for written_to, rows, size, _footer, statistics, keys, *_ in returned:
        path = str(written_to).removeprefix(base)
        if rows == 0:
            empty.append(path)
            continue
        values = {name: _partition_value(types[name], (keys or {}).get(name)) for name in partition_by}
        _refuse_empty_partition(table, values)
        actions.append(AddAction(path, size, values, now_ms, True, file_statistics(rows, statistics or {}, in_file)))
    storage.delete(f"{folder}/{path}" for path in empty)
    reached(Point.AFTER_DATA_FILES)
    return Written(
        actions,
        rows=sum(json.loads(action.stats)["numRecords"] for action in actions),
        size_bytes=sum(action.size for action in actions),
        paths=[f"{folder}/{action.path}" for action in actions],
    )


def _partition_value(kind: str, text: str | None) -> str | None:
    """DuckDB's text of a value as the log has it when it is read back, so that both can be compared."""
    return partition_text(datetime.fromisoformat(text)) if kind == "TIMESTAMP" and text else text


def _refuse_empty_partition(table: TableName, values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value == "":
            raise SchemaMismatch(
                f"{table}, partition column {name}",
                "has an empty text, which a Delta partition can't tell from NULL",
                fix=f"Write nullif({name}, '') or another value in the query",
            )


def removal(file: DataFile, *, changes_data: bool = True) -> RemoveAction:
    """The action that takes a file of the current version out of the next."""
    return RemoveAction(file.path, changes_data, int(time.time() * 1000), file.size, dict(file.partition))


class TableWriter:
    """Commits to one table, each on exactly the version it was prepared for.

    Attributes:
        check: called right before a commit; raises if it may not be made.
    """

    def __init__(self, storage: Storage, table: TableName, log: CommitLog, *, check: Callable[[], None] | None = None) -> None:
        self.storage = storage
        self.table = table
        self.log = log
        self.check = check
        self.uri = storage.address(table.layer, table.name)
        # Data files of commits that were begun: whatever interrupts one, they may be the table's.
        self._in_doubt: set[str] = set()

    def open(self) -> Snapshot | None:
        """The newest version, or None if there is no table."""
        return Snapshot.open(self.storage, self.table)

    def discard(self, written: Written | None) -> None:
        """Remove data files that no version will have; those of a commit that may have been made after all stay."""
        if written is not None:
            self.storage.delete([path for path in written.paths if path not in self._in_doubt])

    def check_expected(self, snapshot: Snapshot | None, intent: Intent) -> None:
        """Raise ConcurrentWrite if the table is not at the version that the caller's rows were made from."""
        found = -1 if snapshot is None else snapshot.version
        if intent.expect_version is not None and not self._has_rows_of(found, intent.expect_version):
            raise ConcurrentWrite(
                str(self.table),
                "was changed by another writer after it was read; nothing was written",
                expected=f"version {intent.expect_version}",
                found="no table" if snapshot is None else f"version {found}",
                fix="Read it again and write again",
            )

    def _has_rows_of(self, found: int, expected: int) -> bool:
        """Whether the versions are the same, but for maintenance, which has changed no row that was read."""
        return found == expected or self.log.content_version(found) == self.log.content_version(expected)

    def create(self, written: Written, columns: Sequence[TableColumn], partition_by: Sequence[str], intent: Intent) -> int:
        """Make version 0.

        Raises:
            Conflict: somebody else has made it.
        """
        properties, commit_id = self._properties(-1, intent, written.rows)

        configuration = _PROPERTIES | feed_properties(columns)

        def commit() -> None:
            create_table_with_add_actions(
                self.uri, _schema(columns), written.actions, mode="error", partition_by=list(partition_by), configuration=configuration,
                storage_options=self.storage.options or None, commit_properties=properties,
            )  # fmt: skip

        return self._commit(-1, commit_id, commit, written)

    def replace(
        self, snapshot: Snapshot, written: Written, columns: Sequence[TableColumn], partition_by: Sequence[str], intent: Intent
    ) -> int:
        """Make a version that holds the written files only, with these columns and partitions.

        Raises:
            Conflict: somebody else has committed.
        """
        nullable = {column.key: column.is_nullable for column in snapshot.columns}
        kept = [TableColumn(column.name, column.type, nullable.get(column.key, True)) for column in columns]
        properties, commit_id = self._properties(snapshot.version, intent, written.rows)
        is_same_partition = tuple(partition_by) == snapshot.partition_by

        def commit() -> None:
            if is_same_partition:
                snapshot.delta.create_write_transaction(
                    list(written.actions), "overwrite", _schema(kept), list(partition_by), commit_properties=properties
                )
            else:
                create_table_with_add_actions(
                    self.uri, _schema(kept), written.actions, mode="overwrite", partition_by=list(partition_by),
                    configuration=snapshot.configuration, storage_options=self.storage.options or None, commit_properties=properties,
                )  # fmt: skip

        return self._commit(snapshot.version, commit_id, commit, written, is_blind=not is_same_partition)

    def change(
        self,
        snapshot: Snapshot,
        written: Written,
        removed: Sequence[DataFile],
        intent: Intent,
        *,
        rows: int,
        changes_data: bool = True,
    ) -> int:
        """Make a version with the written files added and others removed; without `changes_data` its rows are the same as before.

        Raises:
            Conflict: somebody else has committed.
        """
        properties, commit_id = self._properties(snapshot.version, intent, rows)
        actions = [*written.actions, *(removal(file, changes_data=changes_data) for file in removed)]

        def commit() -> None:
            if written.changes:
                create_entry(self.storage, snapshot, commit_entry(snapshot, properties, written.actions, removed, written.changes))
                return
            snapshot.delta.create_write_transaction(
                actions, "append", snapshot.delta.schema(), list(snapshot.partition_by), commit_properties=properties
            )

        return self._commit(snapshot.version, commit_id, commit, written)

    def restore(self, snapshot: Snapshot, version: int, intent: Intent, *, rows: int, app_id: str) -> int:
        """Make a version that holds what another holds; `app_id` is the transaction that remembers it.

        Raises:
            Conflict: somebody else has committed.
        """
        properties, commit_id = self._properties(snapshot.version, intent, rows, more={"lakehouse.restored": str(version)})
        properties.app_transactions = [*(properties.app_transactions or []), DeltaTransaction(app_id, snapshot.version + 1)]

        def commit() -> None:
            snapshot.delta.restore(version, commit_properties=properties)

        return self._commit(snapshot.version, commit_id, commit)

    def add_columns(self, snapshot: Snapshot, columns: Sequence[TableColumn], intent: Intent) -> Snapshot:
        """Make a version that has more columns, all NULL, and return it.

        Raises:
            Conflict: somebody else has committed.
        """
        snapshot = self.allow_types(snapshot, columns, intent)
        properties, commit_id = self._properties(snapshot.version, intent, 0, operation="add_columns")
        fields = [column.field(is_everywhere=False) for column in columns]
        version = self._commit(snapshot.version, commit_id, lambda: snapshot.delta.alter.add_columns(fields, commit_properties=properties))
        reached(Point.MID_EVOLUTION)
        return self._open_at(version)

    def allow_types(self, snapshot: Snapshot, columns: Iterable[TableColumn], intent: Intent) -> Snapshot:
        """The table able to hold the columns' types: timestamps without zone are a feature that a table must declare.

        Raises:
            Conflict: somebody else has committed.
        """
        if "timestampNtz" in snapshot.features or not any(has_local_timestamp(column.type) for column in columns):
            return snapshot
        properties, commit_id = self._properties(snapshot.version, intent, 0, operation="add_feature")

        def commit() -> None:
            # delta-rs would forget what older protocols have without saying so.
            features = [TableFeatures.TimestampWithoutTimezone, *feed_features(snapshot)]
            snapshot.delta.alter.add_feature(features, allow_protocol_versions_increase=True, commit_properties=properties)

        version = self._commit(snapshot.version, commit_id, commit)
        reached(Point.MID_EVOLUTION)
        return self._open_at(version)

    def _open_at(self, version: int) -> Snapshot:
        """The newest version, which must be this one: what comes next builds on it."""
        snapshot = self.open()
        if snapshot is None or snapshot.version != version:
            raise Conflict
        return snapshot

    def _properties(
        self, version: int, intent: Intent, rows: int, *, operation: str | None = None, more: Mapping[str, str] | None = None
    ) -> tuple[CommitProperties, str]:
        commit_id = uuid.uuid4().hex
        transactions = [DeltaTransaction(SERIAL, version + 1)]
        # Columns and features are prepared ahead of the rows: only the commit with the rows settles the transaction.
        if intent.transaction is not None and operation is None:
            transactions += [DeltaTransaction(one.app_id, one.version) for one in (intent.transaction, *intent.also)]
        metadata = (
            intent.stamp.metadata()
            | dict(more or {})
            | self._later_than(version)
            | {
                "lakehouse.operation": operation or intent.operation,
                "lakehouse.rows": str(rows),
                _COMMIT_ID: commit_id,
                USER: machine_user(),
            }
        )
        # No retry inside delta-rs: it would put our files on top of a version that we have not looked at.
        return CommitProperties(custom_metadata=metadata, max_commit_retries=0, app_transactions=transactions), commit_id

    def _later_than(self, version: int) -> dict[str, str]:
        """The time of a commit on this version, where the clock says that it was made before it."""
        base = self.log.commits([version])
        before_ms = int(base[0].timestamp.timestamp() * 1000) if base else 0
        return {COMMITTED_AT: str(before_ms + 1)} if before_ms >= time.time() * 1000 else {}

    def _commit(
        self, version: int, commit_id: str, commit: Callable[[], None], written: Written | None = None, *, is_blind: bool = False
    ) -> int:
        """Make one commit on a version, and return the version that it made. When this returns a power cut can't undo it.

        Args:
            version: what to build on, -1 for no table.
            commit_id: what the commit is known by.
            commit: makes it.
            written: the data files that it makes visible.
            is_blind: it looks up for itself what to build on: this version, or one a little later.

        Raises:
            Conflict: somebody else has committed.
            ErasedMeanwhile: its rows were read before somebody was erased.
            TableError: it can't be made, or what it rests on can't be brought to disk.
        """
        self.log.base_to_disk(version, written.paths if written else ())
        reached(Point.BEFORE_COMMIT)
        self._check(written)
        paths = written.paths if written else ()
        self._in_doubt.update(paths)
        try:
            commit()
        except (DeltaError, OSError, StorageError) as error:
            try:
                made = self._after_failure(version, commit_id, error)
            except Conflict:
                self._in_doubt.difference_update(paths)
                raise
        else:
            made = self._version_of(commit_id, version + 1) if is_blind else version + 1
        self.log.commit_to_disk(made)
        reached(Point.AFTER_COMMIT)
        return made

    def _check(self, written: Written | None) -> None:
        if self.check is None:
            return
        try:
            self.check()
        except ErasedMeanwhile:
            self.discard(written)
            raise

    def _version_of(self, commit_id: str, version: int) -> int:
        """The version of our own commit: this one, or a few later."""
        while (made := self.log.commit_metadata(version)) is not None and made.get(_COMMIT_ID) != commit_id:
            version += 1
        return version

    def _after_failure(self, version: int, commit_id: str, error: Exception) -> int:
        """Find out what became of a commit that failed: ours after all, somebody else's, or an error of another kind."""
        made = self.log.commit_metadata(version + 1)
        if made is None:
            undone = "Nothing was written; the table is as it was"
            raise explained(error) or TableError(str(self.table), f"could not be committed to: {error}", fix=undone) from error
        if made.get(_COMMIT_ID) == commit_id:
            return version + 1
        raise Conflict from error


def _schema(columns: Sequence[TableColumn]) -> Schema:
    return Schema([column.field(is_everywhere=True) for column in columns])


def is_done(snapshot: Snapshot | None, transaction: Transaction | None) -> bool:
    """True if the transaction, or a later one of the same source, is in the table."""
    if snapshot is None or transaction is None:
        return False
    found = snapshot.transaction(transaction.app_id)
    return found is not None and found >= transaction.version
