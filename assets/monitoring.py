"""What watches the tables and models: quality scores, performance, and sizes."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets import plots
from assets.jobs import MAINTENANCE_GROUP, MONITORING_GROUP
from assets.metadata import data_version, described_columns, records_table, table_metadata
from assets.naming import asset_key
from assets.quality import quality_overview
from lakehouse.contracts import Contracts
from lakehouse.pipeline.workspace import Workspace

QUALITY_TABLE = "monitoring.quality_scores"
PERFORMANCE_TABLE = "monitoring.model_performance"
STORAGE_TABLE = "monitoring.storage"

_QUALITY_COLUMNS = {
    "dataset": ("VARCHAR", "The dataset whose rows the table holds; none for other tables."),
    "table": ("VARCHAR", "layer.name"),
    "version": ("BIGINT", "The version that was profiled."),
    "rows": ("BIGINT", "Rows of that version."),
    "score": ("DOUBLE", "The mean of the dimensions that could be judged."),
    "completeness": ("DOUBLE", "Values that are there / values there could be."),
    "validity": ("DOUBLE", "Rows accepted / rows read, times rows that break no rule about single values / rows."),
    "uniqueness": ("DOUBLE", "Different keys / rows; without a key, rows that repeat no other / rows."),
    "consistency": ("DOUBLE", "Rows that break no rule across values / rows, times texts written in one way / texts."),
    "timeliness": ("DOUBLE", "1 while the newest rows are as young as the contract promises, then promise / age; as it was when measured."),
    "newest_at": ("TIMESTAMP WITH TIME ZONE", "When the newest rows came."),
    "measured_at": ("TIMESTAMP WITH TIME ZONE", "When this was measured."),
    "identity": ("VARCHAR", "Which table of this name it was."),
    "contract": ("VARCHAR", "Digest of the contract and of what it hides."),
    "code": ("VARCHAR", "Digest of the code that measured."),
    "target": ("VARCHAR", "The column that was looked at as the one to be predicted; mostly none."),
    "run": ("VARCHAR", "Who measured."),
    "profile": ("VARCHAR", "The whole profile, as JSON."),
}
_PERFORMANCE_COLUMNS = {
    "model": ("VARCHAR", "The model."),
    "model_version": ("VARCHAR", "The version that made the predictions; empty before a label has arrived."),
    "rows": ("BIGINT", "Predictions whose label has arrived and was not learned from."),
    "metric": ("VARCHAR", "The contract's; and accuracy for classes, r2 for numbers."),
    "value": ("DOUBLE", "The metric over those rows."),
    "standard_error": ("DOUBLE", "Of the value; where two versions are compared, of their difference."),
    "beside": (
        "VARCHAR",
        "The version that it is compared with, on labels that neither has learned from; empty where it stands for itself.",
    ),
    "other_rows": ("BIGINT", "Labels of that version."),
    "other_value": ("DOUBLE", "The metric of that version."),
    "measured_at": ("TIMESTAMP WITH TIME ZONE", "When this was measured."),
}
_STORAGE_COLUMNS = {
    "measured_at": ("TIMESTAMP WITH TIME ZONE", "When this was measured."),
    "table": ("VARCHAR", "layer.name"),
    "version": ("BIGINT", "Its version then."),
    "rows": ("BIGINT", "Its rows."),
    "files": ("BIGINT", "Its data files."),
    "size_bytes": ("BIGINT", "Bytes of those files."),
}


def build_monitoring_assets(contracts: Contracts) -> list[dg.AssetsDefinition]:
    """Assets over all datasets together."""
    return [_quality_scores(contracts), _model_performance(contracts), _storage()]


def _quality_scores(contracts: Contracts) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(QUALITY_TABLE),
        deps=[asset_key(dataset.raw) for dataset in contracts.datasets.values()],
        group_name=MONITORING_GROUP,
        kinds={"monitoring", "duckdb", "deltalake"},
        tags={"layer": "monitoring"},
        pool=QUALITY_TABLE,
        metadata={"dagster/table_name": QUALITY_TABLE, "dagster/column_schema": described_columns(_QUALITY_COLUMNS)},
        description="One row per profiled version of a table: completeness, validity, uniqueness, consistency, timeliness, their mean (the quality "
        "score), and the profile itself. Ingestion profiles what it has just written; the quality job every dataset's raw and staging table. "
        "A version that has been profiled is not read again.",
    )
    def quality_scores(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.monitoring import profile_datasets

        lake = workspace.lake
        before = lake.version(QUALITY_TABLE)
        profiles = profile_datasets(lake, workspace.contracts, run=context.run.run_id, now=datetime.now(UTC))
        metadata: dict[str, Any] = {**table_metadata(lake, QUALITY_TABLE, before=before), **quality_overview(profiles)}
        return dg.MaterializeResult(metadata=metadata, data_version=data_version(lake, QUALITY_TABLE))

    return quality_scores


def _model_performance(contracts: Contracts) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(PERFORMANCE_TABLE),
        deps=[asset_key(f"models.{model}_predictions") for model in contracts.models],
        group_name=MONITORING_GROUP,
        kinds={"monitoring", "duckdb", "deltalake"},
        tags={"layer": "monitoring"},
        pool=PERFORMANCE_TABLE,
        metadata={"dagster/table_name": PERFORMANCE_TABLE, "dagster/column_schema": described_columns(_PERFORMANCE_COLUMNS)},
        description="How each version's predictions turned out on labels that it had not learned from, by itself and beside the version that it is to replace.",
    )
    def model_performance(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.monitoring import measure_performance

        lake, now = workspace.lake, datetime.now(UTC)
        before = lake.version(PERFORMANCE_TABLE)
        measured = [measure_performance(lake, model, run=context.run.run_id, now=now) for model in workspace.contracts.models.values()]
        rows: list[dict[str, Any]] = [
            {
                "model": one.model,
                "version": one.model_version or "",
                "new labels": one.rows,
                one.metric: "not yet" if one.value is None else round(one.value, 4),
            }
            for one in measured
            if one is not None
        ]
        metadata = table_metadata(lake, PERFORMANCE_TABLE, before=before)
        metadata |= {f"lakehouse/{row['model']}": records_table([row]) for row in rows}
        return dg.MaterializeResult(metadata=metadata, data_version=data_version(lake, PERFORMANCE_TABLE))

    return model_performance


def _storage() -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(STORAGE_TABLE),
        deps=[asset_key("monitoring.vacuum")],
        group_name=MAINTENANCE_GROUP,
        kinds={"monitoring", "deltalake"},
        tags={"layer": "monitoring"},
        pool=STORAGE_TABLE,
        metadata={"dagster/table_name": STORAGE_TABLE, "dagster/column_schema": described_columns(_STORAGE_COLUMNS)},
        description="Rows, files and bytes of every table, measured weekly after the vacuum. Reads the logs, and changes nothing.",
    )
    def storage(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.monitoring import measure_storage

        lake = workspace.lake
        before = lake.version(STORAGE_TABLE)
        sizes = measure_storage(lake, run=context.run.run_id, now=datetime.now(UTC))
        metadata = table_metadata(lake, STORAGE_TABLE, before=before)
        if sizes:
            metadata["lakehouse/sizes"] = plots.bars("Largest tables", {size.table: size.size_bytes / 1e6 for size in sizes}, unit="MB")
        return dg.MaterializeResult(metadata=metadata, data_version=data_version(lake, STORAGE_TABLE))

    return storage
