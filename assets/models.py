"""Models as assets: the training set and the trained model in one step, the predictions in another."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets import plots
from assets.metadata import data_version, inputs_table, records_table, table_metadata
from assets.naming import asset_key, owners, slug
from lakehouse.contracts import Contracts, ModelContract, Severity
from lakehouse.features import FeatureView, view_tables
from lakehouse.pipeline.dagster_log import WAITING
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.learning import TrainReport
    from lakehouse.learning.comparison import ModelComparison

# As lakehouse.learning calls them; importing it here would make every load pay for it.
MINIMUMS = "metrics_reach_their_minimums"
BASELINE = "model_beats_its_baseline"
NO_LEAK = "no_feature_gives_the_target_away"
NEW_TEST_ROWS = "test_rows_are_new_to_the_model"
REASON_TAG = "lakehouse/retraining_reason"
# As lakehouse.learning.retraining begins such a note.
NOT_DUE = "not trained again"
_SHOWN_EVENTS = 30


def build_model_assets(contract: ModelContract, contracts: Contracts, views: Mapping[str, FeatureView]) -> list[dg.AssetsDefinition]:
    """Training and prediction of one model contract, after the tables of its views."""
    inputs = [asset_key(table) for table in (contract.label_table, *view_tables(contract.feature_views, views))]
    group = slug(contracts.dataset(contract.dataset).domain)
    return [_training(contract, inputs, group), _predictions(contract, inputs, group)]


def _table(contract: ModelContract, what: str) -> str:
    return f"models.{contract.name}_{what}"


def _training(contract: ModelContract, inputs: list[dg.AssetKey], group: str) -> dg.AssetsDefinition:
    model = dg.AssetKey(["models", contract.name])
    common: dict[str, Any] = {
        "group_name": group,
        "owners": owners(contract.owner),
        "tags": {"layer": "models"},
        "code_version": contract.digest[:12],
    }
    training_set = dg.AssetSpec(
        asset_key(_table(contract, "training_set")),
        deps=inputs,
        description=f"One row per labelled example of {contract.name}: its features as they were known at that time, the label, and "
        "whether it is for training or test.",
        kinds={"models", "duckdb", "deltalake"},
        **common,
    )
    trained = dg.AssetSpec(
        model,
        deps=[training_set.key],
        description=f"{contract.description}\n\nThe registered {contract.problem} model: the best of all candidates by cross-validated {contract.metric}.",
        kinds={"models", "scikitlearn", "mlflow"},
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
                description=f"On test rows it never saw the model reaches {_minimums(contract)}; below that nothing is predicted with it: by the "
                "version in production, if there is one, and otherwise not at all.",
            ),
            dg.AssetCheckSpec(BASELINE, asset=model, description="The model is better than always giving the same answer."),
            dg.AssetCheckSpec(NO_LEAK, asset=model, description="No feature tells the target by itself, or is known only after it."),
            dg.AssetCheckSpec(NEW_TEST_ROWS, asset=model, description="No test row was learned from, as a copy or as one of its group."),
        ],
        can_subset=True,
        pool=f"models.{contract.name}",
    )
    def train_model(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.learning.retraining import train_when_due

        table = _table(contract, "training_set")
        before = workspace.lake.version(table)
        report = train_when_due(
            workspace.settings,
            workspace.lake,
            contract,
            run=context.run.run_id,
            now=datetime.now(UTC),
            reason=context.run.tags.get(REASON_TAG, ""),
            waiting=lambda line: context.log.warning(f"{WAITING} - {line}"),
        )
        semantic = f" ({report.semantic_version}, {report.state})" if report.semantic_version else ""
        context.log.info(f"{contract.name} version {report.version}{semantic}: {report.algorithm}, {_why(report)}")
        if training_set.key in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=training_set.key,
                metadata=table_metadata(workspace.lake, table, before=before),
                data_version=data_version(workspace.lake, table),
            )
        if model in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=model, metadata=_model_metadata(workspace, report), data_version=dg.DataVersion(f"{int(report.version):020d}")
            )
        for result in _checks(workspace, model, report):
            if dg.AssetCheckKey(model, result.check_name or "") in context.selected_asset_check_keys:
                yield result

    return train_model


def _predictions(contract: ModelContract, inputs: list[dg.AssetKey], group: str) -> dg.AssetsDefinition:
    table = _table(contract, "predictions")
    subject = ", ".join(contract.entity) or "row"
    spec = dg.AssetSpec(
        asset_key(table),
        deps=[dg.AssetKey(["models", contract.name]), *inputs],
        group_name=group,
        owners=owners(contract.owner),
        tags={"layer": "models"},
        kinds={"models", "scikitlearn", "deltalake"},
        description=f"What the champion of {contract.name}, and for its share a version that is rolled out, says about every {subject}: the "
        "prediction, its probabilities, and the versions of the model and of the feature tables it came from.",
        metadata={"dagster/table_name": table},
    )

    @dg.multi_asset(name=f"predict_{contract.name}", specs=[spec], pool=table)
    def predict(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.learning import predict_batch, watch_rollout
        from lakehouse.monitoring import prediction_spread

        lake, now = workspace.lake, datetime.now(UTC)
        before = lake.version(table)
        rollout = watch_rollout(workspace.settings, lake, contract, run=context.run.run_id, now=now)
        for event in rollout.events:
            context.log.info(f"{contract.name} version {event.version} {event.kind}: {event.reason}")
        commit = predict_batch(
            workspace.settings,
            lake,
            contract,
            run=context.run.run_id,
            now=now,
            waiting=lambda line: context.log.warning(f"{WAITING} - {line}"),
        )
        context.log.info("predictions were up to date" if commit.skipped else f"{commit.rows:,} rows predicted")
        metadata = table_metadata(lake, table, before=before)
        spread = prediction_spread(lake, contract)
        if spread is not None:
            metadata["lakehouse/predictions"] = (
                plots.bars("Rows by predicted class", spread.by_class, unit="rows")
                if spread.classes
                else plots.histogram("Predicted values", spread.edges, spread.counts, unit="prediction")
            )
        return dg.MaterializeResult(metadata=metadata, data_version=data_version(lake, table))

    return predict


def _checks(workspace: Workspace, model: dg.AssetKey, report: "TrainReport") -> Iterator[dg.AssetCheckResult]:
    from lakehouse.learning.lifecycle.journal import DeltaJournal

    production = DeltaJournal(workspace.lake).ledger(report.model).production
    # A version that is not good enough keeps nobody from predicting with the one that is.
    is_replaced = production not in {None, report.version}
    for check in report.checks:
        is_error = check.severity is Severity.ERROR and not is_replaced
        stays = f"; version {production} stays in production" if is_replaced and not check.passed else ""
        yield dg.AssetCheckResult(
            asset_key=model,
            check_name=check.id,
            passed=check.passed,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=f"{check.detail}{stays}",
            metadata={"metrics": _metrics_table(report)},
        )


def _model_metadata(workspace: Workspace, report: "TrainReport") -> dict[str, Any]:
    value = report.metrics.get(report.metric)
    compared = {one.algorithm: one.metrics[report.metric] for one in report.candidates if report.metric in one.metrics}
    metadata: dict[str, Any] = {
        "lakehouse/model_version": report.version,
        "lakehouse/alias": report.alias or "none",
        "lakehouse/semantic_version": report.semantic_version or "none",
        "lakehouse/state": report.state or "unknown",
        "lakehouse/history": _history_table(workspace, report.model),
        "lakehouse/algorithm": report.algorithm,
        "lakehouse/metrics": _metrics_table(report),
        "lakehouse/candidates": plots.bars(f"Cross-validated {report.metric} of each candidate", compared, unit=report.metric),
        "lakehouse/rows_train": dg.IntMetadataValue(report.rows_train),
        "lakehouse/rows_test": dg.IntMetadataValue(report.rows_test),
        "lakehouse/trained": _why(report),
        "delta/inputs": inputs_table(report.inputs),
    }
    if value is not None:
        metadata[f"lakehouse/test_{report.metric}"] = dg.FloatMetadataValue(round(value, 4))
    if report.tested is not None:
        metadata["lakehouse/test_rows"] = plots.test_rows(report.tested)
    if report.reliability is not None:
        metadata["lakehouse/reliability"] = plots.reliability(report.reliability)
    if report.segments:
        metadata["lakehouse/segments"] = _segments_table(report)
    if report.comparison is not None:
        metadata["lakehouse/comparison"] = _comparison(workspace, report.model, report.comparison)
    notes = [*report.notes, *(f"left out {one}" for one in report.left_out)]
    if notes:
        metadata["lakehouse/notes"] = dg.MarkdownMetadataValue("\n".join(f"- {note}" for note in notes))
    return metadata


def _why(report: "TrainReport") -> str:
    if report.skipped:
        return next((note for note in report.notes if note.startswith(NOT_DUE)), "not again: same data, contract and code")
    return f"by this run: {report.reason}" if report.reason else "by this run"


def _comparison(workspace: Workspace, model: str, comparison: "ModelComparison") -> dg.MarkdownMetadataValue:
    """The new version beside the one that was in production, by what the contract asks."""
    from lakehouse.learning.comparison import verdict

    judged = verdict(comparison, workspace.contracts.model(model).comparison)
    word = "is better than" if judged.passed else "is not shown to be better than"
    head = f"**Version {comparison.challenger} {word} version {comparison.champion}.** {judged.sentence}"
    more = f"`lakehouse model compare {model}@{comparison.champion} {model}@{comparison.challenger} --html FILE` draws it."
    return dg.MarkdownMetadataValue("\n\n".join([head, *(f"- {note}" for note in comparison.notes), more]))


def _history_table(workspace: Workspace, model: str) -> dg.MarkdownMetadataValue:
    """The newest events of the model's versions, the newest first."""
    from lakehouse.learning.lifecycle.journal import DeltaJournal

    events = DeltaJournal(workspace.lake).events(model)
    return records_table(
        [
            {
                "at": f"{one.at:%Y-%m-%d %H:%M:%S}",
                "version": one.version,
                "event": one.kind if one.share is None else f"{one.kind} {one.share:g} %",
                "from": str(one.before or ""),
                "to": str(one.after),
                "by": one.actor,
                "why": one.reason,
            }
            for one in events[: -_SHOWN_EVENTS - 1 : -1]
        ]
    )


def _metrics_table(report: "TrainReport") -> dg.MarkdownMetadataValue:
    rows: list[dict[str, Any]] = [
        {
            "metric": f"**{name}**" if name == report.metric else name,
            "test rows": f"{value:.4f}",
            "on as many new rows": _between(report, name),
            "always the same answer": _shown(report.baseline.get(name)),
        }
        for name, value in sorted(report.metrics.items())
    ]
    return records_table(rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _between(report: "TrainReport", metric: str) -> str:
    later = report.intervals.get(metric)
    return "" if later is None else f"{later.low:.4f} to {later.high:.4f}"


def _segments_table(report: "TrainReport") -> dg.MarkdownMetadataValue:
    """Kinds of test rows that differ from all others, the worst first."""
    return records_table(
        [
            {
                "column": one.feature,
                "rows where it": one.value,
                "rows": one.rows,
                "error": f"{one.error:.4g}",
                "elsewhere": f"{one.elsewhere:.4g}",
                report.metric: _shown(one.metric),
            }
            for one in report.segments
        ]
    )


def _minimums(contract: ModelContract) -> str:
    return ", ".join(f"{metric} {least:g}" for metric, least in contract.minimums.items()) or "what its contract asks (it asks nothing)"
