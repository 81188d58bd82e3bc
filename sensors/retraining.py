"""`<model>_retraining_is_due`: what its contract calls a reason to train again has come; a run trains, compares, and predicts.

The tables say whether it is due, each time anew, and the run asks again for itself: a run started twice trains once. There is one run of
a model at a time; what failed is tried again later and later, not each minute.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from assets.models import REASON_TAG
from assets.naming import asset_key
from lakehouse.contracts import ModelContract, Retraining
from lakehouse.pipeline.workspace import Workspace
from sensors import run_states

if TYPE_CHECKING:
    from lakehouse.learning.retraining import RetrainingDue

MODEL_TAG = "lakehouse/retraining"
VERSION_TAG = "lakehouse/retraining_of"
# Told to whoever looks at the run; it asks again itself, so that this is no order to train.
DUE_TAG = "lakehouse/retraining_due"
_INTERVAL_S = 60
_HISTORY = 20
_LONGEST_WAIT = timedelta(days=1)
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that was started to train a model again and has ended.

    Attributes:
        version: the newest when it was started; the same now means that nothing came of it.
    """

    run_id: str
    version: str
    ended_at: datetime


def decide(
    contract: ModelContract, due: "RetrainingDue", *, history: Sequence[Attempt], busy: str | None, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """Start a run, or say why not.

    Args:
        contract: of the model.
        due: whether it is due.
        history: runs of this sensor that have ended, newest first.
        busy: id of an unfinished run that may train the model.
        now: the time.
    """
    if not due:
        return dg.SkipReason(f"{contract.name}: {due.reason}.")
    if due.version is None:
        return dg.SkipReason(f"{contract.name}: {due.reason}; the run that brings its first rows trains it.")
    if busy is not None:
        return dg.SkipReason(f"{contract.name}: {due.reason}; run {busy} is in progress, looking again after it.")
    attempts = [attempt for attempt in history if attempt.version == due.version]
    if attempts:
        again = attempts[0].ended_at + wait_after(contract.retraining, len(attempts))
        if now < again:
            return dg.SkipReason(
                f"{contract.name}: {due.reason}; {len(attempts)} runs brought no new version (last: {attempts[0].run_id}), the next at {again:%Y-%m-%d %H:%M}."
            )
    # The key carries the run before: Dagster never starts a second run for a key, not even after a failure.
    after = f", again after {attempts[0].run_id}" if attempts else ""
    return dg.RunRequest(
        run_key=f"{contract.name} after {due.version}{after}",
        tags={MODEL_TAG: contract.name, VERSION_TAG: due.version, DUE_TAG: due.reason[:200]},
    )


def wait_after(policy: Retraining, attempts: int) -> timedelta:
    """How long to wait after so many runs that brought no new version: twice as long each time, at most a day."""
    least = max(policy.debounce_minutes, 1.0)
    return min(timedelta(minutes=least) * 2 ** min(attempts - 1, _MOST_DOUBLINGS), max(_LONGEST_WAIT, timedelta(minutes=least)))


def build_retraining_sensors(models: Iterable[ModelContract]) -> list[dg.SensorDefinition]:
    """One sensor per model whose contract says when it trains again; the others train with each run in which something has changed."""
    return [_retraining_sensor(contract) for contract in models if contract.retraining.automatic]


def build_retraining_schedules(models: Iterable[ModelContract]) -> list[dg.ScheduleDefinition]:
    """One schedule per model whose contract names a time."""
    return [
        dg.ScheduleDefinition(
            name=f"{contract.name}_retraining_schedule",
            target=_trained(contract),
            cron_schedule=contract.retraining.schedule,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            tags={MODEL_TAG: contract.name, REASON_TAG: f"schedule {contract.retraining.schedule}"},
            description=f"Trains {contract.name} again if anything is new, and predicts with what is then in production.",
        )
        for contract in models
        if contract.retraining.schedule is not None
    ]


def _trained(contract: ModelContract) -> dg.AssetSelection:
    tables = (f"models.{contract.name}{what}" for what in ("_training_set", "", "_predictions"))
    return dg.AssetSelection.assets(*(asset_key(table) for table in tables))


def unfinished_run(instance: dg.DagsterInstance, contract: ModelContract) -> str | None:
    """The id of a run that is training the model: started here, by the main job, by hand or by `lakehouse run`."""
    return run_states.unfinished_run(instance, asset_key(f"models.{contract.name}"), tag=MODEL_TAG, value=contract.name)


def ended_runs(instance: dg.DagsterInstance, model: str) -> list[Attempt]:
    """What became of the newest runs that were started to train a model again."""
    records = instance.get_run_records(dg.RunsFilter(tags={MODEL_TAG: model}, statuses=run_states.ENDED), limit=_HISTORY)
    return [
        Attempt(
            record.dagster_run.run_id,
            record.dagster_run.tags.get(VERSION_TAG, ""),
            datetime.fromtimestamp(record.end_time, UTC) if record.end_time is not None else record.update_timestamp,
        )
        for record in records
    ]


def _retraining_sensor(contract: ModelContract) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{contract.name}_retraining_is_due",
        target=_trained(contract),
        minimum_interval_seconds=_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"{contract.name} is to be trained again: {_policy(contract.retraining)}. A run trains it, compares it with the version in "
        "production, stages it as its rollout says, and predicts. At most one run at a time; what brought no new version is tried again later.",
    )
    def retraining_is_due(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        from lakehouse.learning.retraining import retraining_due

        now = datetime.now(UTC)
        due = retraining_due(workspace.lake, contract, now=now)
        instance = context.instance
        history, busy = (ended_runs(instance, contract.name), unfinished_run(instance, contract)) if due else ([], None)
        return decide(contract, due, history=history, busy=busy, now=now)

    return retraining_is_due


def _policy(policy: Retraining) -> str:
    said = {
        "{:,} new labelled rows": policy.new_rows,
        "PSI {:g} beyond chance": policy.psi_retrain,
        "{:.0%} less than on the test rows": policy.performance_drop,
        "{:g} days old": policy.max_age_days,
    }
    return ", or ".join(text.format(value) for text, value in said.items() if value is not None) or "when its contract or code has changed"
