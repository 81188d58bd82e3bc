"""The query behind a write: bound, cast to types that Delta has, and brought into the columns of the table it goes to."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from lakehouse.errors import ConstraintViolated, SchemaMismatch, TableError
from lakehouse.sql import quote_identifier
from lakehouse.tables.names import TableName
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.types import TableColumn, delta_type, fits, is_nested, refused_names

# Their text in a path is not one and the same for every engine.
_NOT_PARTITION = ("BLOB", "FLOAT", "DOUBLE", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True, slots=True)
class Source:
    """A query whose columns all have types that Delta can store."""

    sql: str
    columns: list[TableColumn]

    def column(self, name: str) -> TableColumn | None:
        """The column of this name, told apart as DuckDB does."""
        return next((column for column in self.columns if column.key == name.casefold()), None)


def inner(sql: str) -> str:
    """A query as it can stand inside another one, even if it ends in a comment or a semicolon."""
    return f"(\n{sql.strip().rstrip(';')}\n)"


def prepare_source(con: duckdb.DuckDBPyConnection, sql: str, table: TableName) -> Source:
    """Bind the query and cast what Delta has no type for.

    Raises:
        TableError: it is not one SELECT.
        SchemaMismatch: a name or type that a Delta table can't have.
    """
    kinds = [statement.type for statement in con.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise TableError(f"the query for {table}", "is not one SELECT", found=", ".join(kind.name for kind in kinds) or "nothing")
    relation = con.sql(sql)
    columns: list[TableColumn] = []
    selected: list[str] = []
    for name, duck in zip(relation.columns, relation.types, strict=True):
        try:
            kind = delta_type(duck)
        except ValueError as error:
            raise SchemaMismatch(f"{table}, column {name}", str(error), found=str(duck), fix="Cast it to another type") from error
        refused = refused_names(name, kind)
        if refused:
            raise SchemaMismatch(
                f"{table}, column {refused[0]!r}",
                "has a name that a Delta table can't have",
                expected="no space, comma, semicolon, brace, parenthesis, tab, line break or equals sign",
                found=repr(refused[0]),
                fix="Give it another name in the query",
            )
        column = TableColumn(name, kind)
        if any(column.key == other.key for other in columns):
            raise SchemaMismatch(
                f"{table}, column {name}", "is there twice", expected="names that differ by more than case", fix="Rename one of the two"
            )
        columns.append(column)
        selected.append(_cast(name, str(duck), column.sql_type))
    return Source(f"SELECT {', '.join(selected)} FROM {inner(sql)}", columns)


def _cast(name: str, found: str, wanted: str) -> str:
    quoted = quote_identifier(name)
    return quoted if found == wanted else f"CAST({quoted} AS {wanted}) AS {quoted}"


def check_partition(table: TableName, partition_by: Sequence[str], columns: Sequence[TableColumn]) -> tuple[str, ...]:
    """The partition columns as the columns spell them.

    Raises:
        SchemaMismatch: one is not a column, is nested, or nothing else is left.
    """
    by_key = {column.key: column for column in columns}
    chosen: list[str] = []
    for name in partition_by:
        column = by_key.get(name.casefold())
        if column is None or is_nested(column.type) or column.sql_type in _NOT_PARTITION:
            raise SchemaMismatch(
                f"{table}, partition column {name}",
                "can't partition the table",
                expected=f"one of its plain columns: {', '.join(other.name for other in columns)}",
                found="no such column" if column is None else column.sql_type,
                fix="Partition by another column",
            )
        chosen.append(column.name)
    if len(chosen) == len(columns):
        raise SchemaMismatch(str(table), "would have partition columns only", fix="Leave at least one column that does not partition")
    return tuple(chosen)


def align(source: Source, snapshot: Snapshot) -> Source:
    """The source in the table's columns, order and types; columns it lacks are NULL.

    Raises:
        SchemaMismatch: a type of the source does not fit the table's without loss.
    """
    selected: list[str] = []
    for column in snapshot.columns:
        given = source.column(column.name)
        quoted = quote_identifier(column.name)
        if given is None:
            selected.append(f"CAST(NULL AS {column.sql_type}) AS {quoted}")
            continue
        if not fits(given.type, column.type):
            raise SchemaMismatch(
                f"{snapshot.table}, column {column.name}",
                "has another type than the table's",
                expected=column.sql_type,
                found=given.sql_type,
                fix=f"Cast it to {column.sql_type} in the query, or replace the table with overwrite (dbt: --full-refresh)",
            )
        is_same = given.sql_type == column.sql_type and given.name == column.name
        selected.append(quoted if is_same else f"CAST({quote_identifier(given.name)} AS {column.sql_type}) AS {quoted}")
    return Source(f"SELECT {', '.join(selected)} FROM {inner(source.sql)}", snapshot.columns)


def new_columns(source: Source, snapshot: Snapshot) -> list[TableColumn]:
    """Columns of the source that the table has not."""
    have = {column.key for column in snapshot.columns}
    return [column for column in source.columns if column.key not in have]


def check_constraints(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, source: Source) -> None:
    """NOT NULL and CHECK of the table, which a commit of our own files would not enforce.

    Raises:
        ConstraintViolated: names each constraint and how many rows break it.
    """
    conditions = {
        f"{column.name} IS NOT NULL": f"{quote_identifier(column.name)} IS NOT NULL"
        for column in snapshot.columns
        if not column.is_nullable
    }
    prefix = "delta.constraints."
    conditions |= {f"{name.removeprefix(prefix)}: {text}": text for name, text in snapshot.configuration.items() if name.startswith(prefix)}
    if not conditions:
        return
    counts = ", ".join(f"count(*) FILTER (WHERE ({condition}) IS NOT TRUE)" for condition in conditions.values())
    found = con.execute(f"SELECT {counts}, count(*) FROM {inner(source.sql)}").fetchall()[0]
    broken = [f"{name} ({count} of {found[-1]} rows)" for name, count in zip(conditions, found[:-1], strict=True) if count]
    if broken:
        raise ConstraintViolated(
            str(snapshot.table), "rows break its constraints", found="; ".join(broken), fix="Correct or leave out those rows"
        )
