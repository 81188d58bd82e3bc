"""What keeps a table fast and small without changing a row of it: the part of a lake that maintenance calls."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

import duckdb

from lakehouse.tables.checkpoints import Checkpoint, checkpoint_table
from lakehouse.tables.compaction import TARGET_FILE_BYTES, Compaction, Group, compact_table, open_plain, plan_groups
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.stamp import COMPACT, NOTE, CommitInfo, Stamp
from lakehouse.tables.storage import Storage
from lakehouse.tables.tags import read_tags
from lakehouse.tables.vacuum import ORPHAN_AGE, Removed, Vacuum, orphans_of_table, vacuum_table
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written

if TYPE_CHECKING:
    from lakehouse.tables.lake import Lake

Name = TableName | str
_VACUUM = Stamp(asset="maintenance", run="vacuum")


class Upkeep(ABC):
    """Compaction, checkpoints, vacuum and the removal of orphans, of the tables under one root."""

    storage: Storage

    @abstractmethod
    def open_connection(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection that can read and write this root."""

    @abstractmethod
    def _log(self, table: TableName) -> CommitLog: ...

    @abstractmethod
    def _writer(self, table: Name) -> TableWriter: ...

    def content_version(self, table: Name, version: int | None = None) -> int | None:
        """The version that last changed a row, up to this one (default: the newest); None if there is no such table.

        Versions that maintenance made have the rows of the one before: who asks whether something is new asks for this.
        """
        log = self._log(TableName.parse(table))
        if version is None:
            versions = log.versions()
            if not versions:
                return None
            version = versions[-1]
        return log.content_version(version)

    def content_commit(self, table: Name, version: int | None = None) -> CommitInfo | None:
        """The commit that last changed a row, up to a version (default: the newest); None if there is no such table."""
        changed = self.content_version(table, version)
        return None if changed is None else next(iter(self._log(TableName.parse(table)).commits([changed])), None)

    def compact(
        self,
        table: Name,
        *,
        stamp: Stamp,
        target_bytes: int = TARGET_FILE_BYTES,
        cluster_by: Sequence[str] = (),
        dry_run: bool = False,
    ) -> Compaction:
        """Join small files, and sort rows by the columns that are filtered by; every version has the rows it had.

        Writers are never disturbed: what they append meanwhile stays, and a merge that comes first makes the compaction plan anew.

        Args:
            table: `layer.name`.
            stamp: where the commit comes from.
            target_bytes: how large the files may get; those of half of it and more are left alone.
            cluster_by: sort the rows by these columns, once a fifth of a partition is not sorted yet.
            dry_run: only say what would be rewritten.

        Raises:
            TableNotFound: there is no such table.
            SchemaMismatch: it can't be sorted by one of the columns.
            TableError: another engine has deleted rows in it without rewriting their files.
            ConcurrentWrite: other writers took away the same files again and again.
        """
        writer = self._writer(table)

        def plan(snapshot: Snapshot) -> list[Group]:
            return plan_groups(snapshot.files, target_bytes=target_bytes, cluster_by=cluster_by)

        def intent(snapshot: Snapshot, groups: Sequence[Group]) -> Intent:
            del snapshot
            done = {"files": sum(len(group.files) for group in groups), "bytes": sum(group.size_bytes for group in groups)}
            return Intent(COMPACT, replace(stamp, source={"compaction": {**done, "cluster_by": list(cluster_by)}}))

        if dry_run:
            snapshot = open_plain(writer)
            groups = plan(snapshot)
            return Compaction(
                writer.table,
                snapshot.version,
                groups=len(groups),
                files_before=sum(len(group.files) for group in groups),
                files_after=sum(max(1, -(-group.size_bytes // target_bytes)) for group in groups),
                bytes_before=sum(group.size_bytes for group in groups),
                clustered_by=tuple(cluster_by) if any(group.is_sorted for group in groups) else (),
            )
        return compact_table(writer, self.open_connection, intent, plan=plan, target_bytes=target_bytes, cluster_by=cluster_by)

    def note(self, table: Name, *, stamp: Stamp) -> int:
        """Make a version that is like the one before, but for what its stamp says; returns it.

        Raises:
            TableNotFound: there is no such table.
            ConcurrentWrite: other writers never paused.
        """
        writer = self._writer(table)
        attempt = 1
        while True:
            try:
                return writer.change(open_plain(writer), Written([], 0, 0), (), Intent(NOTE, stamp), rows=0, changes_data=False)
            except Conflict:
                wait_after_conflict(writer.table, attempt)
                attempt += 1

    def vacuum(
        self,
        table: Name,
        *,
        keep: Collection[int] = (),
        retention: timedelta,
        now: datetime,
        stamp: Stamp = _VACUUM,
        dry_run: bool = False,
        force: bool = False,
    ) -> Vacuum:
        """Remove the data files of old versions; they can't be read any more, while all that is kept reads as before.

        Kept are the newest version, those that were the newest at some time within the retention, those with a tag, and those asked for. Of versions
        with equal rows one is enough: what was version 3 before a compaction is then read from version 4.

        Args:
            table: `layer.name`.
            keep: versions that must stay readable.
            retention: how long a version stays after another took its place.
            now: the time it is.
            stamp: where the commit comes from.
            dry_run: only say what would go.
            force: allow a retention under an hour, where nothing else reads or writes the table.

        Raises:
            RetentionTooShort: running queries could lose their files, and it is not forced.
            TableNotFound: there is no such table.
            TableError: the log has an entry that can't be read.
            ConcurrentWrite: other writers never paused.
        """
        writer = self._writer(table)

        def named() -> set[int]:
            return {tag.version for tag in read_tags(cast("Lake", self), writer.table)}

        return vacuum_table(writer, keep=keep, named=named, retention=retention, now=now, stamp=stamp, dry_run=dry_run, force=force)

    def remove_orphans(
        self, table: Name, *, now: datetime, older_than: timedelta = ORPHAN_AGE, dry_run: bool = False, force: bool = False
    ) -> Removed:
        """Remove files that killed writers left in the table's folder: they never were in any version.

        Raises:
            RetentionTooShort: a living writer could lose its files, and it is not forced.
            TableNotFound: there is no such table.
            TableError: the log has an entry that can't be read.
        """
        return orphans_of_table(self._writer(table), older_than=older_than, now=now, dry_run=dry_run, force=force)

    def checkpoint(self, table: Name, *, now: datetime | None = None, dry_run: bool = False) -> Checkpoint:
        """Write the table's state beside its log, so that opening it need not replay the commits, and remove older such states.

        No commit is removed: the stamps of all versions stay, and any version that is kept can still be opened.

        Args:
            table: `layer.name`.
            now: the time it is; without it nothing is removed.
            dry_run: only say what would be written and removed.

        Raises:
            TableNotFound: there is no such table.
        """
        return checkpoint_table(self._writer(table), now=now, dry_run=dry_run)
