"""Models as assets: the training set and the trained model in one step, the predictions in another."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets import plots
from assets.metadata import data_version, records_table, table_metadata
from assets.naming import asset_key, owners, slug
from lakehouse.contracts import Contracts, ModelContract
from lakehouse.pipeline.workspace import Workspace

MINIMUMS = "metrics_reach_their_minimums"
BASELINE = "model_beats_its_baseline"


def build_model_assets(contract: ModelContract, contracts: Contracts) -> list[dg.AssetsDefinition]:
    """Training and prediction of one model contract."""
    inputs = [asset_key(contract.label_table), *(dg.AssetKey(["features", view]) for view in contract.feature_views)]
    group = slug(contracts.dataset(contract.dataset).domain)
    return [_training(contract, inputs, group), _predictions(contract, inputs, group)]


def _table(contract: ModelContract, what: str) -> str:
    return f"models.{contract.name}_{what}"


def _training(contract: ModelContract, inputs: list[dg.AssetKey], group: str) -> dg.AssetsDefinition:
    model = dg.AssetKey(["models", contract.name])
    common: dict[str, Any] = {"group_name": group, "owners": owners(contract.owner), "tags": {"layer": "models"}, "code_version": contract.digest[:12]}
    training_set = dg.AssetSpec(
        asset_key(_table(contract, "training_set")),
        deps=inputs,
        description=f"One row per labelled example of {contract.name}: its features as they were known at that time, the label, and whether it is for training or test.",
        kinds={"duckdb", "deltalake"},
        **common,
    )
    trained = dg.AssetSpec(
        model,
        deps=[training_set.key],
        description=f"{contract.description}\n\nThe registered {contract.problem} model: the best of all candidates by cross-validated {contract.metric}.",
        kinds={"scikitlearn", "mlflow"},
        **common,
    )

    @dg.multi_asset(
        name=f"train_{contract.name}",
        specs=[training_set, trained],
        check_specs=[
            dg.AssetCheckSpec(
                MINIMUMS,
                asset=model,
                blocking=True,
                description=f"On test rows it never saw the model reaches {_minimums(contract)}; below that nothing is predicted with it.",
            ),
            dg.AssetCheckSpec(BASELINE, asset=model, description="The model is better than always giving the same answer."),
        ],
        can_subset=True,
        pool=f"models.{contract.name}",
    )
    def train_model(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.learning import train

        table = _table(contract, "training_set")
        before = workspace.lake.version(table)
        report = train(workspace.settings, workspace.lake, contract, run=context.run.run_id, now=datetime.now(UTC))
        context.log.info(f"{contract.name} version {report.version}: {report.algorithm}, {_metrics_text(report.metrics)}")
        if training_set.key in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=training_set.key,
                metadata=table_metadata(workspace.lake, table, before=before),
                data_version=data_version(workspace.lake, table),
            )
        if model in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=model, metadata=_model_metadata(report), data_version=dg.DataVersion(f"{int(report.version):020d}"))
        for result in _checks(contract, model, report):
            if dg.AssetCheckKey(model, result.check_name or "") in context.selected_asset_check_keys:
                yield result

    return train_model


def _predictions(contract: ModelContract, inputs: list[dg.AssetKey], group: str) -> dg.AssetsDefinition:
    table = _table(contract, "predictions")

    @dg.asset(
        key=asset_key(table),
        deps=[dg.AssetKey(["models", contract.name]), *inputs],
        group_name=group,
        owners=owners(contract.owner),
        tags={"layer": "models"},
        kinds={"scikitlearn", "deltalake"},
        pool=table,
        description=f"What the champion of {contract.name} says about every {', '.join(contract.entity) or 'row'}: prediction, probabilities, and the version of the "
        "model and of each feature table it came from.",
    )
    def predict(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.learning import predict_batch

        lake = workspace.lake
        before = lake.version(table)
        commit = predict_batch(workspace.settings, lake, contract, run=context.run.run_id, now=datetime.now(UTC))
        context.log.info(f"{commit.rows} rows predicted" if not commit.skipped else "predictions were up to date")
        return dg.MaterializeResult(
            metadata={**table_metadata(lake, table, before=before)}, data_version=data_version(lake, table)
        )

    return predict


def _checks(contract: ModelContract, model: dg.AssetKey, report: Any) -> Iterator[dg.AssetCheckResult]:
    yield from ()


def _model_metadata(report: Any) -> dict[str, Any]:
    return {}


def _minimums(contract: ModelContract) -> str:
    return ", ".join(f"{metric} >= {least:g}" for metric, least in contract.minimums.items()) or "what its contract asks (it asks nothing)"


def _metrics_text(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
