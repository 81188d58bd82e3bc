"""Outcomes as an asset: how predictions turned out once their labels came, with two checks per model."""

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
    from lakehouse.monitoring.outcomes import Outcomes

# As lakehouse.monitoring.outcomes calls it; importing it here would make every load pay for it.
TABLE = "monitoring.outcomes"
_SHOWN_SEGMENTS = 15
_COLUMNS = {
    "measured_at": ("TIMESTAMP WITH TIME ZONE", "When this was measured."),
    "model": ("VARCHAR", "The model."),
    "model_version": ("VARCHAR", "The version that made the predictions."),
    "kind": ("VARCHAR", "calibration_error, brier, calibration, confidence, segment or threshold."),
    "name": ("VARCHAR", "The interval, the segment, or the threshold."),
    "rows": ("BIGINT", "Predictions whose label has come."),
    "expected": ("DOUBLE", "Mean probability; error of the other rows; balanced accuracy of what was said."),
    "observed": ("DOUBLE", "Share that was so; error in the segment; balanced accuracy with this threshold; the measure itself."),
    "p_value": ("DOUBLE", "Whether chance explains the difference."),
    "flagged": ("BOOLEAN", "It is large and no chance."),
    "run": ("VARCHAR", "Who measured."),
}


def calibration_check(model: str) -> str:
    """The name of the check that a model's probabilities are right."""
    return f"{model}_probabilities_are_right"


def segments_check(model: str) -> str:
    """The name of the check that a model errs alike everywhere."""
    return f"{model}_errs_alike_in_all_segments"


def build_outcomes_asset(contracts: Contracts) -> dg.AssetsDefinition:
    """One asset for all models."""
    key = asset_key(TABLE)
    spec = watching_spec(
        TABLE,
        contracts,
        columns=_COLUMNS,
        description="How predictions turned out once their labels came: calibration, confidence, error by segment, and the threshold that would do "
        "best until the model is trained again.",
    )

    @dg.multi_asset(
        name="outcomes", specs=[spec], check_specs=[one for model in contracts.models.values() for one in _specs(key, model)], pool=TABLE
    )
    def outcomes(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.monitoring.outcomes import measure_outcomes

        lake, now = workspace.lake, datetime.now(UTC)
        before = lake.version(TABLE)
        found = {name: measure_outcomes(lake, model, run=context.run.run_id, now=now) for name, model in workspace.contracts.models.items()}
        metadata = table_metadata(lake, TABLE, before=before) if lake.exists(TABLE) else {}
        metadata["lakehouse/models"] = records_table([_line(name, versions) for name, versions in found.items()])
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=data_version(lake, TABLE))
        for name, versions in found.items():
            yield from _results(key, name, versions[0] if versions else None)

    return outcomes


def _specs(key: dg.AssetKey, model: ModelContract) -> Iterator[dg.AssetCheckSpec]:
    yield dg.AssetCheckSpec(
        calibration_check(model.name), asset=key, description=f"Of what {model.name} says with 80 %, 80 of 100 come true, and so for all."
    )
    yield dg.AssetCheckSpec(
        segments_check(model.name), asset=key, description=f"In no segment of enough rows does {model.name} err much more than elsewhere."
    )


def _results(key: dg.AssetKey, name: str, one: "Outcomes | None") -> Iterator[dg.AssetCheckResult]:
    """Both claims about the version in production, before it has labels about the one with the most; without any nothing speaks against them."""
    checks = (calibration_check(name), segments_check(name))
    if one is None:
        for check in checks:
            yield dg.AssetCheckResult(
                asset_key=key, check_name=check, passed=True, description="too few labels have come to conclude anything"
            )
        return
    found = one.calibration
    told = "gives no probabilities" if found is None else f"calibration error {found.error:.4f}, Brier score {found.brier:.4f}"
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=checks[0],
        passed=found is None or found.is_well,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"version {one.model_version}, {one.rows:,} labels: {told}",
        metadata=_pictures(one),
    )
    worse = "; ".join(f"{part.column} = {part.value}: {part.error:.3f}, elsewhere {part.others:.3f}" for part in one.worse_segments)
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=checks[1],
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"version {one.model_version}, {one.rows:,} labels: {worse or f'{len(one.segments)} segments err alike'}",
        metadata={"segments": records_table([_segment(part) for part in one.segments[:_SHOWN_SEGMENTS]])} if one.segments else {},
    )


def _segment(part: Any) -> dict[str, Any]:
    return {
        "segment": f"{part.column} = {part.value}",
        "rows": part.rows,
        "error": f"{part.error:.4f}",
        "elsewhere": f"{part.others:.4f}",
        "p": f"{part.p_value:.2g}",
        "worse": "yes" if part.is_worse else "",
    }


def _pictures(one: "Outcomes") -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if one.calibration is not None:
        bins = one.calibration.bins
        metadata["calibration"] = plots.said_and_so("What was said, and what was so", [(part.predicted, part.observed) for part in bins])
    if one.confidence:
        size = len(one.confidence)
        metadata["confidence"] = plots.histogram(
            "Confidence", [place / size for place in range(size + 1)], one.confidence, unit="confidence"
        )
    if one.threshold is not None:
        found = one.threshold
        better = f"{found.value:g} would reach {found.balanced_accuracy:.4f}" if found.is_worth_it else "none is worth moving to"
        metadata["threshold"] = f"balanced accuracy {found.now:.4f} as it is; {better}"
    return metadata


def _line(name: str, versions: "tuple[Outcomes, ...]") -> dict[str, Any]:
    if not versions:
        return {"model": name, "version": "", "labels": 0, "calibration error": "", "worse segments": ""}
    one = versions[0]
    return {
        "model": name,
        "version": one.model_version,
        "labels": one.rows,
        "calibration error": "" if one.calibration is None else f"{one.calibration.error:.4f}",
        "worse segments": len(one.worse_segments),
    }
