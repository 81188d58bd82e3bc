"""`<dataset>_landing_file_arrived`: a new file in a dataset's landing folder starts a run of everything downstream of it.

So does a command that changed raw beside Dagster, such as a replay of quarantined rows or a restore.

What is new is decided by content against the log of the raw table, each time anew. The sensor therefore has no cursor that
could be wrong after a restart, and a file is never lost to a clock; ingestion decides again for itself, so that a run
started twice ingests once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.jobs import data_downstream_of
from assets.metadata import data_version
from assets.naming import asset_key
from lakehouse.contracts import DatasetContract
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from sensors import run_states

DATASET_TAG = "lakehouse/dataset"
FILES_TAG = "lakehouse/files"
MAX_ATTEMPTS = 3
_HISTORY = 10
_CHECK_FAILED = "DagsterAssetCheckFailedError"
_DATA_VERSION = "dagster/data_version"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that this sensor started and that has ended.

    Attributes:
        files: the key of the contents it was started for.
        stopped_by_check: it failed because a blocking check did; running it again asks the same data the same question.
    """

    run_id: str
    files: str
    status: dg.DagsterRunStatus
    stopped_by_check: bool = False

    @property
    def is_worth_repeating(self) -> bool:
        """Whether it ended before its work was done, for a reason that may have passed."""
        return self.status is not dg.DagsterRunStatus.SUCCESS and not self.stopped_by_check


def files_key(digests: Iterable[str]) -> str:
    """One short key for a set of contents, whatever the files are called and in whatever order they are listed."""
    return hashlib.sha256("\n".join(sorted(set(digests))).encode()).hexdigest()[:16]


def decide(
    dataset: str, digests: Sequence[str], *, changed: str | None = None, waiting: int, history: Sequence[Attempt], busy: str | None
) -> dg.RunRequest | dg.SkipReason:
    """Start a run for new contents, for rows that a command has changed, or to finish what a failed run left; or say why not.

    Args:
        dataset: whose files they are.
        digests: contents that raw does not have.
        changed: raw's data version, if Dagster has not seen it yet.
        waiting: files that are there but still being written.
        history: runs of this sensor that have ended, newest first.
        busy: id of an unfinished run that ingests the dataset.
    """
    last = history[0] if history else None
    if digests:
        key, what = files_key(digests), f"{len(digests)} new for {dataset}"
    elif changed is not None:
        key, what = f"raw@{changed}", f"raw.{dataset} was changed beside Dagster"
    elif last is not None and last.is_worth_repeating:
        # The files are in raw already, so only the run knows that their way to the predictions was cut short.
        key, what = last.files, f"Run {last.run_id} of {dataset} did not finish"
    else:
        settling = f"; {waiting} still being written" if waiting else ""
        stopped = f"; run {last.run_id} was stopped by a check" if last is not None and last.stopped_by_check else ""
        return dg.SkipReason(f"No new file for {dataset}{settling}{stopped}.")
    if busy:
        return dg.SkipReason(f"{what}; run {busy} is in progress, looking again after it.")
    attempts = [attempt for attempt in history if attempt.files == key]
    if len(attempts) >= MAX_ATTEMPTS:
        return dg.SkipReason(
            f"{what}; {len(attempts)} runs tried (last: {attempts[0].run_id}, {attempts[0].status.value.lower()}), there will be no other. "
            "Look at its log, correct or remove the files, or materialise by hand."
        )
    # The key carries the attempt: Dagster never starts a second run for a key, not even after a failure.
    return dg.RunRequest(run_key=f"{dataset}:{key}:{len(attempts)}", tags={DATASET_TAG: dataset, FILES_TAG: key})


def changed_beside(instance: dg.DagsterInstance, workspace: Workspace, table: str) -> str | None:
    """The table's data version, if Dagster has seen an earlier one: rows were replayed, restored or ingested by a command since.

    A table that Dagster never materialised is nothing that it has to keep up to date.
    """
    entry = instance.get_latest_materialization_event(asset_key(table))
    materialization = entry.asset_materialization if entry is not None else None
    seen = (materialization.tags or {}).get(_DATA_VERSION) if materialization is not None else None
    now = data_version(workspace.lake, table)
    return now.value if seen is not None and now is not None and now.value != seen else None


def unfinished_run(instance: dg.DagsterInstance, contract: DatasetContract) -> str | None:
    """The id of a run that is ingesting the dataset: started here, by the main job, by hand or by `lakehouse run`."""
    return run_states.unfinished_run(instance, asset_key(contract.raw), tag=DATASET_TAG, value=contract.name)


def ended_runs(instance: dg.DagsterInstance, dataset: str) -> list[Attempt]:
    """What became of the newest runs that this sensor started."""
    records = instance.get_run_records(dg.RunsFilter(tags={DATASET_TAG: dataset}, statuses=run_states.ENDED), limit=_HISTORY)
    runs = [record.dagster_run for record in records]
    return [
        Attempt(run.run_id, run.tags.get(FILES_TAG, ""), run.status, stopped_by_check=index == 0 and _stopped_by_check(instance, run))
        for index, run in enumerate(runs)
    ]


def _stopped_by_check(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.status is not dg.DagsterRunStatus.FAILURE:
        return False
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    errors = [event.step_failure_data.error for record in records if (event := record.event_log_entry.dagster_event)]
    return bool(errors) and all(error is not None and error.cls_name == _CHECK_FAILED for error in errors)


def build_landing_sensors(datasets: Iterable[DatasetContract], settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor per dataset."""
    return [_landing_sensor(contract, settings) for contract in datasets]


def _places(contract: DatasetContract, settings: Settings) -> str:
    places = [str(settings.landing_dir / contract.name)]
    if settings.landing_bucket is not None:
        places.append(f"{settings.landing_bucket}/{contract.name}")
    return " or ".join(places)


def _landing_sensor(contract: DatasetContract, settings: Settings) -> dg.SensorDefinition:

    @dg.sensor(
        name=f"{contract.name}_landing_file_arrived",
        target=data_downstream_of(contract.raw, contract.quarantine),
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"A file whose content is new to raw.{contract.name} has come to rest in {_places(contract, settings)}: "
        "ingests it and brings everything downstream up to date in one run. Files still being written wait. "
        "Rows that a command changed (a replay, a restore) are followed likewise.",
    )
    def landing_file_arrived(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        from lakehouse.ingest import pending

        # What a contract names in a bucket is looked at by schedule: listing it is not free.
        found = pending(workspace.lake, contract, settings=workspace.settings, exports=False)
        digests = [file.content for file in found.ready]
        instance = context.instance
        return decide(
            contract.name,
            digests,
            changed=changed_beside(instance, workspace, contract.raw),
            waiting=len(found.settling),
            history=ended_runs(instance, contract.name),
            busy=unfinished_run(instance, contract),
        )

    return landing_file_arrived
