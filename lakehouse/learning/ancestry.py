"""Which columns of a dataset a table's columns are computed from, read off the SQL that makes the table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


def columns_behind(
    wanted: Iterable[str], *, table: str, steps: Sequence[tuple[str, str]], raw: str, raw_types: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """For each wanted column of a table the columns of the raw table it is computed from, within the same row.

    What a window function brings from other rows does not count: those may be there although the column is not.
    Where the SQL can't be understood, a column is taken to come from the raw column of its name.

    Args:
        wanted: columns of the table.
        table: the table, as `layer.name`.
        steps: tables and the SQL that makes them, each after what it reads, in which tables are `"memory"."layer"."name"`.
        raw: the raw table.
        raw_types: its columns.
    """
    from sqlglot.errors import SqlglotError

    columns = list(wanted)
    try:
        return _traced(columns, table=table, steps=steps, raw=raw, raw_types=raw_types)
    except (SqlglotError, ValueError):
        # The latter is what its lineage raises where it loses a column's track.
        return {column: frozenset([column] if column in raw_types else []) for column in columns}


def _traced(
    columns: Sequence[str], *, table: str, steps: Sequence[tuple[str, str]], raw: str, raw_types: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    made = {name: _without_windows(sql) for name, sql in steps}
    layer, _, name = raw.partition(".")
    schema: dict[str, object] = {"memory": {layer: {name: dict(raw_types)}}}
    whole = exp.expand(made[table], {f"memory.{name}": query for name, query in made.items()}, dialect="duckdb")
    whole = qualify(whole, dialect="duckdb", schema=schema, validate_qualify_columns=False)
    if not isinstance(whole, exp.Query):
        raise SqlglotError("not a query")
    scope = build_scope(whole)
    known = {column.lower(): column for column in raw_types}
    given = {column.lower(): column for column in whole.named_selects}
    behind: dict[str, frozenset[str]] = {}
    for column in columns:
        if column.lower() not in given:
            behind[column] = frozenset()
            continue
        root = lineage(given[column.lower()], whole, dialect="duckdb", scope=scope, schema=schema)
        found: set[str] = set()
        for node in root.walk():
            origin = node.expression
            if isinstance(origin, exp.Table) and (origin.db, origin.name) == (layer, name):
                found.add(node.name.rpartition(".")[2].strip('"').lower())
        behind[column] = frozenset(known[one] for one in found if one in known)
    return behind


def _without_windows(sql: str) -> "exp.Query":
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    parsed = parse_one(sql, dialect="duckdb")
    # What a SELECT names in its WINDOW clause is no function; what is over it is.
    for window in [one for one in parsed.find_all(exp.Window) if not isinstance(one.parent, exp.Select) or one.arg_key == "expressions"]:
        window.replace(exp.null())
    if not isinstance(parsed, exp.Query):
        raise SqlglotError("not a query")
    return parsed
