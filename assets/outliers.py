"""Checks of whole batches that take longer than ingestion should: made by the quality job, one step for all datasets."""

from datetime import UTC, datetime

import dagster as dg

from assets.naming import asset_key
from lakehouse.contracts import Contracts
from lakehouse.pipeline.workspace import Workspace

CLAIM = "rows_that_stand_alone_are_as_rare_as_usual"


def build_outlier_checks(contracts: Contracts) -> list[dg.AssetChecksDefinition]:
    """One check per dataset's raw table."""
    raw = {asset_key(contract.raw): contract for contract in contracts.datasets.values()}
    if not raw:
        return []

    @dg.multi_asset_check(
        name="outlier_rows",
        specs=[
            dg.AssetCheckSpec(
                CLAIM,
                asset=key,
                description="Rows of the newest batch whose numbers are unlike those of earlier rows, taken together, are no more than usual "
                "(isolation forest over samples).",
            )
            for key in raw
        ],
        can_subset=True,
    )
    def outlier_rows(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]):  # noqa: ANN202 - Dagster reads the annotation.
        from lakehouse.monitoring import newest_checks
        from lakehouse.quality.isolation import CHECK, check_outlier_rows

        for key, contract in raw.items():
            if dg.AssetCheckKey(key, CLAIM) not in context.selected_asset_check_keys:
                continue
            check_outlier_rows(workspace.lake, contract, run=context.run.run_id, now=datetime.now(UTC))
            found = next((one for one in newest_checks(workspace.lake, contract.name) if one.id == CHECK), None)
            yield dg.AssetCheckResult(
                check_name=CLAIM,
                asset_key=key,
                passed=found is None or found.passed,
                severity=dg.AssetCheckSeverity.WARN,
                description=found.detail if found is not None else "Not judged: too few rows or numbers, or switched off in the contract",
                metadata={"judged": found is not None},
            )

    return [outlier_rows]
