"""The very SQL that builds tables, for running it elsewhere: over one file, in a scratch session."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from lakehouse.contracts import Contracts
from lakehouse.durable import write_whole
from lakehouse.errors import TransformError
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import TableName
from lakehouse.transform.invocation import invoked
from lakehouse.transform.project import parsed, prepare


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """One table and the SELECT that makes it out of tables that come before it, named `"memory"."layer"."name"`."""

    table: TableName
    sql: str


def compiled(
    settings: Settings, selection: Sequence[str], *, contracts: Contracts | None = None, full_refresh: bool = True
) -> list[CompiledTable]:
    """What the selected models and seeds are made by, each after what it reads.

    Kept per state of the project, so that dbt starts only when something has changed. The SQL names tables as they are in an
    in-memory DuckDB: make `raw.<dataset>`, then run `CREATE TABLE layer.name AS <sql>` in this order.

    Args:
        settings: of the home.
        contracts: those of the home, if they are loaded already.
        selection: dbt selectors, such as `+household_features`.
        full_refresh: as if no table existed; otherwise incremental models read what is there.

    Raises:
        TransformError: nothing is selected, a selector is not one, or a selected model is not SQL.
    """
    manifest = prepare(settings, contracts)
    wanted = json.dumps([list(selection), full_refresh])
    kept = manifest.parent / f"compiled-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.json"
    # SQL that depends on what the tables hold now can't be kept.
    if full_refresh and kept.is_file():
        return [CompiledTable(TableName.parse(name), sql) for name, sql in json.loads(kept.read_text("utf-8"))]
    tables = _compile(settings, manifest, selection, full_refresh=full_refresh)
    if full_refresh:
        write_whole(kept, json.dumps([[str(one.table), one.sql] for one in tables]))
    return tables


def _compile(settings: Settings, manifest: Path, selection: Sequence[str], *, full_refresh: bool) -> list[CompiledTable]:
    arguments = ["compile", "--indirect-selection", "empty", "--select", *selection]
    if full_refresh:
        arguments.append("--full-refresh")
    with invoked(settings, arguments, manifest=parsed(manifest)) as invocation:
        results = invocation.result.results if invocation.result is not None else []
        # A snapshot is history: there is no SQL that makes it from its inputs alone.
        nodes = {result.node.unique_id: result.node for result in results if str(result.node.resource_type) in {"model", "seed"}}
        failed = [result for result in results if str(result.status) == "error"]
    if failed:
        raise TransformError(f"dbt model {failed[0].node.name}", failed[0].message or "can't be compiled", fix="Correct its SQL")
    if not nodes:
        raise TransformError(f"selection {' '.join(selection)}", "selects no model", fix="Name a model; `dbt ls` in dbt/ lists them")
    order = TopologicalSorter({unique_id: [up for up in node.depends_on_nodes if up in nodes] for unique_id, node in nodes.items()})
    return [_table(settings, nodes[unique_id]) for unique_id in order.static_order() if _is_table(nodes[unique_id])]


def _is_table(node: Any) -> bool:
    return node.config.materialized != "ephemeral"


def _table(settings: Settings, node: Any) -> CompiledTable:
    table = TableName(node.schema, node.alias)
    if str(node.resource_type) == "seed":
        return CompiledTable(table, _seed_sql(settings, node))
    if str(node.language) != "sql":
        raise TransformError(
            f"dbt model {node.name}", "is written in Python, so there is no SQL of it", fix="Write it in SQL to use it here"
        )
    return CompiledTable(table, node.compiled_code)


def _seed_sql(settings: Settings, node: Any) -> str:
    types = node.config.column_types or {}
    given = ", ".join(f"{quote_literal(name)}: {quote_literal(str(kind))}" for name, kind in types.items())
    options = [f"types={{{given}}}"] if given else []
    path = quote_literal(str(settings.project / "dbt" / node.original_file_path))
    delimiter = quote_literal(str(node.config.delimiter or ","))
    columns = ", ".join(quote_identifier(name) for name in types) if types else "*"
    return f"SELECT {columns} FROM read_csv({', '.join([path, 'header=true', f'delim={delimiter}', *options])})"
