"""A large append in pieces: data files are written while reading goes on, one commit makes all of them visible.

Uses the write path of lakehouse.tables; what it adds is that the rows need not be one query, and that the commit is tied to
the batch before it.
"""

from collections.abc import Sequence
from functools import partial

import duckdb

from lakehouse.errors import LakehouseError
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.replacing import Taken
from lakehouse.sql import quote_literal
from lakehouse.tables import ROWS_REMOVED, Commit, Lake, Stamp, TableName, Transaction
from lakehouse.tables.log import CommitLog
from lakehouse.tables.operations import evolved, made
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.rewriting import Affected, rows_that_stay
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.sources import Source, align, prepare_source
from lakehouse.tables.tiers import counted_version
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written, copy_rows


class PiecewiseAppend:
    """Data files of one batch, and the commit that makes the batch count.

    Args:
        lake: holds the table.
        table: is created by the commit when it is missing.
        app_id: the transaction that numbers the batches.
        after: the batch before this one, None before the first.
    """

    def __init__(self, lake: Lake, table: str, *, app_id: str, after: int | None) -> None:
        self._lake = lake
        self._table = TableName.parse(table)
        self._app_id = app_id
        self._after = after
        self._writer = TableWriter(lake.storage, self._table, CommitLog(lake.storage, self._table))
        self._is_undecided = False
        self._intent = Intent("append", Stamp(asset=str(self._table), run=""))

    def write(self, con: duckdb.DuckDBPyConnection, sql: str) -> Written:
        """Write the rows of a query as data files that no version has yet.

        Raises:
            SchemaMismatch: a column does not fit the table's.
            Superseded: another process has committed this batch number.
        """
        source = prepare_source(con, sql, self._table)
        snapshot = self._checked()
        if snapshot is not None:
            try:
                snapshot = evolved(self._writer, snapshot, source, evolve=True, intent=self._intent)
            except Conflict as error:
                raise Superseded(str(self._table)) from error
            source = align(source, snapshot)
        return copy_rows(con, source, self._lake.storage, self._table, snapshot.partition_by if snapshot else ())

    def discard(self, written: Sequence[Written]) -> None:
        """Remove files that will not be committed.

        Where somebody interrupted the commit itself they stay: a version may have them.
        """
        if not self._is_undecided:
            for one in written:
                self._writer.discard(one)

    def addresses(self, written: Sequence[Written]) -> list[str]:
        """Where the files are, for reading them before they count."""
        return [self._lake.storage.address(path) for one in written for path in one.paths]

    def commit(
        self,
        con: duckdb.DuckDBPyConnection,
        written: Sequence[Written],
        *,
        empty_sql: str,
        batch: int,
        stamp: Stamp,
        taken: Taken | None = None,
    ) -> Commit:
        """Make all files visible as this batch, on condition that no other batch came in between.

        Args:
            con: used to learn the columns of a new table.
            written: what `write` returned.
            empty_sql: a SELECT with the columns of the table.
            batch: its number.
            stamp: where it comes from.
            taken: the rows that go in the same commit.

        Raises:
            Superseded: another batch was committed first; nothing became visible.
        """
        everything = Written(
            [action for one in written for action in one.actions],
            rows=sum(one.rows for one in written),
            size_bytes=sum(one.size_bytes for one in written),
            paths=[path for one in written for path in one.paths],
        )
        gone = taken if taken is not None and taken.digests else None
        # What was made of the table has the rows still: who reads it next finds out by this mark.
        also = (Transaction(ROWS_REMOVED, batch),) if gone else ()
        intent = Intent("append", stamp, Transaction(self._app_id, batch), also=also)
        source = prepare_source(con, empty_sql, self._table)
        self._writer.check = partial(self._lake.erasures.check, con, self._table)
        self._is_undecided = True
        try:
            return self._commit(con, everything, source=source, gone=gone, intent=intent)
        except (Superseded, LakehouseError):
            self._is_undecided = False
            raise

    def _commit(self, con: duckdb.DuckDBPyConnection, everything: Written, *, source: Source, gone: Taken | None, intent: Intent) -> Commit:
        attempt = 1
        while True:
            snapshot = self._checked()
            try:
                if snapshot is None:
                    version = self._writer.create(everything, source.columns, (), intent)
                else:
                    ready = evolved(self._writer, snapshot, source, evolve=True, intent=intent)
                    version = self._change(con, ready, everything, gone, intent)
                return made(self._writer, version, everything, removed=0, attempt=attempt)
            except Conflict:
                wait_after_conflict(self._table, attempt)
                attempt += 1

    def _change(self, con: duckdb.DuckDBPyConnection, ready: Snapshot, everything: Written, gone: Taken | None, intent: Intent) -> int:
        if gone is None:
            return self._writer.change(ready, everything, [], intent, rows=everything.rows)
        if counted_version(self._lake, self._table, ready.version) != gone.archived_at:
            # Some of the rows may have been archived since they were looked for.
            raise Superseded(str(self._table))
        replacing = gone.digests
        digests = ", ".join(quote_literal(digest) for digest in replacing)
        affected = Affected(f"(t._sha256 IN ({digests})) IS TRUE", {"_sha256": (min(replacing), max(replacing))})
        kept, touched = rows_that_stay(self._writer, con, ready, affected)
        both = Written(
            [*everything.actions, *kept.actions], everything.rows, everything.size_bytes + kept.size_bytes, [*everything.paths, *kept.paths]
        )
        try:
            return self._writer.change(ready, both, touched, intent, rows=everything.rows)
        except Conflict:
            self._writer.discard(kept)
            raise

    def _checked(self) -> Snapshot | None:
        """The table, if its newest batch is still the one this batch follows."""
        snapshot = self._writer.open()
        found = snapshot.transaction(self._app_id) if snapshot is not None else None
        if found != self._after:
            raise Superseded(str(self._table))
        return snapshot
