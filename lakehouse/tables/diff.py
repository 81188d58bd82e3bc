"""What differs between two versions of a table: columns, and rows added, removed and changed by key.

Data files that both versions have are not read: their rows are the same. Of the others, equal rows cancel out however often they
are there (a multiset difference); what is left is paired by the key. So the counts are exact with any key, and without one.

Where the commits in between say which rows they deleted and inserted, and that is less to read, those rows are compared instead: what
stays of the inserted when the deleted are taken away is what one version has more than the other.
"""

import re
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from deltalake.schema import PrimitiveType

from lakehouse.errors import SchemaMismatch, TableError
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.changes import Changes
from lakehouse.tables.feed import CHANGE_TYPE, ChangeType
from lakehouse.tables.names import TableName
from lakehouse.tables.snapshot import DataFile, Snapshot
from lakehouse.tables.sql import quote_identifiers
from lakehouse.tables.types import TableColumn, fits

CHANGE_COLUMN = "_change"
"""Of an exported difference: added, removed, changed_from or changed_to."""
# Below it, finding the parts that differ first costs more than it saves.
_DIGEST_ROWS = 20_000
_DIGEST_BITS = 16
_NUMBER = re.compile(r"byte|short|integer|long|float|double|decimal")
_OUT_FORMATS = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".csv": "FORMAT csv, HEADER"}


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """Columns that only one version has, with their types, and those whose type changed: before and after."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    retyped: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FilesCompared:
    """Data files in both versions, which are not read, and in one alone.

    Attributes:
        bytes_compared: of the files in one version alone, or of those that were read instead.
        changes: files that were read instead, because they say which rows the commits in between changed.
    """

    in_both: int
    only_before: int
    only_after: int
    bytes_compared: int
    changes: int = 0


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """One row before and after."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """Some of the rows that differ, in the order of their key."""

    added: tuple[Mapping[str, Any], ...] = ()
    removed: tuple[Mapping[str, Any], ...] = ()
    changed: tuple[ChangedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class TableDiff:
    """What differs between two versions.

    Attributes:
        key: what rows were paired by; without one a changed row is one removed and one added.
        rows_before: None where another program made files without counting their rows.
        rows_after: as above.
        changed_columns: for each column how many of the changed rows have another value in it.
    """

    table: TableName
    before: int
    after: int
    key: tuple[str, ...]
    schema: SchemaDiff
    files: FilesCompared
    rows_before: int | None
    rows_after: int | None
    added: int
    removed: int
    changed: int
    changed_columns: Mapping[str, int]
    samples: Samples

    @property
    def is_empty(self) -> bool:
        """Whether both versions have the same rows and columns."""
        schema = self.schema
        return not (self.added or self.removed or self.changed or schema.added or schema.removed or schema.retyped)


def diff_snapshots(
    con: duckdb.DuckDBPyConnection,
    before: Snapshot,
    after: Snapshot,
    *,
    key: Sequence[str] = (),
    limit: int = 10,
    out: Path | None = None,
    changes: Callable[[], Changes | None] | None = None,
) -> TableDiff:
    """Compare two versions of a table; a column that one of them lacks is NULL in its rows.

    Args:
        con: reads the files; what does not fit into its memory is spilled.
        before: the one version.
        after: the other.
        key: columns that tell rows apart.
        limit: how many rows of each kind are in the samples.
        out: a .parquet or .csv file that gets every row that differs, with CHANGE_COLUMN.
        changes: asked, where rows have to be read, for what the commits from the older to the newer version say that they changed.

    Raises:
        SchemaMismatch: a column of the key is not in both versions.
        TableError: the file can't be written.
    """
    comparison = _Comparison(con, before, after, key, changes)
    try:
        return comparison.run(limit=limit, out=out)
    finally:
        comparison.close()


def diff_schemas(before: Snapshot, after: Snapshot) -> SchemaDiff:
    """The columns alone."""
    old, new = ({column.key: column for column in snapshot.columns} for snapshot in (before, after))
    return SchemaDiff(
        added={column.name: column.sql_type for key, column in new.items() if key not in old},
        removed={column.name: column.sql_type for key, column in old.items() if key not in new},
        retyped={
            column.name: (old[key].sql_type, column.sql_type)
            for key, column in new.items()
            if key in old and old[key].sql_type != column.sql_type
        },
    )


class _Comparison:
    """One comparison, with its temporary tables."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        before: Snapshot,
        after: Snapshot,
        key: Sequence[str],
        changes: Callable[[], Changes | None] | None,
    ) -> None:
        self.con = con
        self.before = before
        self.after = after
        self.schema = diff_schemas(before, after)
        self.columns = _columns(before, after)
        self.key = self._key(key)
        # What both have, by address; a file some of whose rows another engine marked as deleted is another file.
        dead = before.files_with_dead_rows() | after.files_with_dead_rows()
        old, new = ({file.uri: file for file in snapshot.files} for snapshot in (before, after))
        self.same = {uri for uri in old.keys() & new.keys() if uri not in dead}
        self.old = [file for uri, file in old.items() if uri not in self.same]
        self.new = [file for uri, file in new.items() if uri not in self.same]
        suffix = uuid.uuid4().hex[:12]
        self.gone, self.come, self.differing, self.told = (f"__diff_{name}_{suffix}" for name in ("gone", "come", "differing", "told"))
        self.made: list[str] = []
        self.is_paired = False
        self.ask_for_changes = changes
        self.changes: Changes | None = None

    def close(self) -> None:
        """Remove what was made on the way."""
        for made in reversed(self.made):
            self.con.execute(f"DROP {made}")

    def run(self, *, limit: int, out: Path | None) -> TableDiff:
        """Every count, the samples, and the file."""
        if out is not None:
            _out_options(out)
        counts = self._counted()
        self.is_paired = counts is None and bool(self.key)
        if counts is None:
            self._find()
            counts = self._counts()
        if out is not None:
            self._export(out)
        return TableDiff(
            table=self.after.table,
            before=self.before.version,
            after=self.after.version,
            key=self.key,
            schema=self.schema,
            files=self._files(),
            rows_before=_rows(self.before),
            rows_after=_rows(self.after),
            added=counts.added,
            removed=counts.removed,
            changed=counts.changed,
            changed_columns=self._changed_columns() if counts.changed else {},
            samples=self._samples(limit) if limit else Samples(),
        )

    def _files(self) -> FilesCompared:
        told = self.changes
        read = self._full_bytes() if told is None else told.size_bytes
        return FilesCompared(len(self.same), len(self.old), len(self.new), read, 0 if told is None else len(told.files))

    def _full_bytes(self) -> int:
        return sum(file.size for file in (*self.old, *self.new))

    # ---- what is compared

    def _key(self, key: Sequence[str]) -> tuple[str, ...]:
        """The key as the columns spell it."""
        both = {column.key: column.name for column in self.after.columns}
        both = {name: spelt for name, spelt in both.items() if any(column.key == name for column in self.before.columns)}
        missing = [name for name in key if name.casefold() not in both]
        if missing:
            raise SchemaMismatch(
                f"{self.after.table}, key {', '.join(key)}",
                "is not in both versions",
                expected=f"columns of version {self.before.version} and {self.after.version}: {', '.join(both.values())}",
                found=", ".join(missing),
                fix="Name other columns with --key",
            )
        return tuple(both[name.casefold()] for name in key)

    def _side(self, snapshot: Snapshot, files: Sequence[DataFile]) -> str:
        """A SELECT of the rows of some files, in the columns of both versions."""
        have = {column.key for column in snapshot.columns}
        return f"SELECT {', '.join(self._cast(have))} FROM ({snapshot.scan_sql(self.con, files=[file.uri for file in files])})"

    def _cast(self, have: Collection[str]) -> list[str]:
        """The columns of both versions, where those that are not in `have` are NULL."""
        return [
            f"CAST({quote_identifier(column.name) if column.key in have else 'NULL'} AS {column.sql_type}) AS {quote_identifier(column.name)}"
            for column in self.columns
        ]

    def _counted(self) -> "_Counts | None":
        """Added and removed, where one version's files are all in the other, so that the log knows how many rows they have."""
        counts = [file.rows for file in (*self.old, *self.new)]
        if (self.old and self.new) or any(count is None for count in counts) or self.before.has_dead_rows or self.after.has_dead_rows:
            return None
        self._view(self.come, self._side(self.after, self.new))
        self._view(self.gone, self._side(self.before, self.old))
        return _Counts(sum(file.rows or 0 for file in self.new), sum(file.rows or 0 for file in self.old), 0)

    def _view(self, name: str, sql: str) -> None:
        self.made.append(f"VIEW IF EXISTS {name}")
        self.con.execute(f"CREATE TEMP VIEW {name} AS {sql}")

    # ---- rows

    def _find(self) -> None:
        """Make the tables of rows that are left when equal ones have cancelled out, numbered within their key."""
        found = self.ask_for_changes() if self.ask_for_changes is not None and self._full_bytes() else None
        if found is not None and found.size_bytes < self._full_bytes():
            self.changes = found
            old, new, fewest = self._changed_sides(found)
        else:
            old, new = self._side(self.before, self.old), self._side(self.after, self.new)
            fewest = min(sum(file.rows or 0 for file in files) for files in (self.old, self.new))
        if fewest > _DIGEST_ROWS:
            old, new = self._narrowed(old, new)
        sides = {self.gone: f"{old} EXCEPT ALL {new}", self.come: f"{new} EXCEPT ALL {old}"}
        by = f"PARTITION BY {quote_identifiers(self.key)} " if self.key else ""
        for name, sql in sides.items():
            self._make(name, f"SELECT *, row_number() OVER ({by}) AS __n FROM ({sql})")

    def _changed_sides(self, changes: Changes) -> tuple[str, str, int]:
        """The rows that the commits say were there before and are there after, and how many there are on the side that has fewer."""
        have = {column.key for column in changes.snapshot.columns}
        kind = quote_identifier(CHANGE_TYPE)
        self._make(self.told, f"SELECT {', '.join([*self._cast(have), kind])} FROM ({changes.scan_sql(self.con)})")
        sides = [f"({quote_literal(str(ChangeType.DELETE))}, {quote_literal(str(ChangeType.BEFORE))})"]
        sides.append(f"({quote_literal(str(ChangeType.INSERT))}, {quote_literal(str(ChangeType.AFTER))})")
        if self.before.version > self.after.version:
            sides.reverse()
        old, new = (f"SELECT * EXCLUDE ({kind}) FROM {self.told} WHERE {kind} IN {side}" for side in sides)
        return old, new, min(self._count(old), self._count(new))

    def _narrowed(self, old: str, new: str) -> tuple[str, str]:
        """Both sides without most of the rows that are equal: those of the parts, by hash of the key, whose digests agree."""
        columns = quote_identifiers(column.name for column in self.columns)
        part = f"(hash({quote_identifiers(self.key) or columns}) >> {64 - _DIGEST_BITS})"
        digests = " UNION ALL ".join(
            f"SELECT {part} AS part, {sign} AS one, {sign} * CAST(hash({columns}) >> 2 AS BIGINT) AS digest FROM ({sql})"
            for sign, sql in (("1", old), ("-1", new))
        )
        self._make(self.differing, f"SELECT part FROM ({digests}) GROUP BY part HAVING sum(one) <> 0 OR sum(digest) <> 0")
        tables = []
        for name, sql in (("old", old), ("new", new)):
            table = f"{self.differing}_{name}"
            self._make(table, f"SELECT * FROM ({sql}) WHERE {part} IN (SELECT part FROM {self.differing})")
            tables.append(f"SELECT * FROM {table}")
        return tables[0], tables[1]

    def _make(self, name: str, sql: str) -> None:
        self.made.append(f"TABLE IF EXISTS {name}")
        self.con.execute(f"CREATE TEMP TABLE {name} AS {sql}")

    def _paired(self) -> str:
        same = " AND ".join(f"g.{name} IS NOT DISTINCT FROM c.{name}" for name in (*map(quote_identifier, self.key), "__n"))
        return f"{self.gone} g JOIN {self.come} c ON {same}"

    def _alone(self, one: str, other: str) -> str:
        """Rows of one side that have no partner on the other."""
        if not self.is_paired:
            return f"SELECT * FROM {one}"
        same = " AND ".join(f"o.{name} IS NOT DISTINCT FROM p.{name}" for name in (*map(quote_identifier, self.key), "__n"))
        return f"SELECT o.* FROM {one} o ANTI JOIN {other} p ON {same}"

    def _counts(self) -> "_Counts":
        come, gone = (self._count(f"SELECT 1 FROM {name}") for name in (self.come, self.gone))
        changed = self._count(f"SELECT 1 FROM {self._paired()}") if self.is_paired else 0
        return _Counts(come - changed, gone - changed, changed)

    def _count(self, sql: str) -> int:
        return int(self.con.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0][0])

    def _changed_columns(self) -> dict[str, int]:
        names = [column.name for column in self.columns if column.name not in self.key]
        counts = [f"count(*) FILTER (g.{name} IS DISTINCT FROM c.{name})" for name in map(quote_identifier, names)]
        found = self.con.execute(f"SELECT {', '.join(counts)} FROM {self._paired()}").fetchall()[0] if names else ()
        return {name: count for name, count in sorted(zip(names, found, strict=True), key=lambda one: -one[1]) if count}

    # ---- what is shown and written

    def _samples(self, limit: int) -> Samples:
        names = [column.name for column in self.columns]
        order = quote_identifiers(self.key) or "ALL"
        added, removed = (
            tuple(dict(zip(names, row, strict=False)) for row in self.con.execute(f"{sql} ORDER BY {order} LIMIT {limit}").fetchall())
            for sql in (self._alone(self.come, self.gone), self._alone(self.gone, self.come))
        )
        if not self.is_paired:
            return Samples(added, removed)
        sides = ", ".join(f"{side}.{quote_identifier(name)}" for side in ("g", "c") for name in names)
        by = ", ".join(f"c.{quote_identifier(name)}" for name in self.key)
        rows = self.con.execute(f"SELECT {sides} FROM {self._paired()} ORDER BY {by} LIMIT {limit}").fetchall()
        width = len(names)
        changed = tuple(ChangedRow(dict(zip(names, row[:width], strict=True)), dict(zip(names, row[width:], strict=True))) for row in rows)
        return Samples(added, removed, changed)

    def _export(self, out: Path) -> None:
        columns = quote_identifiers(column.name for column in self.columns)
        parts = [
            f"SELECT 'added' AS {CHANGE_COLUMN}, {columns} FROM ({self._alone(self.come, self.gone)})",
            f"SELECT 'removed' AS {CHANGE_COLUMN}, {columns} FROM ({self._alone(self.gone, self.come)})",
        ]
        if self.is_paired:
            for side, what in (("g", "changed_from"), ("c", "changed_to")):
                chosen = ", ".join(f"{side}.{quote_identifier(column.name)}" for column in self.columns)
                parts.append(f"SELECT '{what}' AS {CHANGE_COLUMN}, {chosen} FROM {self._paired()}")
        order = f"{quote_identifiers(self.key)}, {CHANGE_COLUMN}" if self.key else "ALL"
        sql = f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY {order}"
        try:
            self.con.execute(f"COPY ({sql}) TO {quote_literal(str(out))} ({_out_options(out)})")
        except duckdb.IOException as error:
            raise TableError(str(out), "can't be written", found=str(error).splitlines()[0], fix="Choose another place") from error


@dataclass(frozen=True, slots=True)
class _Counts:
    added: int
    removed: int
    changed: int


def _out_options(out: Path) -> str:
    options = _OUT_FORMATS.get(out.suffix.lower())
    if options is None:
        raise TableError(str(out), "is no file that rows can be written to", expected=" or ".join(_OUT_FORMATS), fix="Rename it")
    return options


def _columns(before: Snapshot, after: Snapshot) -> list[TableColumn]:
    """The columns of both versions, each with a type that holds the values of both."""
    old = {column.key: column for column in before.columns}
    new = {column.key for column in after.columns}
    found = [_wider(old[column.key], column) if column.key in old else column for column in after.columns]
    return [*found, *(column for key, column in old.items() if key not in new)]


def _wider(old: TableColumn, new: TableColumn) -> TableColumn:
    if fits(old.type, new.type):
        return new
    if fits(new.type, old.type):
        return TableColumn(new.name, old.type)
    # No type holds both: numbers are compared as numbers, all else as text.
    is_number = all(isinstance(one.type, PrimitiveType) and _NUMBER.match(one.type.type) for one in (old, new))
    return TableColumn(new.name, PrimitiveType("double" if is_number else "string"))


def _rows(snapshot: Snapshot) -> int | None:
    counts = [file.rows for file in snapshot.files]
    if any(count is None for count in counts) or snapshot.has_dead_rows:
        return None
    return sum(count or 0 for count in counts)
