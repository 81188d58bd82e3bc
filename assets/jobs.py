"""The jobs: everything, and three that look after what is there."""

import dagster as dg

from lakehouse.settings import Settings

MAINTENANCE_GROUP = "maintenance"
MAIN_JOB = "main"
QUALITY_JOB = "quality"
PERFORMANCE_JOB = "model_performance"
ARCHIVE_JOB = "archive"

_MAINTENANCE = dg.AssetSelection.groups(MAINTENANCE_GROUP)


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """How the steps of a run are executed.

    In one process by default: a step process of its own imports the code location again (3.6 s each, ten times the work of
    most steps), so that processes pay only where steps are long and cores are many.
    """
    return dg.multiprocess_executor if settings.executor == "multiprocess" else dg.in_process_executor


def build_jobs(*, performance: dg.AssetSelection, quality: dg.AssetSelection) -> list[dg.UnresolvedAssetJobDefinition]:
    """The four jobs.

    Args:
        performance: what the model performance job materialises.
        quality: what the quality job materialises or checks.
    """
    return [
        dg.define_asset_job(
            MAIN_JOB,
            selection=dg.AssetSelection.all() - _MAINTENANCE,
            description="Everything: ingests what waits in the landing folders, rebuilds what depends on it, trains and predicts. "
            "What is up to date is left as it is.",
        ),
        dg.define_asset_job(
            QUALITY_JOB,
            selection=quality,
            description="Asks every table the questions of its contract again and records a quality score per dataset. Changes no data.",
        ),
        dg.define_asset_job(
            PERFORMANCE_JOB,
            selection=performance,
            description="Compares what the models predicted with the labels that have arrived since.",
        ),
        dg.define_asset_job(
            ARCHIVE_JOB,
            selection=_MAINTENANCE,
            description="Checkpoints the logs of all tables, removes what crashed processes left in the spill folder, and reports sizes. "
            "Removes no version and no data.",
        ),
    ]
