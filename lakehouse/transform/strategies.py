"""What dbt's incremental strategies and on_schema_change mean for a table: which write it is, and which columns get in."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.errors import TransformError
from lakehouse.sql import quote_identifier
from lakehouse.tables import Commit, Lake, TableName

if TYPE_CHECKING:
    import duckdb

_KEYED = frozenset({"merge", "delete+insert", "snapshot"})


def write_of(lake: Lake, request: Mapping[str, Any]) -> Callable[..., Commit]:
    """The lake's write that a model's strategy asks for, with what its config says of it.

    Raises:
        TransformError: there is no such strategy, or it lacks its key.
    """
    strategy, key = request["strategy"], tuple(request["unique_key"])
    if strategy in _KEYED and not key:
        raise TransformError(request["node"], f"incremental_strategy {strategy} needs a key", fix="Set unique_key in its config")
    if strategy == "append":
        return lake.append
    if strategy in {"insert_overwrite", "replace_partitions"}:
        return lake.replace_partitions
    if strategy in {"merge", "snapshot"}:
        return partial(lake.merge, key=key)
    if strategy == "delete+insert":
        return partial(lake.delete_insert, key=key, gone=request["gone"])
    if strategy == "replace_where" and request["replace_where"]:
        return partial(lake.replace_where, where=request["replace_where"])
    raise TransformError(
        request["node"],
        "has an incremental_strategy that does not exist here",
        expected="append, merge, delete+insert, insert_overwrite, or replace_where with meta.lakehouse.replace_where",
        found=repr(strategy),
    )


def fitting_columns(
    lake: Lake, con: "duckdb.DuckDBPyConnection", table: TableName, sql: str, request: Mapping[str, Any]
) -> tuple[str, bool]:
    """What dbt calls on_schema_change: the SQL of the columns that get into the table, and whether it takes new ones.

    Raises:
        TransformError: columns were to be dropped.
    """
    change = request["on_schema_change"] or "ignore"
    if change == "sync_all_columns":
        raise TransformError(
            request["node"],
            "asks to drop columns from a table that keeps its history",
            expected="on_schema_change append_new_columns, ignore or fail",
            found=change,
            fix="Change it, or run once with --full-refresh to drop a column",
        )
    if change != "ignore":
        return sql, change == "append_new_columns"
    known = lake.schema(table)
    given = [row[0] for row in con.execute(f"DESCRIBE {sql}").fetchall()]
    if all(column in known for column in given):
        return sql, False
    columns = ", ".join(quote_identifier(column) for column in given if column in known)
    return f"SELECT {columns} FROM ({sql})", False
