"""A logical replication slot of a PostgreSQL server: what it tells, and how far it was read.

Slot and publication are the administrator's: nothing is made on the server, and nothing removed. A slot is read by SQL functions on an
ordinary connection; reading takes nothing away, and only `advance` lets the server forget.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lakehouse.contracts.databases import SourceTable
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pgoutput import Relation
from lakehouse.ingest.sources.postgres_reading import begun, columns_of_types, connected, copied, first_line, refused
from lakehouse.ingest.sources.postgres_types import TableColumn
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

_T = TypeVar("_T")
# After a client was killed the server reads on for a while before it notices.
_BUSY_S = 30.0
_OPEN_S = 30.0
_AGAIN_S = 0.3
_LAG = """
    SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint, (pg_current_wal_lsn() - restart_lsn)::bigint
    FROM pg_replication_slots WHERE slot_name = %s
"""


def lsn_text(lsn: int) -> str:
    """A place in the server's log as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions one transaction sees, as `pg_current_snapshot()` says."""

    oldest: int
    next: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """From `xmin:xmax:xip_list`.

        Raises:
            ValueError: it is none.
        """
        oldest, upto, running = text.split(":")
        return cls(int(oldest), int(upto), frozenset(int(one) for one in running.split(",") if one))

    def shows(self, xid: int) -> bool:
        """It sees what a transaction did; of its number only the lower 32 bits are known, and that it is not far from the snapshot."""
        near = (self.next & ~0xFFFFFFFF) | xid
        if near - self.next > 1 << 31:
            near -= 1 << 32
        elif self.next - near > 1 << 31:
            near += 1 << 32
        return near < self.oldest or (near < self.next and near not in self.running)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a slot is behind: bytes of the log that were not read, and those that the server keeps on disk for it."""

    bytes: int
    retained_bytes: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot, on a connection of its own; `again` says what to do where changes are lost."""

    source: SourceTable
    connection: "psycopg.Connection[tuple[object, ...]]"
    again: str = ""

    def wait_for_open(self) -> None:
        """Wait until no transaction is open that began before now: one that had begun before the table was published is not told.

        Raises:
            SourceError: one is open for long.
        """
        asked = time.monotonic()
        upto = self._one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        while self._one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") < upto:
            if time.monotonic() - asked > _OPEN_S:
                raise SourceError(
                    self.name,
                    "was made before the table was published, and transactions are open that may have begun before",
                    fix="Try again when they have ended, or make the slot anew: " + self.made_anew(),
                )
            time.sleep(_AGAIN_S)

    def end(self) -> int:
        """Where the server's log ends now, as far as it is on the server's disk."""
        return self._one("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")

    def peek(self, upto: int, most: int, to: Path, *, progress: Callable[[int], None] | None = None) -> int:
        """Write what the slot tells up to a place in the log into a file, whole transactions; returns the number of messages.

        With `most` messages or more there may be more to come: behind the last transaction in the file.

        Raises:
            SourceError: somebody else reads it, or the server can't or won't tell.
        """
        from psycopg import sql

        publication = sql.Identifier(str(self.source.publication)).as_string(self.connection)
        command = sql.SQL(
            "COPY (SELECT data FROM pg_logical_slot_peek_binary_changes("
            "{}, {}, {}, 'proto_version', '1', 'publication_names', {})) TO STDOUT (FORMAT binary)"
        ).format(sql.Literal(self.source.slot), sql.Literal(lsn_text(upto)), sql.Literal(most), sql.Literal(publication))

        def told() -> int:
            begun(self.connection, self.source)
            return copied(self.connection, command, to, progress=progress)

        return self._alone(told)

    def advance(self, lsn: int) -> None:
        """Let the server forget what was committed before a place in its log.

        Raises:
            SourceError: the server refuses.
        """
        self._alone(lambda: self.connection.execute("SELECT pg_replication_slot_advance(%s, %s)", (self.source.slot, lsn_text(lsn))))

    def _alone(self, ask: Callable[[], _T]) -> _T:
        """Ask in a transaction what only one may ask at a time; who else does is waited for."""
        from psycopg import Error, errors

        asked = time.monotonic()
        while True:
            try:
                with self.connection.transaction():
                    return ask()
            except errors.ObjectInUse as error:
                if time.monotonic() - asked > _BUSY_S:
                    raise SourceError(self.name, "is being read by somebody else", found=first_line(error), fix="Try again") from error
                time.sleep(_AGAIN_S)
            except Error as error:
                raise self._untold(error) from error

    def lag(self) -> Lag:
        """How far it is behind.

        Raises:
            SourceError: the server does not say.
        """
        from psycopg import Error

        try:
            with self.connection.transaction():
                row = self.connection.execute(_LAG, (self.source.slot,)).fetchone()
        except Error as error:
            raise refused(self.source, error) from error
        found = [int(str(value)) if value is not None else 0 for value in row] if row else [0, 0]
        return Lag(*found)

    def resolved(self, relation: Relation) -> dict[str, TableColumn]:
        """The columns of a table as changes have it; a value of a type that is no more is text."""
        from psycopg import Error

        columns = relation.columns
        try:
            with self.connection.transaction():
                found = columns_of_types(
                    self.connection,
                    [column.name for column in columns],
                    [column.type_oid for column in columns],
                    [column.modifier for column in columns],
                )
        except Error as error:
            raise refused(self.source, error) from error
        return {column.name: found.get(column.name) or TableColumn(column.name, "???", "VARCHAR") for column in columns}

    def as_json(self, column: TableColumn, values: list[str]) -> list[str]:
        """Values of a column as the server writes them as JSON."""
        from psycopg import Error, sql

        declared = sql.SQL(column.declared)  # pyright: ignore[reportArgumentType]
        query = sql.SQL("SELECT to_json(CAST(v AS {}))::text FROM unnest({}::text[]) WITH ORDINALITY AS one (v, n) ORDER BY n")
        try:
            with self.connection.transaction():
                begun(self.connection, self.source)
                return [str(row[0]) for row in self.connection.execute(query.format(declared, sql.Literal(values))).fetchall()]
        except Error as error:
            raise refused(self.source, error) from error

    @property
    def name(self) -> str:
        """For people."""
        return f"slot {self.source.slot} of {self.source.address}"

    def making(self) -> str:
        """SQL that makes the slot."""
        return self.sql("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", self.literal(self.source.slot))

    def made_anew(self) -> str:
        """SQL that makes it once more."""
        return self.sql("SELECT pg_drop_replication_slot({})", self.literal(self.source.slot)) + f"; {self.making()}"

    def sql(self, template: str, *parts: "sql.Composable") -> str:
        """SQL as an administrator would write it."""
        from psycopg import sql

        return sql.SQL(template).format(*parts).as_string(self.connection)  # pyright: ignore[reportArgumentType]

    def literal(self, value: str | None) -> "sql.Composable":
        """A text in SQL."""
        from psycopg import sql

        return sql.Literal(value)

    def _one(self, query: str) -> int:
        from psycopg import Error

        try:
            with self.connection.transaction():
                row = self.connection.execute(query).fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
        except Error as error:
            raise refused(self.source, error) from error
        return int(str(row[0])) if row else 0

    def _untold(self, error: "psycopg.Error") -> SourceError:
        from psycopg import errors

        said = first_line(error)
        if isinstance(error, errors.UndefinedObject) and "publication" in said:
            return SourceError(
                self.name,
                "is older than its publication, and can't be read",
                found=said,
                fix=f"As an administrator: {self.made_anew()}",
            )
        if isinstance(error, errors.ObjectNotInPrerequisiteState | errors.UndefinedFile):
            return SourceError(
                self.name, "has lost changes", found=said, fix=f"As an administrator: {self.made_anew()}. Then: {self.again}"
            )
        return refused(self.source, error)


@contextmanager
def opened(source: SourceTable, settings: Settings, *, again: str = "") -> Iterator[Slot]:
    """The table's slot, on a connection of its own.

    Raises:
        SourceError: no driver, or no connection.
    """
    with connected(source, settings) as connection:
        yield Slot(source, connection, again)
