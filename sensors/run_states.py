"""Which runs are over, and which are not: what a sensor asks before it starts another."""

import dagster as dg

from assets.jobs import MAIN_JOB

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
NOT_ENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def unfinished_run(instance: dg.DagsterInstance, asset: dg.AssetKey, *, tag: str, value: str) -> str | None:
    """The id of a run that comes by an asset: one with this tag, the main job, or one that was started by hand or by `lakehouse run`."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=NOT_ENDED)):
        run = record.dagster_run
        if run.tags.get(tag) == value or run.job_name == MAIN_JOB or asset in (run.asset_selection or ()):
            return run.run_id
    return None
