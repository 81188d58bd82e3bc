"""Raw and quarantine tables of every dataset, with the checks of its contract. Adding a contract adds them; no Python is written."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets import plots
from assets.metadata import column_schema, data_version, records_table, table_metadata
from assets.naming import asset_key, owners, slug
from lakehouse.contracts import DatasetContract, Level
from lakehouse.pipeline.workspace import Workspace

CONSERVATION = "rows_read_equal_accepted_plus_quarantined"
READABLE = "every_file_could_be_read"
LEVEL_CLAIMS = {
    Level.STRUCTURAL: "every_row_has_the_columns_and_types",
    Level.SEMANTIC: "every_value_is_possible",
    Level.BUSINESS: "values_agree_with_each_other",
    Level.STATISTICAL: "the_batch_is_like_earlier_ones",
}
LIMIT = "quarantined_share_is_within_the_limit"


def build_dataset_assets(contract: DatasetContract) -> dg.AssetsDefinition:
    """The step that ingests what waits in a dataset's landing folder."""

    @dg.multi_asset(
        name=f"ingest_{contract.name}",
        specs=[_raw_spec(contract), _quarantine_spec(contract)],
        check_specs=_check_specs(contract),
        can_subset=True,
        pool=contract.raw,
    )
    def ingest_dataset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.ingest import ingest_landing

        lake = workspace.lake
        before = {table: lake.version(table) for table in (contract.raw, contract.quarantine)}
        report = ingest_landing(lake, contract, settings=workspace.settings, run=context.run_id, now=datetime.now(UTC))
        for file in report.files:
            context.log.info(f"{file.status}: {file.path}: {file.rows_read} read, {file.rows_accepted} accepted, {file.rows_quarantined} quarantined")
        yield from _results(context, lake, contract, report, before)

    return ingest_dataset


def landing_spec(contract: DatasetContract) -> dg.AssetSpec:
    """The folder in which the files arrive: nothing makes it, so it is external."""
    return dg.AssetSpec(
        key=["landing", contract.name],
        description=f"Files of {contract.name} as they arrive: {', '.join(contract.landing.paths) or 'its landing folder'}.",
        group_name=slug(contract.domain),
        kinds={"file"},
        owners=owners(contract.owner),
        tags={"layer": "landing"},
    )


def _raw_spec(contract: DatasetContract) -> dg.AssetSpec:
    key = ", ".join(contract.primary_key) or "file and row number"
    return dg.AssetSpec(
        key=asset_key(contract.raw),
        deps=[dg.AssetKey(["landing", contract.name])],
        description=f"{contract.description}\n\nAccepted rows, typed by the contract, append-only. Key: {key}.",
        group_name=slug(contract.domain),
        kinds={"duckdb", "deltalake"},
        owners=owners(contract.owner),
        tags={"layer": "raw"},
        code_version=contract.digest[:12],
        skippable=True,
        metadata={
            "dagster/table_name": contract.raw,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(column.name, type=column.stored_type, description=column.description or None) for column in contract.columns]
            ),
            "lakehouse/contract_version": contract.version,
        },
    )


def _quarantine_spec(contract: DatasetContract) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=asset_key(contract.quarantine),
        deps=[dg.AssetKey(["landing", contract.name])],
        description=f"Rows of {contract.name} that broke a rule, as they arrived, each with all its reasons. None is lost: a later contract can accept them.",
        group_name=slug(contract.domain),
        kinds={"duckdb", "deltalake"},
        owners=owners(contract.owner),
        tags={"layer": "quarantine"},
        code_version=contract.digest[:12],
        skippable=True,
        metadata={"dagster/table_name": contract.quarantine},
    )
