"""Which columns of which tables a model's columns come from, read off its compiled SQL."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from lakehouse.errors import LakehouseError

_BUDGET_S = 2.0


def column_sources(
    sql: str, schema_of: Callable[[str], Mapping[str, str]], *, budget_s: float = _BUDGET_S
) -> dict[str, list[tuple[str, str]]]:
    """For each column of a SELECT the tables and columns it comes from; without those that the SQL does not tell, or not in time.

    Args:
        sql: compiled; tables are `"memory"."layer"."name"` or `layer.name`.
        schema_of: columns and types of a table.
        budget_s: SQL can be of any size, and a build does not wait for it.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    until = time.monotonic() + budget_s
    found: dict[str, list[tuple[str, str]]] = {}
    try:
        query: Any = parse_one(sql, dialect="duckdb")
        for table in query.find_all(exp.Table):
            table.set("catalog", None)
        schema: dict[str, Any] = {}
        for table in query.find_all(exp.Table):
            if table.db:
                with suppress(LakehouseError):
                    schema.setdefault(table.db, {})[table.name] = dict(schema_of(f"{table.db}.{table.name}"))
        query = qualify(query, dialect="duckdb", schema=schema, validate_qualify_columns=False)
        scope = build_scope(query)
        for column in query.named_selects:
            if time.monotonic() > until:
                break
            sources = {
                (f"{node.expression.db}.{node.expression.name}", node.name.rpartition(".")[2].strip('"'))
                for node in lineage(column, query, dialect="duckdb", scope=scope, schema=schema).walk()
                if isinstance(node.expression, exp.Table) and node.expression.db
            }
            found[column] = sorted(sources)
    except (SqlglotError, ValueError, RecursionError):
        return found
    return found
