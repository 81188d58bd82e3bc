"""Read-only SQL over the tables, each at the version the reader asks for."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from lakehouse.errors import QueryError, TableError
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Session, TableName
from lakehouse.tables.damage import explained as damage
from lakehouse.tables.tags import parse_point
from lakehouse.tables.tiers import counted_version, spanning_sql
from lakehouse.tables.versions import AsOf

_READ_ONLY = frozenset({"SELECT", "EXPLAIN"})
_EXPLAIN = re.compile(r"^\s*explain(\s+analyze)?\s*(\([^)]*\))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of one query.

    Args:
        columns: their names, in order.
        types: their DuckDB types, in order.
        rows: in the order the query gave them.
        truncated: the limit was reached and there are more.
        versions: the version each table was read at.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool
    versions: Mapping[str, int]


def parse_as_of(items: Sequence[str]) -> dict[str, AsOf]:
    """Read `table@3`, `table@2026-01-01T00:00:00Z` and `table@approved` into a version, an instant or a tag per table.

    An instant without an offset is UTC.

    Raises:
        QueryError: an item is none of them, or names a table twice.
    """
    points: dict[str, AsOf] = {}
    for item in items:
        name, at, point = item.partition("@")
        if not at or not name or not point:
            raise _bad_as_of(item)
        table = str(TableName.parse(name))
        if table in points:
            raise QueryError(f"--as-of {item}", f"{table} is given twice", fix="Give one version per table")
        try:
            points[table] = parse_point(point)
        except TableError as error:
            raise _bad_as_of(item) from error
    return points


def _bad_as_of(item: str) -> QueryError:
    return QueryError(
        f"--as-of {item}",
        "is not a table and a point in its history",
        expected="table@version, table@instant or table@tag, such as analytics.x@3, analytics.x@2026-01-31T12:00 or analytics.x@approved",
        fix="lakehouse history TABLE lists versions, lakehouse tag list the tags",
    )


def query(
    lake: Lake, sql: str, *, as_of: Mapping[str, AsOf] | None = None, limit: int | None = None, archive: Sequence[Lake] = ()
) -> QueryResult:
    """Run one SELECT over the tables it names; it can read nothing else and change nothing.

    With `archive`, the tiers below the lake, a table is read with all rows that have moved there.

    Raises:
        QueryError: the SQL is wrong, is not a single SELECT, or names a table that does not exist.
        TableNotFound: `as_of` names a table or version that does not exist.
    """
    pinned = dict(as_of or {})
    tables = lake.tables()
    wanted = {str(table) for table in tables if _mentions(sql, table)} | set(pinned)
    with lake.connect(sorted(wanted), as_of=pinned) as session:
        _check_read_only(session.con, sql)
        for table in sorted(wanted) if archive else ():
            _span([lake, *archive], session, table)
        _lock([lake, *archive], session, wanted)
        try:
            cursor = session.con.execute(sql)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise damage(error) or _explain(error, sql, [str(table) for table in tables]) from error
        columns = tuple(str(column[0]) for column in cursor.description)
        types = tuple(str(column[1]) for column in cursor.description)
        cut = limit is not None and len(rows) > limit
        return QueryResult(columns, types, tuple(rows[:limit] if cut else rows), truncated=cut, versions=dict(session.versions))


def rows_as_dicts(result: QueryResult) -> Iterator[dict[str, Any]]:
    """Each row by column name; a repeated name gets a number so that nothing is lost."""
    names: list[str] = []
    for name in result.columns:
        copies = sum(1 for other in names if other == name or other.rpartition("_")[0] == name)
        names.append(f"{name}_{copies + 1}" if name in names else name)
    for row in result.rows:
        yield dict(zip(names, row, strict=True))


def _mentions(sql: str, table: TableName) -> bool:
    pattern = rf'(?<![\w"])"?{re.escape(table.layer)}"?\s*\.\s*"?{re.escape(table.name)}"?(?![\w"])'
    return re.search(pattern, sql, re.IGNORECASE) is not None


def _check_read_only(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        kinds = [statement.type.name for statement in con.extract_statements(sql)]
        explained = _EXPLAIN.match(sql)
        if explained and kinds == ["EXPLAIN"]:
            # EXPLAIN ANALYZE runs what it explains, so that has to be a SELECT as well.
            kinds = [statement.type.name for statement in con.extract_statements(sql[explained.end() :])]
    except duckdb.Error as error:
        raise QueryError("query", _first_line(error), fix="Correct the SQL") from error
    if kinds == ["CREATE", "SELECT"] and re.search(r"\bpivot\b", sql, re.IGNORECASE):
        return  # DuckDB rewrites PIVOT into a temporary type and a SELECT.
    if len(kinds) != 1 or kinds[0] not in _READ_ONLY:
        found = ", ".join(kinds) if kinds else "nothing"
        raise QueryError("query", "is not one read-only statement", expected="one SELECT", found=found, fix="Tables change only by runs")


def _span(tiers: Sequence[Lake], session: Session, table: str) -> None:
    """Have the table's view show the rows of all tiers."""
    version = session.versions[table]
    if counted_version(tiers[0], table, version) is None:
        return
    sql = spanning_sql(tiers, table, con=session.con, version=version)
    name = TableName.parse(table)
    session.con.execute(f"CREATE OR REPLACE VIEW {quote_identifier(name.layer)}.{quote_identifier(name.name)} AS {sql}")


def _lock(lakes: Sequence[Lake], session: Session, tables: set[str]) -> None:
    """Close the session to everything but the folders of its tables."""
    folders = ", ".join(quote_literal(f"{lake.uri}/{table.replace('.', '/')}") for lake in lakes for table in sorted(tables))
    session.con.execute(f"SET allowed_directories = [{folders}]")
    session.con.execute("SET enable_external_access = false")
    session.con.execute("SET lock_configuration = true")


def _explain(error: duckdb.Error, sql: str, tables: list[str]) -> QueryError:
    missing = re.search(r"Table with name \"?([^\s\"]+)\"? does not exist", str(error))
    if missing:
        bare = missing.group(1)
        qualified = re.search(rf'([\w"]+)\s*\.\s*"?{re.escape(bare.rpartition(".")[2])}\b', sql, re.IGNORECASE)
        asked = f"{qualified.group(1).strip(chr(34))}.{bare}" if qualified and "." not in bare else bare
        close = difflib.get_close_matches(asked, tables, n=3, cutoff=0.5)
        close += [table for table in tables if table.partition(".")[2] == bare and table not in close]
        hint = f"Did you mean {' or '.join(close)}?" if close else "lakehouse tables lists what there is"
        return QueryError(f"table {asked}", "does not exist", fix=hint)
    if isinstance(error, duckdb.PermissionException):
        return QueryError(
            "query", "reaches outside the tables", fix="A query reads the lakehouse's tables and nothing else; ingest the file first"
        )
    return QueryError("query", _first_line(error), fix="Correct the SQL")


def _first_line(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("LINE ")]
    # The second line is DuckDB's own suggestion ("Candidate bindings: ...").
    return " ".join(line for line in lines[:2] if set(line) != {"^"})
