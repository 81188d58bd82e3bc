"""What watches models: a table in `monitoring` over all of them, made after each has predicted."""

from collections.abc import Mapping

import dagster as dg

from assets.jobs import MONITORING_GROUP
from assets.metadata import described_columns
from assets.naming import asset_key
from lakehouse.contracts import Contracts


def watching_spec(table: str, contracts: Contracts, *, columns: Mapping[str, tuple[str, str]], description: str) -> dg.AssetSpec:
    """The asset of such a table.

    Args:
        table: layer.name
        contracts: of the home, whose models are watched.
        columns: name -> SQL type and meaning.
        description: of the asset.
    """
    return dg.AssetSpec(
        asset_key(table),
        deps=[asset_key(f"models.{model}_predictions") for model in contracts.models],
        group_name=MONITORING_GROUP,
        kinds={"monitoring", "duckdb", "deltalake"},
        tags={"layer": "monitoring"},
        metadata={"dagster/table_name": table, "dagster/column_schema": described_columns(columns)},
        description=description,
    )
