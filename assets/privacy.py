"""What the contracts promise people: periods are kept, consents are heard, and who looked at what is known."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.jobs import MAINTENANCE_GROUP
from assets.metadata import data_version, described_columns, records_table, table_metadata
from assets.naming import asset_key
from lakehouse.pipeline.workspace import Workspace

AUDIT_TABLE = "monitoring.audit"
RETENTION = "monitoring.retention"
ENFORCED = "everybody_who_withdrew_is_gone"
CHAIN = "no_entry_was_changed_or_removed"
_AUDIT_COLUMNS = {
    "number": ("BIGINT", "1 for the first entry; without gaps."),
    "recorded_at": ("TIMESTAMP WITH TIME ZONE", "When it was; of a commit, when that was made."),
    "who": ("VARCHAR", "The user of the machine."),
    "action": ("VARCHAR", "The command, or commit."),
    "tables": ("VARCHAR", "JSON: version by table."),
    "outcome": ("VARCHAR", "done, or the kind of error."),
    "facts": ("VARCHAR", "JSON: counts and names; never a value that was read."),
    "previous": ("VARCHAR", "HMAC of the entry before."),
    "mac": ("VARCHAR", "HMAC of this entry."),
}


def build_privacy_assets() -> list[dg.AssetsDefinition]:
    """Retention and consent, and the audit."""
    return [_retention(), _audit()]


def _retention() -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="monitoring_retention",
        specs=[
            dg.AssetSpec(
                key=asset_key(RETENTION),
                group_name=MAINTENANCE_GROUP,
                kinds={"monitoring"},
                tags={"layer": "monitoring"},
                description="Removes rows that are over their contract's period (`lakehouse.retention: enforce`) and people who withdrew their "
                "consent (`lakehouse.consent`) from every version. Does nothing for a contract that says neither.",
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                ENFORCED, asset=asset_key(RETENTION), description="Nothing of a person who withdrew is left, backups included."
            )
        ],
        pool=RETENTION,
    )
    def retention(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.pipeline.keeping import enforce_contracts

        report = enforce_contracts(workspace, run=context.run.run_id, now=datetime.now(UTC), told=context.log.info)
        expired = [
            {"dataset": one.dataset, "before": f"{one.cutoff:%Y-%m-%d}", "table": table, "rows": rows}
            for one in report.expired
            for table, rows in one.tables.items()
        ]
        yield dg.MaterializeResult(
            asset_key=asset_key(RETENTION),
            metadata={
                "lakehouse/contracts": ", ".join(report.enforced) or "none enforces anything",
                "lakehouse/expired": records_table(expired),
                "lakehouse/withdrawn": len(report.withdrawn),
            },
        )
        yield dg.AssetCheckResult(
            asset_key=asset_key(RETENTION),
            check_name=ENFORCED,
            passed=not report.unfinished,
            metadata={"withdrawn": len(report.withdrawn), "unfinished": len(report.unfinished)},
        )

    return retention


def _audit() -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="monitoring_audit",
        specs=[
            dg.AssetSpec(
                key=asset_key(AUDIT_TABLE),
                group_name=MAINTENANCE_GROUP,
                kinds={"monitoring", "deltalake"},
                tags={"layer": "monitoring"},
                description="Every access by the command line and every commit, each entry chained to the one before. A copy of the journal.",
                metadata={"dagster/table_name": AUDIT_TABLE, "dagster/column_schema": described_columns(_AUDIT_COLUMNS)},
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(CHAIN, asset=asset_key(AUDIT_TABLE), description="Every entry that was ever made is there as it was made.")
        ],
        pool=AUDIT_TABLE,
    )
    def audit(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.privacy.audit import bring_up_to_date

        lake = workspace.lake
        before = lake.version(AUDIT_TABLE)
        state = bring_up_to_date(workspace.settings, lake, run=context.run.run_id)
        yield dg.MaterializeResult(
            asset_key=asset_key(AUDIT_TABLE),
            metadata=table_metadata(lake, AUDIT_TABLE, before=before) if lake.exists(AUDIT_TABLE) else {},
            data_version=data_version(lake, AUDIT_TABLE) if lake.exists(AUDIT_TABLE) else None,
        )
        yield dg.AssetCheckResult(
            asset_key=asset_key(AUDIT_TABLE),
            check_name=CHAIN,
            passed=not state.problems,
            metadata={"new_entries": state.added, **{f"entry {one.number}": one.what for one in state.problems[:20]}},
        )

    return audit
