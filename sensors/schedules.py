"""When the jobs run by themselves. Times are UTC and come from the settings."""

from collections.abc import Iterable

import dagster as dg

from assets.jobs import (
    ARCHIVE_JOB,
    BACKUP_JOB,
    COMPACTION_JOB,
    MAIN_JOB,
    PERFORMANCE_JOB,
    PRIVACY_JOB,
    QUALITY_JOB,
    VERIFY_JOB,
    data_downstream_of,
)
from lakehouse.contracts import DatasetContract
from lakehouse.settings import Settings


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule per job, running from the start."""
    crons = {
        MAIN_JOB: settings.schedule_main,
        QUALITY_JOB: settings.schedule_quality,
        PERFORMANCE_JOB: settings.schedule_performance,
        ARCHIVE_JOB: settings.schedule_archive,
        COMPACTION_JOB: settings.schedule_compaction,
        PRIVACY_JOB: settings.schedule_privacy,
    }
    if settings.backup_uri is not None:
        crons |= {BACKUP_JOB: settings.schedule_backup, VERIFY_JOB: settings.schedule_verify}
    return [
        dg.ScheduleDefinition(
            name=f"{job}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Runs the job {job} at `{cron}` UTC.",
        )
        for job, cron in crons.items()
    ]


def build_fetch_schedules(datasets: Iterable[DatasetContract], settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule per dataset that comes from a database or from exports to a bucket: nothing else tells that there is something new."""
    from lakehouse.pipeline.fetching import looks

    return [
        dg.ScheduleDefinition(
            name=f"{contract.name}_fetch_schedule",
            target=data_downstream_of(contract.raw, contract.quarantine),
            cron_schedule=list(places) if len(places) > 1 else next(iter(places)),
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Ingests what is new and brings everything downstream up to date: "
            + "; ".join(f"{', '.join(found)} at `{cron}` UTC" for cron, found in places.items())
            + ".",
        )
        for contract in datasets
        if (places := looks(contract, settings))
    ]
