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
    """The id of a run that comes by an asset: one with this tag, or any whose plan makes the asset, whoever started it."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=NOT_ENDED)):
        run = record.dagster_run
        if run.tags.get(tag) == value or run.job_name == MAIN_JOB or asset in (run.asset_selection or _planned(instance, run)):
            return run.run_id
    return None


def _planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[dg.AssetKey]:
    """The assets of a run that names none: those of its whole job, such as what is downstream of a landing folder."""
    if run.execution_plan_snapshot_id is None:
        return set()
    steps = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).steps
    outputs = (output.properties for step in steps for output in step.outputs)
    return {one.asset_key for one in outputs if one is not None and one.asset_key is not None}
