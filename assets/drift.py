"""Drift as an asset: what every model is asked and answers, against what it was trained for; one check of each per model."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets import plots
from assets.metadata import data_version, records_table, table_metadata
from assets.naming import asset_key
from assets.watching import watching_spec
from lakehouse.contracts import Contracts, ModelContract
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.monitoring.drift import ColumnDrift, DriftReport, ModelDrift, NotCompared

# As lakehouse.monitoring.drift calls it; importing it here would make every load pay for it.
TABLE = "monitoring.drift"
_SHOWN_COLUMNS = 15
_COLUMNS = {
    "measured_at": ("TIMESTAMP WITH TIME ZONE", "When this was measured."),
    "subject": ("VARCHAR", "models.<name>"),
    "version": ("VARCHAR", "The model version whose reference it is."),
    "part": (
        "VARCHAR",
        "features: what is asked; predictions: what is answered; new_features, new_predictions: against what was arriving at the newest training.",
    ),
    "column_name": ("VARCHAR", "The column."),
    "measure": ("VARCHAR", "What is counted: its numbers, its texts, or their length."),
    "rows_reference": ("BIGINT", "Rows of the reference."),
    "rows": ("BIGINT", "Rows that were held against it."),
    "psi": ("DOUBLE", "Population stability index over the bins."),
    "psi_by_chance": ("DOUBLE", "What it is on average without drift."),
    "jensen_shannon": ("DOUBLE", "Distance from 0 to 1."),
    "chi_square_p": ("DOUBLE", "P-value of the chi-square test over the bins."),
    "cramers_v": ("DOUBLE", "Its effect size from 0 to 1."),
    "ks": ("DOUBLE", "Largest distance of the distribution functions at the percentiles; none where there is no order."),
    "ks_p": ("DOUBLE", "Its p-value."),
    "p_value": ("DOUBLE", "Of both tests, adjusted for the number of columns."),
    "missing": ("DOUBLE", "Share of the rows without a value."),
    "verdict": ("VARCHAR", "stable, moved, drifted, or unknown where rows are too few."),
    "bins": ("VARCHAR", "Rows by bin, then and now, as JSON."),
    "until": ("TIMESTAMP WITH TIME ZONE", "The latest event time that was known; none where rows have none."),
    "run": ("VARCHAR", "Who measured."),
}


def features_check(model: str) -> str:
    """The name of the check that a model's features have not drifted."""
    return f"{model}_features_have_not_drifted"


def predictions_check(model: str) -> str:
    """The name of the check that a model's predictions have not drifted."""
    return f"{model}_predictions_have_not_drifted"


def build_drift_asset(contracts: Contracts) -> dg.AssetsDefinition:
    """One asset for all models."""
    key = asset_key(TABLE)
    spec = watching_spec(
        TABLE,
        contracts,
        columns=_COLUMNS,
        description="One row per model, column and measurement: how far the rows that came since a version was trained are from those it was "
        "trained for, and its newest answers from its first.",
    )

    @dg.multi_asset(
        name="drift", specs=[spec], check_specs=[one for model in contracts.models.values() for one in _specs(key, model)], pool=TABLE
    )
    def drift(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.monitoring.drift import NotCompared, measure_models

        lake, models = workspace.lake, list(workspace.contracts.models.values())
        before = lake.version(TABLE)
        found = measure_models(workspace.settings, lake, models, run=context.run.run_id, now=datetime.now(UTC))
        metadata = table_metadata(lake, TABLE, before=before) if lake.exists(TABLE) else {}
        metadata["lakehouse/models"] = records_table([_line(one) for one in found])
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=data_version(lake, TABLE))
        for one in found:
            if isinstance(one, NotCompared):
                context.log.info(f"{one.model} is not compared: {one.reason}")
                for check in (features_check(one.model), predictions_check(one.model)):
                    yield _not_compared(key, check, one.reason, is_expected=one.is_expected)
                continue
            yield _result(key, features_check(one.model), one.features, one.features_note)
            check = predictions_check(one.model)
            if one.predictions is None:
                yield _not_compared(key, check, "it has not predicted yet", is_expected=True)
            else:
                yield _result(key, check, one.predictions, one.predictions_note)

    return drift


def _specs(key: dg.AssetKey, model: ModelContract) -> Iterator[dg.AssetCheckSpec]:
    policy = model.retraining
    limit = f"PSI beyond chance is below {policy.psi_warn:g}"
    yield dg.AssetCheckSpec(
        features_check(model.name),
        asset=key,
        description=f"In no feature of {model.name} has what came since it was trained moved: {limit}.",
    )
    yield dg.AssetCheckSpec(
        predictions_check(model.name), asset=key, description=f"What {model.name} answers has not moved since its first batch: {limit}."
    )


def _not_compared(key: dg.AssetKey, name: str, reason: str, *, is_expected: bool) -> dg.AssetCheckResult:
    """A warning, unless there is nothing yet that could be compared."""
    return dg.AssetCheckResult(
        asset_key=key, check_name=name, passed=is_expected, severity=dg.AssetCheckSeverity.WARN, description=f"not compared: {reason}"
    )


def _result(key: dg.AssetKey, name: str, report: "DriftReport", note: str) -> dg.AssetCheckResult:
    """The check; `note` is what is to be known of what was found."""
    verdict = str(report.verdict)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=verdict in {"stable", "unknown"},
        severity=dg.AssetCheckSeverity.ERROR if verdict == "drifted" else dg.AssetCheckSeverity.WARN,
        description=f"{report}; {note}" if note else str(report),
        metadata=_shown(report),
    )


def _shown(report: "DriftReport") -> dict[str, Any]:
    if not report.columns:
        return {}
    worst = report.columns[0]
    return {
        "rows": dg.IntMetadataValue(report.rows),
        "columns": records_table([_column(one) for one in report.columns[:_SHOWN_COLUMNS]]),
        "psi": plots.bars("PSI of the columns", {one.column: one.psi for one in report.columns}, unit="PSI", bad=worst.verdict != "stable"),
        "worst": plots.then_and_now(f"{worst.column}: share of the rows", worst.labels, worst.reference, worst.current),
    }


def _column(one: "ColumnDrift") -> dict[str, Any]:
    return {
        "column": one.column,
        "verdict": str(one.verdict),
        "PSI": f"{one.psi:.4f}",
        "by chance": f"{one.psi_by_chance:.4f}",
        "JS": f"{one.jensen_shannon:.4f}",
        "KS": "" if one.ks is None else f"{one.ks:.4f}",
        "Cramer's V": f"{one.cramers_v:.4f}",
        "p": f"{one.p_value:.2g}",
        "missing": f"{one.missing:.1%}",
    }


def _line(one: "ModelDrift | NotCompared") -> dict[str, Any]:
    from lakehouse.monitoring.drift import NotCompared

    if isinstance(one, NotCompared):
        return {"model": one.model, "version": "", "features": f"not compared: {one.reason}", "predictions": ""}
    return {"model": one.model, "version": one.version, "features": str(one.features), "predictions": str(one.predictions or "none yet")}
