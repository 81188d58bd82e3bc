"""Checks of whole batches that take longer than ingestion should: after everything else of a run, and again by the quality job."""

from datetime import UTC, datetime

import dagster as dg

from assets.naming import asset_key
from lakehouse.contracts import Contracts, DatasetContract
from lakehouse.pipeline.workspace import Workspace

CLAIM = "rows_that_stand_alone_are_as_rare_as_usual"


def build_outlier_checks(contracts: Contracts) -> list[dg.AssetChecksDefinition]:
    """One step per dataset: a dataset without files is skipped, and its check with it, but no other's."""
    return [_check(contract) for contract in contracts.datasets.values()]


def _check(contract: DatasetContract) -> dg.AssetChecksDefinition:
    key = asset_key(contract.raw)

    @dg.multi_asset_check(
        name=f"outlier_rows_of_{contract.name}",
        specs=[
            dg.AssetCheckSpec(
                CLAIM,
                asset=key,
                description="Rows of the newest batch whose numbers, taken together, are unlike those of earlier rows are no more than usual "
                "(isolation forest over samples).",
            )
        ],
        # Nothing waits for it.
        op_tags={"dagster/priority": "-10"},
    )
    def outlier_rows(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]):  # noqa: ANN202 - Dagster reads the annotation.
        from lakehouse.monitoring import newest_checks
        from lakehouse.quality.isolation import CHECK, check_outlier_rows

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

    return outlier_rows
