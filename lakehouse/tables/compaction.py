"""Fewer, larger data files with the same rows: a commit that changes no row.

Small files of a partition are joined, each group into one file, in the order in which they were written. With clustering, the rows of
a partition are sorted by the chosen columns (by one as it is, by several along a Z-curve), so that a filter on any of them reads few
files and few row groups.

The files are written first, which may take long; then one commit swaps them in. A writer that appended meanwhile does not matter: the
swap is made on its version. One that took away a file that was being compacted does: then the plan is made anew.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import duckdb
from deltalake.transaction import AddAction

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, SchemaMismatch, TableError, TableNotFound
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.damage import telling
from lakehouse.tables.names import TableName
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.snapshot import DataFile, Snapshot
from lakehouse.tables.sources import inner
from lakehouse.tables.sql import quote_identifiers
from lakehouse.tables.statistics import file_statistics
from lakehouse.tables.types import is_nested
from lakehouse.tables.writing import PARQUET_OPTIONS, Conflict, Intent, TableWriter, Written

TARGET_FILE_BYTES = 256 * 1024 * 1024
"""What `compact` makes files of, where nothing else is asked: as large as the write path makes them."""

_MAX_PLANS = 20
# Finer than row groups are: 2^8 parts of each column.
_CURVE_BITS = 8
# New rows are sorted in once they are this much of a partition; sorting it anew for every append would rewrite it every time.
_UNSORTED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one partition that become one file, or with `is_sorted` as many as their rows need."""

    files: tuple[DataFile, ...]
    is_sorted: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes that are read."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did, or would do.

    Attributes:
        version: the table's version afterwards; the current one where nothing was done.
        groups: how many groups of files were rewritten, each one as a whole.
        files_before: data files that were replaced.
        files_after: data files that replaced them; where nothing was written, an estimate.
        bytes_before: their size.
        bytes_after: the size of what replaced them; 0 where nothing was written.
        clustered_by: columns the rows were sorted by.
        attempts: how often a commit was tried; more than one means that others were writing.
        skipped: nothing was committed: there was nothing to do, or it was only asked what there is.
    """

    table: TableName
    version: int
    groups: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    clustered_by: tuple[str, ...] = ()
    attempts: int = 1
    skipped: bool = True


def plan_groups(files: Sequence[DataFile], *, target_bytes: int, cluster_by: Sequence[str] = ()) -> list[Group]:
    """Which files to rewrite together.

    Args:
        files: of one version.
        target_bytes: files of at least half of it are left alone; no group is larger, but for one that is sorted.
        cluster_by: sort the partitions that have got enough rows that are not sorted by just these columns yet.
    """
    partitions: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = {}
    for file in files:
        partitions.setdefault(tuple(sorted(file.partition.items())), []).append(file)
    groups: list[Group] = []
    for key in sorted(partitions, key=str):
        there = sorted(partitions[key], key=lambda file: (file.facts.get("modification_time") or 0, file.path))
        unsorted = [file for file in there if not PurePosixPath(file.path).name.startswith(file_prefix(cluster_by))]
        if cluster_by and sum(file.size for file in unsorted) > _UNSORTED_SHARE * sum(file.size for file in there):
            groups.append(Group(tuple(there), is_sorted=True))
            continue
        groups += _packed(unsorted if cluster_by else there, target_bytes)
    return groups


def file_prefix(cluster_by: Sequence[str]) -> str:
    """What the name of a file begins with: it says by which columns a whole partition was sorted, for the next compaction to know."""
    if not cluster_by:
        return "part-"
    return f"part-{hashlib.sha256(chr(0).join(cluster_by).casefold().encode()).hexdigest()[:12]}-"


def _packed(files: Sequence[DataFile], target_bytes: int) -> Iterator[Group]:
    """Neighbours that fit together; a group of one would be written again for nothing."""
    group: list[DataFile] = []
    for file in (file for file in files if file.size < target_bytes / 2):
        if group and sum(one.size for one in group) + file.size > target_bytes:
            if len(group) > 1:
                yield Group(tuple(group))
            group = []
        group.append(file)
    if len(group) > 1:
        yield Group(tuple(group))


@telling
def compact_table(
    writer: TableWriter,
    connect: Callable[[], duckdb.DuckDBPyConnection],
    intent: Callable[[Snapshot, Sequence[Group]], Intent],
    *,
    plan: Callable[[Snapshot], list[Group]],
    target_bytes: int,
    cluster_by: Sequence[str],
) -> Compaction:
    """Rewrite what the plan says in one commit.

    Args:
        writer: of the table.
        connect: opens a connection that can read and write the root.
        intent: what the commit says of itself.
        plan: which files of a version to rewrite.
        target_bytes: how large a sorted file may get.
        cluster_by: the columns of groups to be sorted.

    Raises:
        TableNotFound: there is no such table.
        SchemaMismatch: it can't be sorted by one of the columns.
        TableError: another engine has deleted rows in it without rewriting their files.
        ConcurrentWrite: other writers took away the same files again and again.
    """
    attempts = 1
    for plans in range(1, _MAX_PLANS + 1):
        snapshot = open_plain(writer)
        columns = _check_columns(snapshot, cluster_by)
        groups = plan(snapshot)
        if not groups:
            return Compaction(writer.table, snapshot.version, attempts=attempts)
        con = connect()
        try:
            written = _write(con, writer, snapshot, groups, columns, target_bytes=target_bytes)
        finally:
            con.close()
        reached(Point.MID_COMPACTION)
        removed = [file for group in groups for file in group.files]
        with _discarding(writer, written):
            version, tried = _swap(writer, snapshot, written, removed, intent(snapshot, groups))
        attempts += tried - 1
        if version is not None:
            return Compaction(
                writer.table,
                version,
                groups=len(groups),
                files_before=len(removed),
                files_after=len(written.actions),
                bytes_before=sum(file.size for file in removed),
                bytes_after=written.size_bytes,
                clustered_by=tuple(columns) if any(group.is_sorted for group in groups) else (),
                attempts=attempts,
                skipped=False,
            )
        writer.discard(written)
        # Of two that compact the same files one comes second; they should not meet again.
        wait_after_conflict(writer.table, plans)
    raise ConcurrentWrite(
        str(writer.table),
        f"was changed by other writers each of the {_MAX_PLANS} times that it was compacted; it is as they left it",
        fix="Compact it when fewer processes merge into it or delete from it",
    )


def open_plain(writer: TableWriter) -> Snapshot:
    """The newest version, whose files can be rewritten.

    Raises:
        TableNotFound: there is no such table.
        TableError: another engine has deleted rows in it without rewriting their files.
    """
    snapshot = writer.open()
    if snapshot is None:
        raise TableNotFound(str(writer.table), "does not exist", fix="Check the name: lakehouse tables")
    if snapshot.has_dead_rows:
        raise TableError(
            str(writer.table), "has deletion vectors that another engine wrote", fix="Rewrite it with overwrite, then try again"
        )
    return snapshot


def _swap(writer: TableWriter, snapshot: Snapshot, written: Written, removed: Sequence[DataFile], intent: Intent) -> tuple[int | None, int]:
    """The version that has the new files instead of the old, None if the old ones are no longer all there; and how often it was tried."""
    base, attempt, paths = snapshot, 1, {file.path for file in removed}
    while True:
        try:
            return writer.change(base, written, removed, intent, rows=0, changes_data=False), attempt
        except Conflict:
            wait_after_conflict(writer.table, attempt)
            attempt += 1
            newest = writer.open()
            # Who only added files, or columns, has not touched the rows that were compacted.
            if newest is None or newest.partition_by != snapshot.partition_by or not paths <= {file.path for file in newest.files}:
                return None, attempt
            base = newest


@contextmanager
def _discarding(writer: TableWriter, written: Written) -> Iterator[None]:
    try:
        yield
    except BaseException:
        writer.discard(written)
        raise


def _check_columns(snapshot: Snapshot, cluster_by: Sequence[str]) -> list[str]:
    """The columns to sort by, as the table spells them."""
    by_key = {column.key: column for column in snapshot.columns}
    chosen: list[str] = []
    for name in cluster_by:
        column = by_key.get(name.casefold())
        if column is None or is_nested(column.type) or column.name in snapshot.partition_by:
            raise SchemaMismatch(
                f"{snapshot.table}, column {name}",
                "can't be clustered by",
                expected="a plain column that does not partition the table: "
                + ", ".join(one.name for one in snapshot.columns if not is_nested(one.type) and one.name not in snapshot.partition_by),
                found="no such column" if column is None else column.sql_type,
                fix="Name another column",
            )
        chosen.append(column.name)
    return chosen


def _write(
    con: duckdb.DuckDBPyConnection,
    writer: TableWriter,
    snapshot: Snapshot,
    groups: Sequence[Group],
    cluster_by: Sequence[str],
    *,
    target_bytes: int,
) -> Written:
    """The new files of all groups; if one can't be written, none stays."""
    # The order of the rows within a group is kept: what arrived together stays together, and bounds stay narrow.
    con.execute("SET preserve_insertion_order = true")
    actions: list[AddAction] = []
    paths: list[str] = []
    with _discarding(writer, Written(actions, rows=0, size_bytes=0, paths=paths)):
        for group in groups:
            scan = snapshot.scan_sql(con, files=[file.uri for file in group.files])
            queries = _sorted_slices(con, scan, group, cluster_by, target_bytes=target_bytes) if group.is_sorted else [scan]
            for query in queries:
                action = _copy_file(
                    con, query, writer=writer, snapshot=snapshot, group=group, prefix=file_prefix(cluster_by if group.is_sorted else ())
                )
                if action is not None:
                    actions.append(action)
                    paths.append(_place(writer, action.path))
    return Written(actions, rows=0, size_bytes=sum(action.size for action in actions), paths=paths)


def _sorted_slices(
    con: duckdb.DuckDBPyConnection, scan: str, group: Group, cluster_by: Sequence[str], *, target_bytes: int
) -> Iterator[str]:
    """The rows in their new order, cut into files of the wanted size."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE __clustered AS {cluster_sql(scan, cluster_by)}")
    rows = int(con.execute("SELECT count(*) FROM __clustered").fetchall()[0][0])
    number = max(1, -(-group.size_bytes // target_bytes))
    edges = [rows * part // number for part in range(number + 1)]
    try:
        for first, end in pairwise(edges):
            yield f"SELECT * FROM __clustered WHERE rowid >= {first} AND rowid < {end}"
    finally:
        con.execute("DROP TABLE IF EXISTS __clustered")


def cluster_sql(sql: str, cluster_by: Sequence[str]) -> str:
    """The query's rows in the order of one column, or along a Z-curve through several: near in each of them, near in the table."""
    if len(cluster_by) == 1:
        return f"SELECT * FROM {inner(sql)} ORDER BY {quote_identifier(cluster_by[0])}"
    ranks = [
        # Each column counts by rank, so that neither its type nor a few far values decide.
        f"ntile({1 << _CURVE_BITS}) OVER (ORDER BY {quote_identifier(name)}) - 1 AS __rank_{number}"
        for number, name in enumerate(cluster_by)
    ]
    bits = [
        f"(((__rank_{number} >> {bit}) & 1) << {bit * len(cluster_by) + len(cluster_by) - 1 - number})"
        for bit in range(_CURVE_BITS)
        for number in range(len(cluster_by))
    ]
    hidden = ", ".join(f"__rank_{number}" for number in range(len(cluster_by)))
    order = f"{' | '.join(bits)}, {quote_identifiers(cluster_by)}"
    return f"SELECT * EXCLUDE ({hidden}) FROM (SELECT *, {', '.join(ranks)} FROM {inner(sql)}) ORDER BY {order}"


def _copy_file(
    con: duckdb.DuckDBPyConnection, sql: str, *, writer: TableWriter, snapshot: Snapshot, group: Group, prefix: str
) -> AddAction | None:
    """Write the query's rows as one file beside those of the group, in the same partition; None if there are no rows."""
    like = group.files[0]
    in_file = [column for column in snapshot.columns if column.name not in snapshot.partition_by]
    path = str(PurePosixPath(like.path).with_name(f"{prefix}{uuid.uuid4()}.parquet"))
    place = _place(writer, path)
    query = f"SELECT {quote_identifiers(column.name for column in in_file)} FROM {inner(sql)}"
    target = quote_literal(writer.storage.address(place))
    try:
        found = con.execute(f"COPY ({query}) TO {target} ({PARQUET_OPTIONS}, RETURN_STATS)").fetchall()
    except BaseException:
        writer.storage.delete([place])
        raise
    _, rows, size, _, statistics, *_ = found[0]
    if not rows:
        writer.storage.delete([place])
        return None
    stats = file_statistics(rows, statistics or {}, in_file)
    return AddAction(path, size, dict(like.partition), int(time.time() * 1000), False, stats)


def _place(writer: TableWriter, path: str) -> str:
    return f"{writer.table.layer}/{writer.table.name}/{path}"
