"""Changes of a source table as its log tells them: a line each, in their order, and the page that they make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import duckdb

from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pgoutput import UNCHANGED, Begin, Change, Commit, Message, Relation, Values
from lakehouse.ingest.sources.postgres_types import TableColumn
from lakehouse.ingest.sources.table_rows import ROW_END, Fresh, StagedRows, stage
from lakehouse.sql import quote_identifier, quote_literal

_PLACE, _POSITION, _GONE = "__place", "__position", "__is_gone"
# Twice the place: there is room in between for the removal of all rows.
_AT = "__at"
_AT_ONCE_ROWS = 2000
_AT_ONCE_BYTES = 4 * 1024 * 1024
# Of the rows that were there before; the first change is at 0, and may follow a removal of all rows.
_KNOWN_AT = -2


class Server(Protocol):
    """What the server must be asked about changes."""

    def resolved(self, relation: Relation) -> Mapping[str, TableColumn]:
        """A table's columns as changes have it."""
        ...

    def as_json(self, column: TableColumn, values: list[str]) -> list[str]:
        """Values of a column as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Truncated:
    """All rows were removed, before the change of this place in the file was made."""

    place: int
    position: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the page's columns are in a relation's rows."""

    relation: Relation
    places: Sequence[int | None]
    columns: Sequence[TableColumn | None]
    as_json: Sequence[int]


class ChangeWriter:
    """Writes the changes of one table as CSV, as the server writes rows: a value each, its place in the file, and its place in the log.

    Attributes:
        rows: lines.
        deletes: rows that were deleted, or got another key.
        truncates: when all of them were removed.
        end: behind the last transaction.
        layouts: the columns as they were found, by the page's names.

    Args:
        file: to write to.
        table: the table's oid; changes of others are left out.
        columns: the page's.
        key: those of them that tell rows apart.
        find: the name in a relation of each of the page's columns.
        server: what must be asked.
        is_known: a transaction whose changes are to be left out.
        tells_gone: rows that are gone are written, too: their key alone.
        what: they are of, for people.
        again: what to do where a change can't be told as a whole.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        table: int,
        columns: Sequence[str],
        key: Sequence[str],
        find: Callable[[Mapping[str, TableColumn]], Mapping[str, str]],
        server: Server,
        is_known: Callable[[Begin], bool],
        tells_gone: bool,
        what: str,
        again: str,
    ) -> None:
        self._file, self._table, self._columns, self._find, self._server = file, table, columns, find, server
        self._is_known, self._tells_gone, self._what, self._again = is_known, tells_gone, what, again
        self._key = [columns.index(name) for name in key]
        self._layout: _Layout | None = None
        self._lines: list[list[bytes | None]] = []
        self._size = 0
        self._position = 0
        self.rows = self.deletes = self.end = 0
        self.truncates: list[Truncated] = []
        self.layouts: list[Mapping[str, TableColumn]] = []

    def write(self, messages: Iterable[Message]) -> None:
        """Write them all.

        Raises:
            SourceError: a change lacks a value that it does not tell again.
            ValueError: the messages make no sense.
        """
        is_known = False
        for message in messages:
            if isinstance(message, Change):
                if message.relation == self._table and not is_known:
                    self._change(message)
            elif isinstance(message, Begin):
                is_known = self._is_known(message)
                self._position = message.commit_lsn
            elif isinstance(message, Commit):
                self.end = message.end_lsn
            elif isinstance(message, Relation):
                if message.oid == self._table:
                    self._lay_out(message)
            elif self._table in message.relations and not is_known:
                self.truncates.append(Truncated(self.rows, self._position))
        self._flush()

    def _lay_out(self, relation: Relation) -> None:
        if self._layout is not None and self._layout.relation == relation:
            return
        self._flush()
        resolved = self._server.resolved(relation)
        names = self._find(resolved)
        index = {column.name: place for place, column in enumerate(relation.columns)}
        places = [index[names[name]] if name in names else None for name in self._columns]
        columns = [resolved[names[name]] if name in names else None for name in self._columns]
        as_json = [place for place, column in enumerate(columns) if column is not None and column.as_json]
        self._layout = _Layout(relation, places, columns, as_json)
        self.layouts.append({name: resolved[found] for name, found in names.items()})

    def _change(self, change: Change) -> None:
        layout = self._layout
        if layout is None:
            raise ValueError("a change comes before what its table looks like")
        new, old = change.new, change.old
        if old is not None and (new is None or self._has_other_key(change, layout)):
            self.deletes += 1
            if self._tells_gone:
                self._line(
                    [self._key_value(old, place, change, layout) if place in self._key else None for place in range(len(self._columns))],
                    b"t",
                )
        if new is None:
            return
        line: list[bytes | None] = []
        for place in layout.places:
            value = None if place is None else new[place]
            line.append(self._kept(change, place, layout) if value is UNCHANGED else value)
        self._line(line, b"f")

    def _has_other_key(self, change: Change, layout: _Layout) -> bool:
        new, old = change.new, change.old
        if new is None or old is None:
            return False
        for at in self._key:
            place = layout.places[at]
            if place is None or not (change.has_whole_old or layout.relation.columns[place].is_key):
                continue
            if new[place] is not UNCHANGED and new[place] != old[place]:
                return True
        return False

    def _kept(self, change: Change, place: int | None, layout: _Layout) -> bytes | None:
        """A value that was not sent, because the update has left it as it was."""
        old = change.old
        if place is not None and old is not None and (change.has_whole_old or layout.relation.columns[place].is_key):
            value = old[place]
            if value is not UNCHANGED:
                return value
        name = "?" if place is None else layout.relation.columns[place].name
        raise self._untold(f"an update does not tell the long value of {name}, which it left as it was")

    def _key_value(self, old: Values, at: int, change: Change, layout: _Layout) -> bytes | None:
        place = layout.places[at]
        if place is not None and (change.has_whole_old or layout.relation.columns[place].is_key):
            value = old[place]
            if value is not UNCHANGED:
                return value
        raise self._untold(f"a delete does not tell {self._columns[at]}")

    def _untold(self, problem: str) -> SourceError:
        return SourceError(self._what, f"has a change from before REPLICA IDENTITY was set as it has to be: {problem}", fix=self._again)

    def _line(self, line: list[bytes | None], is_gone: bytes) -> None:
        self._size += sum(len(value) for value in line if value is not None)
        line.append(b"%d" % self.rows)
        line.append(b"%d" % self._position)
        line.append(is_gone)
        self._lines.append(line)
        self.rows += 1
        if len(self._lines) >= _AT_ONCE_ROWS or self._size >= _AT_ONCE_BYTES:
            self._flush()

    def _flush(self) -> None:
        lines = self._lines
        if not lines:
            return
        if self._layout is not None:
            for at in self._layout.as_json:
                self._to_json(at, self._layout.columns[at])
        end = b"," + ROW_END.encode() + b"\n"
        self._file.write(
            b"".join(b",".join(b"" if value is None else b'"%b"' % value.replace(b'"', b'""') for value in line) + end for line in lines)
        )
        self._lines, self._size = [], 0

    def _to_json(self, at: int, column: TableColumn | None) -> None:
        values = list({value for line in self._lines if (value := line[at]) is not None})
        if column is None or not values:
            return
        texts = self._server.as_json(column, [value.decode() for value in values])
        found = dict(zip(values, texts, strict=True))
        for line in self._lines:
            value = line[at]
            if value is not None:
                line[at] = found[value].encode()


@dataclass(frozen=True, slots=True)
class Changes(StagedRows):
    """The changes of a look, staged.

    A row that a transaction changed several times counts once: nobody else could see what was in between.

    Attributes:
        truncates: when all rows were removed.
        tells_gone: rows that are gone are in the page.
        is_each: the page has what each transaction made of a row, instead of what the last one did.
    """

    truncates: Sequence[Truncated] = ()
    tells_gone: bool = False
    is_each: bool = False

    @classmethod
    def stage_changes(
        cls,
        con: duckdb.DuckDBPyConnection,
        rows: Path,
        written: ChangeWriter,
        *,
        columns: Mapping[str, TableColumn],
        listed: Sequence[str],
        key: Sequence[str],
        known: Path | None,
        tells_gone: bool,
        is_each: bool,
        what: str,
    ) -> "Changes":
        """Read what was written.

        Args:
            con: a connection.
            rows: the file.
            written: the writer, done.
            columns: the page's, with their types.
            listed: those that the file has, in their order.
            key: those that tell rows apart.
            known: keys of the rows that were there before.
            tells_gone: rows that are gone are in the page.
            is_each: the page has what each transaction made of a row.
            what: they are of, for people.

        Raises:
            SourceError: a row is too long.
        """
        numbers = [f"CAST({quote_identifier(name)} AS BIGINT) AS {quote_identifier(name)}" for name in (_PLACE, _POSITION)]
        staged = stage(con, rows, written.rows, columns=[*listed, _PLACE, _POSITION, _GONE], replaced=numbers, what=what)
        doubtful = {
            name for layout in written.layouts for name, was in layout.items() if name in columns and was.kept != columns[name].kept
        }
        return cls(con, columns, key, staged, known, doubtful, written.truncates, tells_gone, is_each)

    def settle(self) -> Fresh:
        """Find out which changes count."""
        if not self.key:
            found = f"SELECT 2 * {_PLACE} AS {_AT}, {_POSITION}, false AS {_GONE} FROM {self.source} WHERE {_GONE} = 'f'"
            self.con.execute(f"CREATE OR REPLACE TEMP TABLE change_kept AS {found}")
            return Fresh(self.one("SELECT count(*) FROM change_kept"), 0)
        keys = self._keys
        self.con.execute(
            f"CREATE OR REPLACE TEMP TABLE change_events AS SELECT {keys}, 2 * {_PLACE} AS {_AT}, {_POSITION}, {_GONE} = 't' AS {_GONE} FROM {self.source}"
        )
        if self.tells_gone:
            for truncated in self.truncates:
                at = 2 * truncated.place - 1
                self.con.execute(
                    f"INSERT INTO change_events SELECT {keys}, {at}, {truncated.position}, true FROM ({self._there(f'WHERE {_AT} < {at}')})"
                )
        each = f", {_POSITION}" if self.is_each else ""
        self.con.execute(
            f"CREATE OR REPLACE TEMP TABLE change_kept AS SELECT {keys}, max({_AT}) AS {_AT}, arg_max({_POSITION}, {_AT}) AS {_POSITION}, "
            f"arg_max({_GONE}, {_AT}) AS {_GONE} FROM change_events GROUP BY {keys}{each}"
        )
        return Fresh(
            self.one(f"SELECT count(*) FROM change_kept WHERE NOT {_GONE}"), self.one(f"SELECT count(*) FROM change_kept WHERE {_GONE}")
        )

    def write_page(self, target: Path, *, deleted_as: str | None, position_as: str | None, marks: Mapping[str, str]) -> None:
        """Write the changes that count, in their order."""
        counted = f"(SELECT * FROM {self.source} JOIN (SELECT {_AT} FROM change_kept WHERE NOT {_GONE}) ON {_AT} = 2 * {_PLACE})"
        kept = {name: self.kept_type(name, "change_kept" if name in self.key else counted) for name in self.columns}
        also = "".join(f", {sql} AS {quote_identifier(name)}" for name, sql in ((deleted_as, "{gone}"), (position_as, _POSITION)) if name)
        columns = ", ".join(f"{self.typed(name, kept[name])} AS {quote_identifier(name)}" for name in self.columns)
        query = f"SELECT {columns}{also.format(gone='false')}, {_AT} FROM {counted}"
        if self.tells_gone:
            query += f" UNION ALL SELECT {', '.join(self.gone(kept))}{also.format(gone='true')}, {_AT} FROM change_kept WHERE {_GONE}"
        self.copy(f"SELECT * EXCLUDE ({_AT}) FROM ({query}) ORDER BY {_AT}", target, marks=marks)

    def write_known(self, target: Path) -> None:
        """Write the keys of the rows that are there now."""
        self.copy(f"SELECT {self._keys} FROM ({self._there()})", target)

    def _there(self, where: str = "") -> str:
        """The keys of the rows that are there at some moment."""
        keys = self._keys
        known = f" UNION ALL SELECT {keys}, {_KNOWN_AT}, false FROM read_parquet({quote_literal(str(self.known))})" if self.known else ""
        events = f"SELECT {keys}, {_AT}, {_GONE} FROM change_events {where}{known}"
        return f"SELECT {keys} FROM ({events}) GROUP BY {keys} HAVING NOT arg_max({_GONE}, {_AT})"

    @property
    def _keys(self) -> str:
        return ", ".join(quote_identifier(name) for name in self.key)
