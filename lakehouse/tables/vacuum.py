"""Removal of data files that no version needs any more, and of those that never came into one.

Vacuum first commits which versions it is about to take away, then deletes: a restore of one of them either comes before that commit,
and its files are kept, or finds there that the version is gone. Killed in between, it is done over by the next vacuum. A tag looks
after its commit whether the version is gone, and vacuum after its own whether there are new tags, which it then gives way to: whichever
comes first, no tag is left that names a version which can't be read.

A file that is in no version may belong to a writer that has yet to commit. It is left alone until it is older than any write takes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import RetentionTooShort
from lakehouse.tables.compaction import open_plain
from lakehouse.tables.feed import CHANGE_FOLDER
from lakehouse.tables.gone import VACUUMED, gone_versions
from lakehouse.tables.lifetimes import Replay
from lakehouse.tables.names import TableName
from lakehouse.tables.ranges import Ranges, joined
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.stamp import VACUUM, Stamp, Transaction
from lakehouse.tables.stored import StoredFile
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written

SHORTEST_RETENTION = timedelta(hours=1)
"""What a query that has just begun may take, and what a version that was just replaced is kept for."""
ORPHAN_AGE = timedelta(hours=24)
"""No write takes so long: a file that is older and in no version has lost its writer."""

_CHUNK = 100
_NOTHING = Written([], rows=0, size_bytes=0)
_LOG_DRAFT = re.compile(r".*(\.tmp|#\d+)")


@dataclass(frozen=True, slots=True)
class Vacuum:
    """What a vacuum removed, or would remove.

    Attributes:
        version: the table's version afterwards.
        files: files of rows, and of changed rows, that only versions had which are not kept.
        bytes: their size.
        gone: the versions that can't be read any more, with those of earlier times.
        newly_gone: those of them that this vacuum took.
        stored_files: all files of the table's folder and log before.
        stored_bytes: their size.
        skipped: nothing was committed: there was nothing to remove, or it was only asked what there is.
    """

    table: TableName
    version: int
    files: int = 0
    bytes: int = 0
    gone: Ranges = ()
    newly_gone: Ranges = ()
    stored_files: int = 0
    stored_bytes: int = 0
    skipped: bool = True


@dataclass(frozen=True, slots=True)
class Removed:
    """Files that were removed, or would be: how many, their size and where they lie."""

    files: int = 0
    bytes: int = 0
    paths: tuple[str, ...] = ()


def check_retention(table: TableName, retention: timedelta, *, force: bool) -> None:
    """Raise RetentionTooShort if running queries could lose their files, unless that is asked for."""
    if retention < SHORTEST_RETENTION and not force:
        raise RetentionTooShort(
            str(table),
            "would lose files that running queries and writers may need",
            expected=f"a retention of at least {SHORTEST_RETENTION}",
            found=str(retention),
            fix="Keep longer, or force it when nothing else uses the table",
        )


def vacuum_table(
    writer: TableWriter,
    *,
    keep: Collection[int],
    named: Callable[[], Collection[int]],
    retention: timedelta,
    now: datetime,
    stamp: Stamp,
    dry_run: bool,
    force: bool,
) -> Vacuum:
    """Remove the data files of versions that are neither kept, nor named, nor newer than the retention, nor the newest.

    Raises:
        RetentionTooShort: running queries could lose their files, and it is not forced.
        TableNotFound: there is no such table.
        TableError: the log has an entry that can't be read.
        ConcurrentWrite: other writers never paused.
    """
    check_retention(writer.table, retention, force=force)
    replay = Replay(writer.storage, writer.table, writer.log)
    attempt = 1
    stored: dict[str, StoredFile] = {}
    keep = {*keep, *named()}
    said, before_said = -1, Ranges()
    while True:
        snapshot = open_plain(writer)
        replay.catch_up()
        # Listed after the log was read: what is committed meanwhile is not in the log yet, and so not touched.
        stored = stored or stored_files(writer)
        kept = kept_versions(writer, replay, keep, stored, since=now - retention)
        unused = [path for path in sorted(replay.lifetimes) if "://" not in path and not replay.are_part_of(path, kept)]
        # What was said a moment ago is said anew, without what has got a name since.
        is_said_by_us = said >= 0 and snapshot.transaction(VACUUMED) == said
        before = before_said if is_said_by_us else gone_versions(writer.storage, snapshot)
        # Those that an earlier vacuum was killed over, or another program removed, are gone as well.
        gone = joined([*before, *replay.versions_of(unused)])
        # How a version came about is kept as long as its rows are, which may be in a version that maintenance made of it.
        told = replay.changes_of(gone, needed={writer.log.content_version(version) for version in kept})
        doomed = [stored[path] for path in (*unused, *told) if path in stored]
        newly = joined((version, version) for version in _each(gone) if not any(first <= version <= last for first, last in before))
        found = Vacuum(
            writer.table,
            snapshot.version,
            files=len(doomed),
            bytes=sum(file.size_bytes for file in doomed),
            gone=gone,
            newly_gone=newly,
            stored_files=len(stored),
            stored_bytes=sum(file.size_bytes for file in stored.values()),
        )
        if dry_run or (not doomed and said < 0):
            return found
        source = {"vacuum": {"files": found.files, "bytes": found.bytes, "gone": [list(run) for run in gone]}}
        intent = Intent(VACUUM, replace(stamp, source=source), Transaction(VACUUMED, snapshot.version + 1))
        try:
            if replay.newest != snapshot.version:
                raise Conflict
            version = writer.change(snapshot, _NOTHING, (), intent, rows=0, changes_data=False)
        except Conflict:
            wait_after_conflict(writer.table, attempt)
            attempt += 1
            continue
        new = set(named()) - keep
        if new:
            keep, said, before_said = keep | new, version, before
            continue
        delete_files(writer, [file.path for file in doomed])
        return replace(found, version=version, skipped=False)


def kept_versions(
    writer: TableWriter, replay: Replay, keep: Collection[int], stored: Mapping[str, StoredFile], *, since: datetime
) -> list[int]:
    """The versions asked for, and all that were the newest at some time since.

    A version that maintenance made after one of those asked for has the same rows, and is kept in its place.
    """
    infos = {info.version: info for info in writer.log.history()}
    kept: set[int] = set()
    for version in keep:
        last = version
        while last < replay.newest and last + 1 in infos and not infos[last + 1].changes_rows:
            last += 1
        kept.add(last)
    for version in range(replay.newest, replay.oldest - 1, -1):
        kept.add(version)
        # It took the place of the one before it then. A writer's clock may have been behind: the log's own file knows better.
        entry = stored.get(f"_delta_log/{version:020d}.json")
        if version in infos and max(infos[version].timestamp, entry.modified if entry else infos[version].timestamp) < since:
            break
    return sorted(kept)


def stored_files(writer: TableWriter) -> dict[str, StoredFile]:
    """Every file in the table's folder, by its name in the table's log."""
    folder = f"{writer.table.layer}/{writer.table.name}"
    return {file.path.removeprefix(f"{folder}/"): file for file in writer.storage.walk(folder)}


def _is_hidden(path: str) -> bool:
    """Whether Delta keeps it for other ends: its log, changed rows, indexes."""
    return any(part.startswith((".", "_")) and "=" not in part for part in path.split("/"))


def delete_files(writer: TableWriter, paths: Sequence[str]) -> None:
    """Delete files of the root, a few at a time."""
    for start in range(0, len(paths), _CHUNK):
        reached(Point.MID_VACUUM)
        writer.storage.delete(paths[start : start + _CHUNK])


def _each(ranges: Ranges) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


def orphans_of_table(writer: TableWriter, *, older_than: timedelta, now: datetime, dry_run: bool, force: bool) -> Removed:
    """Remove data files that no version ever had, and drafts of commits, once their writer can't be alive any more.

    Raises:
        RetentionTooShort: a living writer could lose its files, and it is not forced.
        TableNotFound: there is no such table.
        TableError: the log has an entry that can't be read.
    """
    check_retention(writer.table, older_than, force=force)
    open_plain(writer)
    # Listed before the log is read: a file that is committed meanwhile is in the log by then.
    stored = {path: file for path, file in stored_files(writer).items() if file.modified < now - older_than}
    replay = Replay(writer.storage, writer.table, writer.log)
    replay.catch_up()
    orphans: list[StoredFile] = []
    for path, file in stored.items():
        is_draft = path.startswith("_delta_log/") and _LOG_DRAFT.fullmatch(path) is not None
        is_change = path.startswith(f"{CHANGE_FOLDER}/") and path not in replay.changes
        is_data = path.endswith(".parquet") and (is_change or not _is_hidden(path)) and path not in replay.lifetimes
        if is_draft or is_data:
            orphans.append(file)
    found = summed(orphans)
    if not dry_run:
        writer.storage.delete(found.paths)
    return found


def summed(files: Iterable[StoredFile]) -> Removed:
    """How much that is."""
    listed = sorted(files, key=lambda file: file.path)
    return Removed(len(listed), sum(file.size_bytes for file in listed), tuple(file.path for file in listed))
