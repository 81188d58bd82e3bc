"""Where the columns of a dbt model's table come from, read off the SQL that makes it."""

import json
from collections.abc import Mapping

from lakehouse.errors import LakehouseError
from lakehouse.openlineage.columns import column_sources
from lakehouse.pipeline.overview import require_table
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import TableName
from lakehouse.transform import compiled, prepare

_BUDGET_S = 30.0


def column_lineage(workspace: Workspace, table: str) -> dict[str, list[tuple[str, str]]]:
    """For each column of a table the tables and columns it is computed from; one step back.

    Raises:
        TableNotFound: there is no such table.
        LakehouseError: no dbt model makes it.
    """
    name = require_table(workspace.lake, table)
    manifest = json.loads(prepare(workspace.settings, workspace.contracts).read_bytes())
    made_by = {
        TableName(node["schema"], node["alias"]): node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "model"
    }
    if name not in made_by:
        raise LakehouseError(
            table,
            "is made by no dbt model, so there is no SQL to read its columns off",
            expected=f"one of {', '.join(str(one) for one in sorted(made_by))}",
            fix="Leave out --columns",
        )
    step = next(one for one in compiled(workspace.settings, [made_by[name]], contracts=workspace.contracts) if one.table == name)

    def columns_of(source: str) -> Mapping[str, str]:
        return workspace.lake.schema(source)

    return column_sources(step.sql, columns_of, budget_s=_BUDGET_S)
