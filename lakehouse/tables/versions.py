"""Versions by name, what changed between them, and the way back to one: the part of a lake that tags and restores."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, cast

from lakehouse.tables.changes import Changes, read_changes
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.restoring import check_restorable, restore_version
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.stamp import Commit, Stamp, Transaction
from lakehouse.tables.storage import Storage
from lakehouse.tables.tags import Tag, read_tags, remove_tag, tagged_version, write_tag
from lakehouse.tables.writing import Intent, TableWriter

if TYPE_CHECKING:
    from lakehouse.tables.lake import Lake

Name = TableName | str
AsOf = int | datetime | str
"""A version, an instant, or a tag."""


class Versions(ABC):
    """Tags, and restore."""

    @abstractmethod
    def snapshot(self, table: Name, version: AsOf | None = None) -> Snapshot:
        """One version of a table."""

    @abstractmethod
    def version_at(self, table: Name, instant: datetime) -> int:
        """The version that was current at an instant."""

    storage: Storage

    @abstractmethod
    def _log(self, table: TableName) -> CommitLog: ...

    @abstractmethod
    def _writer(self, table: Name) -> TableWriter: ...

    def resolve(self, table: Name, at: AsOf) -> int:
        """The version that a version, an instant or a tag means; whether it can still be read is not asked.

        Raises:
            TableNotFound: the table is missing or younger, or has no such tag.
        """
        if isinstance(at, str):
            return tagged_version(cast("Lake", self), TableName.parse(table), at)
        return at if isinstance(at, int) else self.version_at(table, at)

    def changes(self, table: Name, since: AsOf, until: AsOf | None = None) -> Changes | None:
        """The rows that were deleted and inserted after one version, up to another (default: the newest), commit by commit.

        Whoever has done something with version `since` and wants to do it with what has changed reads `Changes.scan_sql`.

        Returns:
            None where the commits can't tell, or files that they need have gone: then both versions have to be compared.

        Raises:
            TableNotFound: there is no such table or version.
        """
        newest, oldest = self.snapshot(table, until), self.snapshot(table, since)
        found = read_changes(self._log(newest.table), oldest, newest)
        return found if found is not None and found.are_there(self.storage) else None

    def restore(
        self, table: Name, to: AsOf, *, stamp: Stamp, transaction: Transaction | None = None, expect_version: int | None = None
    ) -> Commit:
        """Give a table the rows, columns and partitions that it had; a commit of its own, and no data is written again.

        What was undone stays in the log and can be restored in its turn. Transactions stay as they are: a source's cursor does not
        go back. For a dataset's raw and quarantine tables use `lakehouse.ingest.restore_dataset`, which keeps both together.

        Args:
            table: `layer.name`.
            to: a version, an instant or a tag.
            stamp: where the commit comes from.
            transaction: skip the restore if the table already holds it.
            expect_version: the version that is to be undone.

        Raises:
            TableNotFound: there is no such table, version or tag.
            TableError: data files of the version are gone.
            ConcurrentWrite: the table is not at `expect_version`, or other writers never paused.
        """
        intent = Intent("restore", stamp, transaction, expect_version)
        # Of a version that vacuum has removed, one with equal rows may have stayed.
        return restore_version(self._writer(table), version=self.snapshot(table, to).version, intent=intent)

    def check_restore(self, table: Name, to: AsOf) -> None:
        """Raise if `restore` could not give the table this version.

        Raises:
            TableNotFound: there is no such table, version or tag.
            TableError: data files of the version are gone, or the table is append-only.
        """
        check_restorable(self._writer(table), self.snapshot(table, to).version)

    def tag(
        self, table: Name, name: str, *, version: AsOf | None = None, note: str = "", now: datetime, run: str, move: bool = False
    ) -> Tag:
        """Name a version of a table, the newest by default; maintenance keeps it readable.

        Raises:
            TableNotFound: there is no such table or version.
            TableError: the name can't be one, or names another version already and `move` is false.
        """
        tag = Tag(TableName.parse(table), name, self.snapshot(table, version).version, note, now)
        return write_tag(cast("Lake", self), tag, run=run, move=move)

    def untag(self, table: Name, name: str, *, run: str = "") -> None:
        """Remove a name; the version stays until maintenance finds that nothing needs it.

        Raises:
            TableNotFound: the table has no such tag.
        """
        remove_tag(cast("Lake", self), TableName.parse(table), name, run=run)

    def tags(self, table: Name | None = None) -> list[Tag]:
        """The names of versions, of one table or of all, oldest first."""
        return read_tags(cast("Lake", self), None if table is None else TableName.parse(table))
