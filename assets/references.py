"""Checks between datasets: every value that refers to another dataset's row finds one there."""

import dagster as dg

from assets.naming import asset_key
from lakehouse.contracts import Contracts, DatasetContract, Severity
from lakehouse.pipeline.workspace import Workspace


def build_reference_checks(contracts: Contracts) -> list[dg.AssetChecksDefinition]:
    """One step per dataset that refers to others; a contract without relationships adds none."""
    return [_checks(contract) for contract in contracts.datasets.values() if contract.references]


def _checks(contract: DatasetContract) -> dg.AssetChecksDefinition:
    key = asset_key(contract.raw)

    @dg.multi_asset_check(
        name=f"references_of_{contract.name}",
        specs=[
            dg.AssetCheckSpec(
                one.id,
                asset=key,
                description=f"Every {', '.join(one.columns)} is a {', '.join(one.parent_columns)} of {one.parent}; parents may arrive late.",
                blocking=one.severity is Severity.ERROR,
            )
            for one in contract.references
        ],
        can_subset=True,
        # After every ingestion that is ready, as a parent may come with this very run. Not by a dependency: a parent of which no
        # file has come yet is skipped, and would take the check with it, just where there is most to say.
        op_tags={"dagster/priority": "-10"},
    )
    def references(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]):  # noqa: ANN202 - Dagster reads the annotation.
        from lakehouse.quality import check_references

        for result in check_references(workspace.lake, contract, workspace.contracts):
            if dg.AssetCheckKey(key, result.id) in context.selected_asset_check_keys:
                severity = dg.AssetCheckSeverity.ERROR if result.severity is Severity.ERROR else dg.AssetCheckSeverity.WARN
                yield dg.AssetCheckResult(
                    check_name=result.id,
                    asset_key=key,
                    passed=result.passed,
                    severity=severity,
                    description=result.detail,
                    metadata={"rows_failed": result.rows_failed},
                )

    return references
