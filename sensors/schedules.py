"""When the jobs run by themselves. Times are UTC and come from the settings."""

import dagster as dg

from assets.jobs import ARCHIVE_JOB, BACKUP_JOB, COMPACTION_JOB, MAIN_JOB, PERFORMANCE_JOB, PRIVACY_JOB, QUALITY_JOB, VERIFY_JOB
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
