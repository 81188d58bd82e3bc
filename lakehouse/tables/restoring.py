"""Restore: a commit that gives a table the rows, columns and partitions of one of its earlier (or undone) versions.

No data file is written or read: the commit removes the files that the version lacks and adds those that the table lacks. What was
undone stays in the log, and can be restored in its turn.
"""

from collections.abc import Iterable, Iterator

from lakehouse.errors import TableError, TableNotFound
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.stamp import Commit, CommitInfo
from lakehouse.tables.writing import Conflict, Intent, TableWriter, is_done

RESTORED = "lakehouse.restored"
"""Application transaction whose version is that of the table's newest restore: who remembers what a table held asks for it."""

ROWS_REMOVED = "lakehouse.rows_removed"
"""Application transaction of an append that also took rows out: what was made of the table before has them still."""


def restore_version(writer: TableWriter, *, version: int, intent: Intent) -> Commit:
    """Make a version that holds exactly what `version` holds.

    Raises:
        TableNotFound: there is no such table or version.
        TableError: data files of the version are gone, or the table is append-only.
        ConcurrentWrite: the table is not at the expected version, or other writers never paused.
    """
    attempt = 1
    while True:
        snapshot = _found(writer, writer.open())
        if is_done(snapshot, intent.transaction):
            return Commit(writer.table, snapshot.version, snapshot.version, attempts=attempt, skipped=True)
        writer.check_expected(snapshot, intent)
        _check_not_append_only(snapshot)
        target = _found(writer, Snapshot.open(writer.storage, writer.table, version))
        if version == snapshot.version and intent.transaction is None:
            return Commit(writer.table, snapshot.version, snapshot.version, attempts=attempt, skipped=True)
        try:
            return _commit(writer, snapshot, target, intent, attempt)
        except Conflict:
            wait_after_conflict(writer.table, attempt)
            attempt += 1


def check_restorable(writer: TableWriter, version: int) -> None:
    """Raise what `restore_version` would raise about this version, without a commit."""
    snapshot = _found(writer, writer.open())
    _check_not_append_only(snapshot)
    target = _found(writer, Snapshot.open(writer.storage, writer.table, version))
    _check_files(writer, target, set(target.addresses()) - set(snapshot.addresses()))


def _found(writer: TableWriter, snapshot: Snapshot | None) -> Snapshot:
    if snapshot is None:
        raise TableNotFound(str(writer.table), "does not exist", fix="Check the name, or run what makes it (lakehouse run)")
    return snapshot


def _check_not_append_only(snapshot: Snapshot) -> None:
    if snapshot.configuration.get("delta.appendOnly", "false").lower() == "true":
        raise TableError(str(snapshot.table), "is append-only and can't be restored", fix="Its versions can be read with --as-of")


def _commit(writer: TableWriter, snapshot: Snapshot, target: Snapshot, intent: Intent, attempt: int) -> Commit:
    rows = sum(file.rows or 0 for file in target.files)
    before, after = set(snapshot.addresses()), set(target.addresses())
    _check_files(writer, target, after - before)
    # The protocol of a table is not restored, so it has to be able to hold the version before the version comes back.
    ready = writer.allow_types(snapshot, target.columns, intent)
    missing = target.features - ready.features
    if missing:
        raise TableError(
            f"{target.table}@{target.version}",
            f"can't be restored: it needs the table feature {', '.join(sorted(missing))}, which the table has lost",
            fix="Write it anew: read it with --as-of and overwrite the table",
        )
    made = writer.restore(ready, target.version, intent, rows=rows, app_id=RESTORED)
    return Commit(
        writer.table,
        made,
        snapshot.version,
        rows=rows,
        files_added=len(after - before),
        files_removed=len(before - after),
        attempts=attempt,
    )


def _check_files(writer: TableWriter, target: Snapshot, needed: Iterable[str]) -> None:
    """Raise TableError if data files that the version needs are no longer there."""
    base = writer.uri + "/"
    folder = f"{writer.table.layer}/{writer.table.name}/"
    wanted = [folder + address.removeprefix(base) for address in needed if address.startswith(base)]
    gone = [path for path, is_there in zip(wanted, writer.storage.are_there(wanted), strict=True) if not is_there]
    if gone:
        raise TableError(
            f"{target.table}@{target.version}",
            f"can't be restored: {len(gone)} of its data files are gone",
            expected="a version whose files vacuum has kept",
            found=f"no {gone[0]}",
            fix=f"Choose a newer version (lakehouse history {target.table}), or bring the files back from a backup",
        )


def in_force(commits: Iterable[CommitInfo], version: int | None = None) -> Iterator[CommitInfo]:
    """Of a log, newest first, those commits that made what a version holds: not those that a restore has undone.

    A restore itself is among them; after it come those up to the version that it gave back.

    Args:
        commits: newest first.
        version: begins with this one; None begins with the newest.
    """
    newest = version
    for commit in commits:
        if newest is not None and commit.version > newest:
            continue
        yield commit
        newest = commit.version - 1 if commit.restored is None else commit.restored
