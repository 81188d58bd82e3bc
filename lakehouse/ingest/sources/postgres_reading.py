"""One table of a PostgreSQL database in one read-only transaction: what it is, and its rows as one CSV."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts.databases import SourceTable
from lakehouse.errors import MissingExtra, SourceError
from lakehouse.ingest.sources.postgres_types import TableColumn, table_column
from lakehouse.ingest.sources.table_rows import ROW_END
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

_CONNECT_S = 10
# Values as one text each, whatever the server's, the database's and the user's settings are.
_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lock_timeout": "30s",
    # A transaction that stands still keeps the server from cleaning up.
    "idle_in_transaction_session_timeout": "10min",
}
_READABLE = ("r", "p", "v", "m", "f")
_FIND = """
    SELECT c.oid, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, 'SELECT')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""
_NAMES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind = ANY(%s) ORDER BY 1 LIMIT 10000
"""
_OF_TABLE = """
    SELECT attnum, attname, atttypid AS type, atttypmod AS modifier, has_column_privilege(attrelid, attnum, 'SELECT') AS is_readable
    FROM pg_attribute WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
"""
_OF_TYPES = """
    SELECT number AS attnum, name AS attname, type, modifier, true AS is_readable
    FROM unnest(%(names)s::text[], %(types)s::oid[], %(modifiers)s::int[]) WITH ORDINALITY AS one (name, type, modifier, number)
"""
# A domain is what it restricts, a domain over it too.
_COLUMNS = """
    WITH RECURSIVE based AS (
        {}
        UNION ALL
        SELECT b.attnum, b.attname, t.typbasetype, CASE WHEN b.modifier = -1 THEN t.typtypmod ELSE b.modifier END, b.is_readable
        FROM based b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
    )
    SELECT b.attname, format_type(b.type, b.modifier), t.typname, t.typcategory::text, t.typtype::text, e.typname, b.is_readable
    FROM based b JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_type e ON e.oid = t.typelem
    WHERE t.typtype <> 'd' ORDER BY b.attnum
"""


@dataclass(frozen=True, slots=True)
class Since:
    """Where a look begins: at this value of a column, less an overlap."""

    column: TableColumn
    value: str
    overlap: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A table that is being read.

    Attributes:
        columns: of the table, by name.
        now: the server's time when the transaction began, UTC.
    """

    source: SourceTable
    columns: Mapping[str, TableColumn]
    now: datetime
    connection: "psycopg.Connection[tuple[object, ...]]"

    def copy(
        self,
        columns: Sequence[TableColumn],
        since: Since | None,
        to: Path,
        *,
        where: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write the rows as CSV without a header, NULL as nothing and an empty text as "", each with an end; returns how many they are.

        A row without a watermark can't be placed and always comes along.

        Args:
            columns: to read.
            since: where to begin.
            to: the file.
            where: SQL of the server's own about which rows count.
            progress: called with the number of bytes that came since the last call.

        Raises:
            SourceError: the server refuses or goes away, or the file can't be written.
        """
        from psycopg import Error, sql

        chosen = sql.SQL(", ").join(_selected(column) for column in columns)
        table = sql.Identifier(self.source.schema, self.source.table)
        query = sql.SQL("SELECT {}, {} FROM {}").format(chosen, sql.Literal(ROW_END), table)
        if since is not None:
            query += sql.SQL(" WHERE {0} >= {1} OR {0} IS NULL").format(sql.Identifier(since.column.name), _begin(since))
        if where is not None:
            query += sql.SQL(" WHERE ({})").format(sql.SQL(where))  # pyright: ignore[reportArgumentType]
        try:
            return copied(self.connection, sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query), to, progress=progress)
        except Error as error:
            raise refused(self.source, error) from error


def copied(
    connection: "psycopg.Connection[tuple[object, ...]]",
    command: "sql.Composed",
    to: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write what a COPY gives into a file; returns the number of its rows.

    Raises:
        SourceError: the file can't be written.
        psycopg.Error: the server refuses or goes away.
    """
    try:
        with to.open("wb") as file, connection.cursor() as cursor:
            with cursor.copy(command) as rows:
                for block in rows:
                    file.write(block)
                    if progress:
                        progress(len(block))
            return cursor.rowcount
    except OSError as error:
        raise SourceError(f"file {to}", "can't be written", found=error.strerror or str(error), fix="Make room") from error


@contextmanager
def reading(source: SourceTable, settings: Settings) -> Iterator[Reading]:
    """Connect, and look at the table; everything inside sees one instant of it and can change nothing.

    Raises:
        MissingExtra: no driver.
        SourceError: no connection, no such table, or this user may not read it.
    """
    with connected(source, settings) as connection:
        from psycopg import Error

        try:
            oid, now = begun(connection, source)
            columns = table_columns(connection, oid)
        except Error as error:
            raise refused(source, error) from error
        yield Reading(source, columns, now, connection)


@contextmanager
def connected(source: SourceTable, settings: Settings) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
    """A connection whose transactions each see one instant and can change nothing.

    Raises:
        MissingExtra: no driver.
        SourceError: no connection.
    """
    try:
        import psycopg
    except ImportError as error:
        fix = "Install the extra: pip install 'lakehouse[postgres]'"
        raise MissingExtra(f"server {source.address}", "needs a driver", fix=fix) from error
    connection: psycopg.Connection[tuple[object, ...]] = _connect(source, settings)
    try:
        yield connection
    finally:
        connection.close()


def table_columns(connection: "psycopg.Connection[tuple[object, ...]]", oid: int) -> dict[str, TableColumn]:
    """The table's columns as they are now, by name."""
    return {str(row[0]): _column(row) for row in connection.execute(_COLUMNS.format(_OF_TABLE), {"table": oid}).fetchall()}


def columns_of_types(
    connection: "psycopg.Connection[tuple[object, ...]]", names: Sequence[str], types: Sequence[int], modifiers: Sequence[int]
) -> dict[str, TableColumn]:
    """Columns of these types, by name; those of a type that is no more are missing."""
    values = {"names": list(names), "types": list(types), "modifiers": list(modifiers)}
    return {str(row[0]): _column(row) for row in connection.execute(_COLUMNS.format(_OF_TYPES), values).fetchall()}


def _connect(source: SourceTable, settings: Settings) -> "psycopg.Connection[tuple[object, ...]]":
    import psycopg

    password = settings.postgres_password.get_secret_value() if settings.postgres_password else None
    try:
        connection = psycopg.connect(
            host=source.host,
            port=source.port,
            dbname=source.database,
            user=settings.postgres_user or source.user,
            password=password,
            sslmode=source.sslmode,
            connect_timeout=_CONNECT_S,
            application_name="lakehouse",
            client_encoding="UTF8",
            keepalives_idle=30,
        )
    except (psycopg.Error, UnicodeError) as error:
        raise _unreachable(source, error) from error
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def begun(connection: "psycopg.Connection[tuple[object, ...]]", source: SourceTable) -> tuple[int, datetime]:
    """Begin a transaction; returns the table's oid and the server's time.

    Raises:
        SourceError: no such table, or this user may not read it.
        psycopg.Error: the server refuses.
    """
    for name, value in _SESSION.items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))
    found = connection.execute(_FIND, (source.schema, source.table)).fetchone()
    if found is None or found[1] not in _READABLE:
        names = [str(row[0]) for row in connection.execute(_NAMES, (source.schema, list(_READABLE))).fetchall()]
        near = get_close_matches(source.table, names, n=3, cutoff=0.5) or names[:5]
        fix = f"Is it {' or '.join(near)}?" if near else f"Schema {source.schema} has no table that this user could see"
        raise SourceError(
            f"server {source.address}", "has no such table", expected=source.name, fix=f"{fix} Name it with schema and lakehouse.table"
        )
    if not (found[2] and found[3]):
        raise forbidden(source, source.name)
    now = connection.execute("SELECT now()").fetchone()
    assert now is not None and isinstance(now[0], datetime) and isinstance(found[0], int)  # noqa: S101, PT018
    return found[0], now[0]


def _column(row: Sequence[object]) -> TableColumn:
    name, declared, type_name, category, kind, element, is_readable = row
    return table_column(
        str(name),
        str(declared),
        type_name=str(type_name),
        category=str(category),
        kind=str(kind),
        element=None if element is None else str(element),
        is_readable=bool(is_readable),
    )


def _selected(column: TableColumn) -> "sql.Composable":
    from psycopg import sql

    name = sql.Identifier(column.name)
    return sql.SQL("to_json({})").format(name) if column.as_json else name


def _begin(since: Since) -> "sql.Composable":
    from psycopg import sql

    if since.column.is_time:
        # Of its own type: an index on the column serves.
        declared = sql.SQL(since.column.declared)  # pyright: ignore[reportArgumentType]
        return sql.SQL("CAST({} AS {}) - make_interval(secs => {})").format(sql.Literal(since.value), declared, sql.Literal(since.overlap))
    return sql.Literal(int(since.value) - int(since.overlap))


def _unreachable(source: SourceTable, error: Exception) -> SourceError:
    """Why there is no connection. libpq says it in words alone."""
    said = first_line(error)
    lowered = said.lower()
    if "password" in lowered or "authentication" in lowered or "no pg_hba.conf entry" in lowered:
        problem, fix = "refuses this user", "Set LAKEHOUSE_POSTGRES_USER and LAKEHOUSE_POSTGRES_PASSWORD, or ~/.pgpass"
    elif "does not exist" in lowered:
        problem, fix = "does not know the database or the user", "Correct the contract's server, or LAKEHOUSE_POSTGRES_USER"
    elif "ssl" in lowered or "certificate" in lowered:
        problem, fix = "can't be talked to in confidence", "Correct lakehouse.sslmode, or the certificates that libpq looks for"
    elif "too many" in lowered or "starting up" in lowered or "shutting down" in lowered:
        problem, fix = "takes no connection now", "Try again"
    else:
        problem, fix = "can't be reached", "Is it running, and are host and port right?"
    return SourceError(f"server {source.address}", problem, found=said, fix=fix)


def refused(source: SourceTable, error: "psycopg.Error") -> SourceError:
    """What the server said, as an error that says what to do."""
    from psycopg import errors

    said = first_line(error)
    if isinstance(error, errors.InsufficientPrivilege):
        return forbidden(source, said)
    if isinstance(error, errors.LockNotAvailable):
        return SourceError(f"table {source.name} of {source.address}", "is locked by somebody else", found=said, fix="Try again")
    if isinstance(error, errors.OperationalError):
        return SourceError(f"server {source.address}", "broke off", found=said, fix="Try again: nothing was fetched, nothing is lost")
    return SourceError(f"table {source.name} of {source.address}", "can't be read", found=said)


def forbidden(source: SourceTable, what: str) -> SourceError:
    """This user lacks the right to read the table."""
    fix = f"GRANT USAGE ON SCHEMA {source.schema} and GRANT SELECT ON {source.name} to this user"
    return SourceError(f"table {source.name} of {source.address}", "may not be read by this user", found=what, fix=fix)


def first_line(error: Exception) -> str:
    """What an error says, without what follows from it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
