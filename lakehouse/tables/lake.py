"""All tables under one root."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from deltalake import DeltaTable

from lakehouse.errors import SchemaMismatch, TableNotFound, VersionGone
from lakehouse.tables.erasures import Erasures
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.operations import add_rows, create_or_replace, files_of_new_partitions
from lakehouse.tables.rewriting import delete_rows, merge_rows, replace_rows_where
from lakehouse.tables.session import Session, open_connection, prepare_connection, reach_storage, register_view
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.stamp import Commit, CommitInfo, Stamp, TableDetail, Transaction
from lakehouse.tables.storage import Storage
from lakehouse.tables.upkeep import Upkeep
from lakehouse.tables.versions import AsOf, Versions
from lakehouse.tables.writing import Intent, TableWriter

if TYPE_CHECKING:
    from lakehouse.settings import Settings

_NOT_LAYERS = {"files", "locks"}
_PARALLEL = 16
_LOG_FOLDER = "_delta_log"

Name = TableName | str


class Lake(Upkeep, Versions):
    """Every Delta table at `<root>/<layer>/<name>`; the folders are the catalogue.

    A write is given a connection and a SELECT that runs on it. Its rows become visible in one commit, all or none, and the
    commit carries the stamp. A write can be killed at any instant: the table stays at its old version, and running it again
    does it. All methods may be called from several threads, each with its own connection.

    Args:
        uri: a folder, or `s3://bucket/prefix`.
        storage_options: what delta-rs needs to reach it, such as AWS_ENDPOINT_URL.
        memory_limit: DuckDB's, per session.
        threads: DuckDB's, per session; default all cores.
        spill_dir: where sessions put what does not fit into memory.
        root: of the tables, if this is a tier of their archive: erasures are marked there.
    """

    def __init__(
        self,
        uri: str | Path,
        *,
        storage_options: Mapping[str, str] | None = None,
        memory_limit: str = "2GB",
        threads: int | None = None,
        spill_dir: Path | str | None = None,
        root: Storage | None = None,
    ) -> None:
        self.storage = Storage(str(uri), storage_options or {})
        self._memory_limit = memory_limit
        self._threads = threads
        self._spill_dir = Path(spill_dir) if spill_dir is not None else None
        self._logs: dict[TableName, CommitLog] = {}
        self.erasures = Erasures(root or self.storage)

    @classmethod
    def from_settings(cls, settings: "Settings") -> "Lake":
        """The lake of a home."""
        return cls(
            settings.tables_uri,
            storage_options=settings.storage_options,
            memory_limit=settings.memory_limit,
            threads=settings.threads,
            spill_dir=settings.spill_dir,
        )

    @property
    def uri(self) -> str:
        """The root, absolute and without a trailing slash."""
        return self.storage.root

    # ---- sessions

    def connect(self, tables: Iterable[Name] | None = None, *, as_of: Mapping[str, AsOf] | None = None) -> Session:
        """An in-memory DuckDB with a view per table, each pinned to one version.

        Args:
            tables: which tables to register; None registers all, an empty one none.
            as_of: version or time by `layer.name`, for those that are not read at their newest; they are registered too.

        Raises:
            TableNotFound: a table that was asked for by name, or a version of it, is not there.
        """
        pinned = {TableName.parse(name): at for name, at in (as_of or {}).items()}
        is_all = tables is None
        names = self.tables() if tables is None else [TableName.parse(name) for name in tables]
        wanted = list(dict.fromkeys([*names, *pinned]))
        con = self.open_connection()
        with ThreadPoolExecutor(_PARALLEL) as pool:
            opened = list(pool.map(lambda name: self._find(name, pinned.get(name)), wanted))
            # Ahead of the views, so that a bucket is asked for the logs of all tables at once.
            list(pool.map(self._content_of, [snapshot for snapshot in opened if snapshot is not None]))
        session = Session(con, self.snapshot, self._content_of)
        try:
            for name, snapshot in zip(wanted, opened, strict=True):
                if snapshot is not None:
                    session.register(snapshot)
                elif not is_all or name in pinned:
                    raise self._not_found(name)
        except BaseException:
            con.close()
            raise
        return session

    def open_connection(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection without views that can read and write this root."""
        con = open_connection(memory_limit=self._memory_limit, threads=self._threads, spill_dir=self._spill_dir)
        reach_storage(con, self.storage)
        self.erasures.begin(con)
        return con

    def configure(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make a connection that somebody else opened (dbt) able to read and write this root."""
        prepare_connection(con)
        reach_storage(con, self.storage)
        self.erasures.begin(con)

    def register(self, con: duckdb.DuckDBPyConnection, table: Name, *, version: AsOf | None = None) -> int:
        """Make or replace the view `layer.name` on any connection; returns the version it is pinned to.

        Raises:
            TableNotFound: there is no such table or version.
        """
        snapshot = self.snapshot(table, version)
        register_view(con, snapshot)
        return snapshot.version

    # ---- looking

    def tables(self) -> list[TableName]:
        """Every table, sorted."""
        layers = [layer for layer in self.storage.folders() if layer not in _NOT_LAYERS and _is_part(layer)]
        names = [
            (layer, name) for layer, found in zip(layers, self.storage.folders_of(layers), strict=True) for name in found if _is_part(name)
        ]
        inside = self.storage.folders_of([f"{layer}/{name}" for layer, name in names])
        return sorted(
            TableName(layer, name)
            for (layer, name), found in zip(names, inside, strict=True)
            if _LOG_FOLDER in found and self.exists(f"{layer}.{name}")
        )

    def exists(self, table: Name) -> bool:
        """True if the table has a version."""
        name = TableName.parse(table)
        # Listing the log is several times as fast as asking delta-rs, which opens it.
        return bool(self._log(name).versions()) or DeltaTable.is_deltatable(
            self.storage.address(name.layer, name.name), self.storage.options or None
        )

    def snapshot(self, table: Name, version: AsOf | None = None) -> Snapshot:
        """One version of a table, for what the other methods do not offer.

        Raises:
            TableNotFound: there is no such table or version.
        """
        name = TableName.parse(table)
        found = self._find(name, version)
        if found is None:
            raise self._not_found(name)
        return found

    def version(self, table: Name) -> int | None:
        """The newest version, or None if there is no such table."""
        found = self._find(TableName.parse(table), None)
        return None if found is None else found.version

    def version_at(self, table: Name, instant: datetime) -> int:
        """The version that was current at an instant; without a zone it is taken as UTC.

        Raises:
            TableNotFound: there is no such table, or it is younger.
        """
        name = TableName.parse(table)
        if not self.exists(name):
            raise self._not_found(name)
        return self._log(name).version_at(instant)

    def history(self, table: Name, limit: int | None = None) -> list[CommitInfo]:
        """The table's commits, newest first.

        Raises:
            TableNotFound: there is no such table.
        """
        name = TableName.parse(table)
        if not self.exists(name):
            raise self._not_found(name)
        return self._log(name).history(limit)

    def schema(self, table: Name, version: AsOf | None = None) -> dict[str, str]:
        """DuckDB's type of every column, in the table's order.

        Raises:
            TableNotFound: there is no such table or version.
        """
        return {column.name: column.sql_type for column in self.snapshot(table, version).columns}

    def detail(self, table: Name, version: AsOf | None = None) -> TableDetail:
        """Size and shape of a version, from its log alone.

        Raises:
            TableNotFound: there is no such table or version.
        """
        snapshot = self.snapshot(table, version)
        known = [file.rows for file in snapshot.files]
        has_rows = all(rows is not None for rows in known) and not snapshot.has_dead_rows
        return TableDetail(
            table=snapshot.table,
            version=snapshot.version,
            rows=sum(rows or 0 for rows in known) if has_rows else snapshot.delta.count(),
            bytes=sum(file.size for file in snapshot.files),
            files=len(snapshot.files),
            partition_by=snapshot.partition_by,
            columns={column.name: column.sql_type for column in snapshot.columns},
        )

    def scan_sql(self, table: Name, *, version: AsOf | None = None, con: duckdb.DuckDBPyConnection | None = None) -> str:
        """A SELECT over exactly one version of a table, to stand in any query.

        Raises:
            TableNotFound: there is no such table or version.
        """
        snapshot = self.snapshot(table, version)
        if con is not None:
            return snapshot.scan_sql(con)
        own = self.open_connection()
        try:
            return snapshot.scan_sql(own)
        finally:
            own.close()

    def transaction(self, table: Name, app_id: str) -> int | None:
        """The newest transaction of a source that the table holds, or None."""
        name = TableName.parse(table)
        # Mostly the newest commit says so itself, and reading it is much cheaper than opening a table of many versions.
        newest = self._log(name).newest_transaction(app_id)
        if newest is not None:
            return newest
        found = self._find(name, None)
        return None if found is None else found.transaction(app_id)

    # ---- writing

    def overwrite(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        expect_version: int | None = None,
    ) -> Commit:
        """Create the table, or replace its rows, columns and partitions; earlier versions stay readable.

        Args:
            con: runs the query.
            table: `layer.name`.
            sql: a SELECT; no rows makes an empty table with its columns.
            stamp: where the commit comes from.
            partition_by: partition columns.
            transaction: skip the write if the table already holds it.
            expect_version: the version the query has read (-1: no table).

        Raises:
            SchemaMismatch: a column's name or type can't be stored.
            ConstraintViolated: rows break NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("overwrite", stamp, transaction, expect_version)
        return create_or_replace(self._writer(table, con), con, sql, partition_by=partition_by, intent=intent)

    def append(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        evolve: bool = True,
        expect_version: int | None = None,
    ) -> Commit:
        """Add the query's rows; creates the table when it is missing.

        Columns are matched by name; those that the query lacks are NULL.

        Args:
            con: runs the query.
            table: `layer.name`.
            sql: a SELECT.
            stamp: where the commit comes from.
            partition_by: partition columns, if the table is created.
            transaction: skip the write if the table already holds it.
            evolve: add columns that the table lacks; otherwise they are refused.
            expect_version: the version the query has read (-1: no table).

        Raises:
            SchemaMismatch: a column can't be stored, or does not fit the table's type without loss.
            ConstraintViolated: rows break NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("append", stamp, transaction, expect_version)
        return add_rows(self._writer(table, con), con, sql, partition_by=partition_by, evolve=evolve, removes=None, intent=intent)

    def replace_partitions(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        evolve: bool = True,
        expect_version: int | None = None,
    ) -> Commit:
        """Replace whole partitions: those that the query has rows for; the others stay as they are.

        A query without rows changes nothing; to empty a partition use `replace_where` or `delete`.

        Raises:
            SchemaMismatch: the table has no partitions, or a column can't be stored or does not fit.
            ConstraintViolated: rows break NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        writer = self._writer(table, con)
        snapshot = writer.open()
        if not (snapshot.partition_by if snapshot else partition_by):
            raise SchemaMismatch(
                str(writer.table), "has no partitions to replace", fix="Create it with partition_by, or use merge or replace_where"
            )
        intent = Intent("replace_partitions", stamp, transaction, expect_version)
        return add_rows(writer, con, sql, partition_by=partition_by, evolve=evolve, removes=files_of_new_partitions, intent=intent)

    def merge(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        key: Sequence[str],
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        evolve: bool = True,
        expect_version: int | None = None,
    ) -> Commit:
        """Update the rows whose key is in the query, insert the others; creates the table when it is missing.

        NULL equals NULL in a key. Columns that the query lacks keep their value, and are NULL in new rows.

        Raises:
            SchemaMismatch: the key is no column, or a column can't be stored or does not fit.
            ConstraintViolated: a key comes twice in the query, or rows break NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("merge", stamp, transaction, expect_version)
        return merge_rows(
            self._writer(table, con), con, sql, key=_keys(key), is_unique=True, partition_by=partition_by, evolve=evolve, intent=intent
        )

    def delete_insert(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        key: Sequence[str],
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        evolve: bool = True,
        expect_version: int | None = None,
        gone: str | None = None,
    ) -> Commit:
        """Delete the rows whose key is in the query, then insert all rows of the query, in one commit.

        Args:
            con: runs the query.
            table: `layer.name`.
            sql: a SELECT.
            key: columns that say which rows go.
            stamp: where the commit comes from.
            partition_by: of a table that is not there yet.
            transaction: done once.
            evolve: new columns come into the table.
            expect_version: of the table.
            gone: a condition over the query's columns, written by a programmer: rows that satisfy it only say which keys go.

        Raises:
            SchemaMismatch: the key is no column, or a column can't be stored or does not fit.
            ConstraintViolated: rows break NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("delete_insert", stamp, transaction, expect_version)
        return merge_rows(
            self._writer(table, con),
            con,
            sql,
            key=_keys(key),
            is_unique=False,
            partition_by=partition_by,
            evolve=evolve,
            intent=intent,
            gone=gone,
        )

    def replace_where(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        sql: str,
        *,
        where: str,
        stamp: Stamp,
        partition_by: Sequence[str] = (),
        transaction: Transaction | None = None,
        evolve: bool = True,
        expect_version: int | None = None,
    ) -> Commit:
        """Replace the rows that satisfy a condition by the query's rows, which must all satisfy it; no rows deletes only.

        Args:
            con: runs the query.
            table: `layer.name`.
            sql: a SELECT.
            where: a condition over the table's columns, written by a programmer: it becomes part of the SQL.
            stamp: where the commit comes from.
            partition_by: partition columns, if the table is created.
            transaction: skip the write if the table already holds it.
            evolve: add columns that the table lacks; otherwise they are refused.
            expect_version: the version the query has read (-1: no table).

        Raises:
            SchemaMismatch: a column can't be stored or does not fit.
            ConstraintViolated: a row does not satisfy `where`, or breaks NOT NULL or a CHECK of the table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("replace_where", stamp, transaction, expect_version)
        return replace_rows_where(self._writer(table, con), con, sql, where=where, partition_by=partition_by, evolve=evolve, intent=intent)

    def delete(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Name,
        where: str,
        *,
        stamp: Stamp,
        within: Mapping[str, tuple[Any, Any]] | None = None,
        transaction: Transaction | None = None,
        expect_version: int | None = None,
        operation: str = "delete",
    ) -> Commit:
        """Delete the rows that satisfy a condition over the table's columns; it becomes part of the SQL.

        Args:
            con: runs the query.
            table: `layer.name`.
            where: the condition, written by a programmer.
            stamp: where the commit comes from.
            within: lowest and highest value of columns among these rows; data files that lie outside are not read.
            transaction: skip the write if the table already holds it.
            expect_version: the version the condition is about.
            operation: what the commit calls itself.

        Raises:
            TableNotFound: there is no such table.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent(operation, stamp, transaction, expect_version)
        return delete_rows(self._writer(table), con, where=where, within=within or {}, intent=intent)

    # ---- inside

    def _log(self, table: TableName) -> CommitLog:
        return self._logs.setdefault(table, CommitLog(self.storage, table))

    def _writer(self, table: Name, con: duckdb.DuckDBPyConnection | None = None) -> TableWriter:
        """What commits to a table; with the connection that its new rows are read by."""
        name = TableName.parse(table)
        check = None if con is None else partial(self.erasures.check, con, name)
        return TableWriter(self.storage, name, self._log(name), check=check)

    def _content_of(self, snapshot: Snapshot) -> int:
        return self._log(snapshot.table).content_version(snapshot.version)

    def _find(self, table: TableName, at: AsOf | None) -> Snapshot | None:
        if at is None:
            return Snapshot.open(self.storage, table)
        if not isinstance(at, int) and not self.exists(table):
            return None
        version = self.resolve(table, at)
        try:
            return Snapshot.open(self.storage, table, version)
        except VersionGone:
            equal = self._equal_version(table, version)
            if equal is None:
                raise
            return equal

    def _equal_version(self, table: TableName, version: int) -> Snapshot | None:
        """A later version with the rows of this one that can still be read."""
        for other in self._log(table).equal_versions(version):
            try:
                return Snapshot.open(self.storage, table, other)
            except VersionGone:
                continue
        return None

    def _not_found(self, table: TableName) -> TableNotFound:
        others = [str(name) for name in self.tables()]
        return TableNotFound(
            str(table),
            "does not exist",
            expected=f"one of {', '.join(others)}" if others else "a table; there are none yet",
            fix="Check the name, or run what makes it (lakehouse run)",
        )


def _is_part(folder: str) -> bool:
    return folder[:1].isalpha() and folder.isascii() and folder.islower() and folder.replace("_", "").isalnum()


def _keys(key: Sequence[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
