"""One table of a PostgreSQL database in one read-only transaction: what it is, and its rows as one CSV."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts.databases import SourceTable
from lakehouse.errors import SourceError
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
# A domain is what it restricts, a domain over it too.
_COLUMNS = """
    WITH RECURSIVE based AS (
        SELECT attnum, attname, atttypid AS type, atttypmod AS modifier FROM pg_attribute
        WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, t.typbasetype, CASE WHEN b.modifier = -1 THEN t.typtypmod ELSE b.modifier END
        FROM based b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
    )
    SELECT b.attname, format_type(b.type, b.modifier), t.typname, t.typcategory::text, t.typtype::text, e.typname,
           has_column_privilege(%(table)s, b.attnum, 'SELECT')
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

    def copy(self, columns: Sequence[TableColumn], since: Since | None, to: Path, *, progress: Callable[[int], None] | None = None) -> int:
        """Write the rows as CSV without a header, NULL as nothing and an empty text as "", each with an end; returns how many they are.

        A row without a watermark can't be placed and always comes along.

        Raises:
            SourceError: the server refuses or goes away, or the file can't be written.
        """
        from psycopg import Error, sql

        chosen = sql.SQL(", ").join(_selected(column) for column in columns)
        table = sql.Identifier(self.source.schema, self.source.table)
        query = sql.SQL("SELECT {}, {} FROM {}").format(chosen, sql.Literal(ROW_END), table)
        if since is not None:
            query += sql.SQL(" WHERE {0} >= {1} OR {0} IS NULL").format(sql.Identifier(since.column.name), _begin(since))
        try:
            with to.open("wb") as file, self.connection.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)) as rows:
                    for block in rows:
                        file.write(block)
                        if progress:
                            progress(len(block))
                return cursor.rowcount
        except Error as error:
            raise _refused(self.source, error) from error
        except OSError as error:
            raise SourceError(f"file {to}", "can't be written", found=error.strerror or str(error), fix="Make room") from error


@contextmanager
def reading(source: SourceTable, settings: Settings) -> Iterator[Reading]:
    """Connect, and look at the table; everything inside sees one instant of it and can change nothing.

    Raises:
        SourceError: no driver, no connection, no such table, or this user may not read it.
    """
    try:
        from psycopg import Error
    except ImportError as error:
        raise SourceError(
            f"server {source.address}", "needs a driver", fix="Install the extra: pip install 'lakehouse[postgres]'"
        ) from error
    connection = _connect(source, settings)
    try:
        try:
            oid, now = _open(connection, source)
            described = connection.execute(_COLUMNS, {"table": oid}).fetchall()
        except Error as error:
            raise _refused(source, error) from error
        yield Reading(source, {str(row[0]): _column(row) for row in described}, now, connection)
    finally:
        connection.close()


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


def _open(connection: "psycopg.Connection[tuple[object, ...]]", source: SourceTable) -> tuple[int, datetime]:
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
        raise _forbidden(source, source.name)
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
    said = _first_line(error)
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


def _refused(source: SourceTable, error: "psycopg.Error") -> SourceError:
    from psycopg import errors

    said = _first_line(error)
    if isinstance(error, errors.InsufficientPrivilege):
        return _forbidden(source, said)
    if isinstance(error, errors.LockNotAvailable):
        return SourceError(f"table {source.name} of {source.address}", "is locked by somebody else", found=said, fix="Try again")
    if isinstance(error, errors.OperationalError):
        return SourceError(f"server {source.address}", "broke off", found=said, fix="Try again: nothing was fetched, nothing is lost")
    return SourceError(f"table {source.name} of {source.address}", "can't be read", found=said)


def _forbidden(source: SourceTable, what: str) -> SourceError:
    fix = f"GRANT USAGE ON SCHEMA {source.schema} and GRANT SELECT ON {source.name} to this user"
    return SourceError(f"table {source.name} of {source.address}", "may not be read by this user", found=what, fix=fix)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
