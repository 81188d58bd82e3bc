"""`<dataset>_landing_file_arrived`: a new file in a dataset's landing folder starts a run of everything downstream of it.

What is new is decided by content against the log of the raw table, each time anew. The sensor therefore has no cursor that
could be wrong after a restart, and a file is never lost to a clock; ingestion decides again for itself, so that a run
started twice ingests once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.jobs import MAIN_JOB, data_downstream_of
from lakehouse.contracts import DatasetContract
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

DATASET_TAG = "lakehouse/dataset"
FILES_TAG = "lakehouse/files"
MAX_ATTEMPTS = 3

_NOT_FINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished run for a set of files."""

    run_id: str
    status: str


def files_key(digests: Iterable[str]) -> str:
    """One short key for a set of contents, whatever the files are called and in whatever order they are listed."""
    return hashlib.sha256("\n".join(sorted(set(digests))).encode()).hexdigest()[:16]


def decide(dataset: str, digests: Sequence[str], *, waiting: int, attempts: Sequence[Attempt], busy: str | None) -> dg.RunRequest | dg.SkipReason:
    """Start a run for these contents, or say why not.

    Args:
        waiting: files that are there but still being written.
        attempts: finished runs for exactly these contents, newest first.
        busy: id of an unfinished run that ingests the dataset.
    """
    if not digests:
        settling = f"; {waiting} still being written" if waiting else ""
        return dg.SkipReason(f"No new file for {dataset}{settling}.")
    if busy:
        return dg.SkipReason(f"{len(digests)} new for {dataset}; run {busy} is in progress, looking again after it.")
    if len(attempts) >= MAX_ATTEMPTS:
        return dg.SkipReason(
            f"{len(digests)} new for {dataset}, but {len(attempts)} runs did not ingest them (last: {attempts[0].run_id}, {attempts[0].status.lower()}). "
            "Correct or remove the files, or materialise the raw table by hand."
        )
    key = files_key(digests)
    # The key carries the attempt: Dagster never starts a second run for a key, not even after a failure.
    return dg.RunRequest(run_key=f"{dataset}:{key}:{len(attempts)}", tags={DATASET_TAG: dataset, FILES_TAG: key})


def unfinished_run(instance: dg.DagsterInstance, dataset: str) -> str | None:
    """The id of a run that is ingesting the dataset, started by the sensor or as part of the main job."""
    by_sensor = instance.get_run_records(dg.RunsFilter(tags={DATASET_TAG: dataset}, statuses=_NOT_FINISHED), limit=1)
    by_main = instance.get_run_records(dg.RunsFilter(job_name=MAIN_JOB, statuses=_NOT_FINISHED), limit=1)
    found = [*by_sensor, *by_main]
    return found[0].dagster_run.run_id if found else None


def finished_attempts(instance: dg.DagsterInstance, dataset: str, key: str) -> list[Attempt]:
    """Runs that had these contents before them and ended, newest first."""
    records = instance.get_run_records(dg.RunsFilter(tags={DATASET_TAG: dataset, FILES_TAG: key}), limit=MAX_ATTEMPTS)
    return [Attempt(record.dagster_run.run_id, record.dagster_run.status.value) for record in records]


def build_landing_sensors(datasets: Iterable[DatasetContract], settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor per dataset."""
    return [_landing_sensor(contract, settings) for contract in datasets]


def _landing_sensor(contract: DatasetContract, settings: Settings) -> dg.SensorDefinition:

    @dg.sensor(
        name=f"{contract.name}_landing_file_arrived",
        target=data_downstream_of(contract.raw, contract.quarantine),
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"A file whose content is new to raw.{contract.name} has come to rest in {settings.landing_dir / contract.name}: "
        "ingests it and brings everything downstream up to date in one run. Files still being written wait.",
    )
    def landing_file_arrived(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        from lakehouse.ingest import pending

        found = pending(workspace.lake, contract, settings=workspace.settings)
        digests = [file.sha256 for file in found.ready]
        instance = context.instance
        return decide(
            contract.name,
            digests,
            waiting=len(found.settling),
            attempts=finished_attempts(instance, contract.name, files_key(digests)) if digests else [],
            busy=unfinished_run(instance, contract.name) if digests else None,
        )

    return landing_file_arrived
