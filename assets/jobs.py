"""The jobs: everything, and some that look after what is there."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from assets.naming import asset_key
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

MONITORING_GROUP = "monitoring"
MAINTENANCE_GROUP = "maintenance"
RECOVERY_GROUP = "recovery"
MAIN_JOB = "main"
QUALITY_JOB = "quality"
PERFORMANCE_JOB = "model_performance"
ARCHIVE_JOB = "archive"
COMPACTION_JOB = "compaction"
PRIVACY_JOB = "privacy"
BACKUP_JOB = "backup"
VERIFY_JOB = "verify"

_NOT_DATA = dg.AssetSelection.groups(MONITORING_GROUP, MAINTENANCE_GROUP, RECOVERY_GROUP)
# What the models are asked and how they did: known as soon as there are rows, and what rollouts and retraining wait for.
_WATCHES_MODELS = dg.AssetSelection.assets(*(asset_key(f"monitoring.{what}") for what in ("model_performance", "outcomes", "drift")))


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """How the steps of a run are executed.

    In one process by default: a step process of its own imports the code location again (3.6 s each, ten times the work of
    most steps), so that processes pay only where steps are long and cores are many.
    """
    return dg.multiprocess_executor if settings.executor == "multiprocess" else dg.in_process_executor


def data_downstream_of(*tables: str) -> dg.AssetSelection:
    """The tables and everything that is made from them, up to the predictions and how the models stand; not what else only watches."""
    downstream = dg.AssetSelection.assets(*(asset_key(table) for table in tables)).downstream()
    return (downstream - _NOT_DATA) | (downstream & _WATCHES_MODELS)


def build_jobs(*, table_checks: Iterable[dg.AssetCheckKey]) -> list["UnresolvedAssetJobDefinition"]:
    """The jobs.

    Args:
        table_checks: checks that can be asked without making the table again: those of the contracts and the dbt tests.
    """
    return [
        dg.define_asset_job(
            MAIN_JOB,
            selection=(dg.AssetSelection.all() - _NOT_DATA) | _WATCHES_MODELS,
            description="Everything: ingests what waits in the landing folders, rebuilds what depends on it, trains, predicts, and looks how models stand. "
            "What is up to date is left as it is.",
        ),
        dg.define_asset_job(
            QUALITY_JOB,
            selection=dg.AssetSelection.assets(asset_key("monitoring.quality_scores")) | dg.AssetSelection.checks(*table_checks),
            description="Asks every table the questions of its contract again and records a quality score per dataset. Changes no data.",
        ),
        dg.define_asset_job(
            PERFORMANCE_JOB,
            selection=_WATCHES_MODELS,
            description="Compares what the models predicted with the labels that have arrived since, and what they are asked and answer now with "
            "what they were trained for.",
        ),
        dg.define_asset_job(
            ARCHIVE_JOB,
            selection=dg.AssetSelection.assets(*(asset_key(f"monitoring.{step}") for step in ("archive", "vacuum", "versions", "storage"))),
            description="Moves old rows to the archive, as the contracts say; "
            "removes versions that are old and that nothing points to, and what crashed processes left; then reports sizes and kept versions.",
        ),
        dg.define_asset_job(
            COMPACTION_JOB,
            selection=dg.AssetSelection.assets(asset_key("monitoring.compaction")),
            description="Joins small files, sorts rows as the contracts say, and checkpoints the logs. Changes no row and no result.",
        ),
        dg.define_asset_job(
            PRIVACY_JOB,
            selection=dg.AssetSelection.assets(asset_key("monitoring.retention"), asset_key("monitoring.audit")),
            description="Removes what is over the period that a contract enforces, and people who withdrew their consent; copies the audit.",
        ),
    ]


def build_recovery_jobs(settings: Settings) -> list["UnresolvedAssetJobDefinition"]:
    """The backup and its proof; none where no place for backups is set."""
    if settings.backup_uri is None:
        return []
    return [
        dg.define_asset_job(
            BACKUP_JOB,
            selection=dg.AssetSelection.keys(["recovery", "backup"]),
            description=f"Backs up what is new to {settings.backup_uri}, and removes the backups that the settings no longer keep.",
        ),
        dg.define_asset_job(
            VERIFY_JOB,
            selection=dg.AssetSelection.keys(["recovery", "verification"]),
            description="Reads everything, backups too, and compares it with its digests. Changes no data.",
        ),
    ]
