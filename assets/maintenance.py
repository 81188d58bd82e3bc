"""What keeps the tables fast and small. Neither changes a row of a version that is kept, and nothing is built again because of them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets import plots
from assets.jobs import MAINTENANCE_GROUP
from assets.metadata import data_version, described_columns, records_table, table_metadata
from assets.naming import asset_key
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.pipeline.maintenance import MaintenanceReport

ARCHIVE_TABLE = "monitoring.archive"
COMPACTION_TABLE = "monitoring.compaction"
VACUUM_TABLE = "monitoring.vacuum"
MAINTAINED = "every_table_could_be_maintained"
_SHOWN = 30
_COLUMNS = {
    "done_at": ("TIMESTAMP WITH TIME ZONE", "When it was done."),
    "run": ("VARCHAR", "The run that did it."),
    "operation": ("VARCHAR", "archive, compact, checkpoint, vacuum, orphans or leftovers."),
    "table": ("VARCHAR", "layer.name, or the kind of leftovers."),
    "files_before": ("BIGINT", "Files before."),
    "files_after": ("BIGINT", "Files afterwards."),
    "bytes_before": ("BIGINT", "Their bytes before."),
    "bytes_after": ("BIGINT", "Their bytes afterwards."),
    "detail": ("VARCHAR", "What was done."),
    "error": ("VARCHAR", "Why it could not be done."),
}


def build_maintenance_assets() -> list[dg.AssetsDefinition]:
    """One asset per schedule of maintenance."""
    return [
        _maintenance(
            COMPACTION_TABLE,
            ("compact", "checkpoint"),
            "What daily compaction did: small files joined, rows sorted by the contract's `lakehouse.clusterBy`, logs checkpointed. "
            "Versions, rows and lineage stay as they were.",
        ),
        _maintenance(
            ARCHIVE_TABLE,
            ("archive",),
            "Raw rows that have got older than their contract's `lakehouse.archive` allows, moved from hot to warm and from warm to cold. "
            "`lakehouse query --with-archive` reads them all.",
        ),
        _maintenance(
            VACUUM_TABLE,
            ("vacuum", "orphans"),
            "What weekly vacuum freed: versions older than the retention that no tag, model or prediction points to, and files that "
            "killed processes left. A version that went says which ones are still there.",
            after=ARCHIVE_TABLE,
        ),
    ]


def _maintenance(table: str, operations: tuple[str, ...], description: str, *, after: str | None = None) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=table.replace(".", "_"),
        specs=[
            dg.AssetSpec(
                key=asset_key(table),
                deps=[asset_key(after)] if after else [],
                group_name=MAINTENANCE_GROUP,
                kinds={"monitoring", "deltalake"},
                tags={"layer": "monitoring"},
                description=description,
                metadata={"dagster/table_name": table, "dagster/column_schema": described_columns(_COLUMNS)},
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(MAINTAINED, asset=asset_key(table), description="No table was too busy or damaged to be maintained.")
        ],
        pool=table,
    )
    def maintenance(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.pipeline.maintenance import Operation, maintain

        lake, now = workspace.lake, datetime.now(UTC)
        before = lake.version(table)
        report = maintain(workspace, operations=map(Operation, operations), run=context.run.run_id, now=now)
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={**table_metadata(lake, table, before=before), **_metadata(report)},
            data_version=data_version(lake, table),
        )
        failed = report.failed
        yield dg.AssetCheckResult(
            asset_key=asset_key(table),
            check_name=MAINTAINED,
            passed=not failed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"failed": records_table([{"operation": str(one.operation), "table": one.table, "why": one.error} for one in failed])},
        )

    return maintenance


def _metadata(report: "MaintenanceReport") -> dict[str, Any]:
    """Bytes and files before and after, table by table, with a picture of what was saved."""
    changed = [one for one in report.done if one.changed]
    rows: list[dict[str, Any]] = [
        {
            "operation": str(one.operation),
            "table": one.table,
            "files": f"{one.files_before:,} to {one.files_after:,}",
            "bytes": f"{one.bytes_before:,} to {one.bytes_after:,}",
            "what": one.detail,
        }
        for one in changed
    ]
    metadata: dict[str, Any] = {
        "lakehouse/bytes_before": dg.IntMetadataValue(sum(one.bytes_before for one in changed)),
        "lakehouse/bytes_after": dg.IntMetadataValue(sum(one.bytes_after for one in changed)),
        "lakehouse/bytes_freed": dg.IntMetadataValue(report.bytes_freed),
        "lakehouse/operations": records_table(rows[:_SHOWN]),
        "lakehouse/leftovers": records_table(
            [{"kind": one.kind, "files": one.files, "bytes": one.bytes} for one in report.leftovers if one.files]
        ),
    }
    if changed:
        saved: dict[str, float] = {}
        for one in changed:
            saved[one.table] = saved.get(one.table, 0.0) + (one.files_before - one.files_after)
        metadata["lakehouse/fewer_files"] = plots.bars("Fewer files", saved, unit="files")
    return metadata
