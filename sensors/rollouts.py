"""`<model>_rollout_is_due`: a step of a rollout is over, or a version is not well; the run that predicts acts on it."""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg

from assets.naming import asset_key
from lakehouse.contracts import ModelContract
from lakehouse.pipeline.workspace import Workspace

_INTERVAL_S = 60


def build_rollout_sensors(models: Iterable[ModelContract]) -> list[dg.SensorDefinition]:
    """One sensor per model: also a version that took over at once is taken back if it is not well."""
    return [_rollout_sensor(contract) for contract in models]


def _rollout_sensor(contract: ModelContract) -> dg.SensorDefinition:
    table = f"models.{contract.name}_predictions"

    @dg.sensor(
        name=f"{contract.name}_rollout_is_due",
        target=dg.AssetSelection.assets(asset_key(table)),
        minimum_interval_seconds=_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"A version of {contract.name} that is rolled out ({contract.rollout.strategy}) has waited long enough for its next step, or it or the one "
        "in production is not well: a run takes it further or back, and predicts anew. Stopping it stops no rollback by hand: lakehouse model rollback.",
    )
    def rollout_is_due(workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        from lakehouse.learning import rollout_due

        now = datetime.now(UTC)
        due = rollout_due(workspace.settings, workspace.lake, contract, now=now)
        if due.decision is None:
            return dg.SkipReason(due.reason)
        # A run that failed is repeated after an hour; one that has acted has made a new decision.
        return dg.RunRequest(run_key=f"{contract.name} {due.decision} {now:%Y%m%d%H}", tags={"lakehouse/reason": due.reason[:200]})

    return rollout_is_due
