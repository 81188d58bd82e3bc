"""Start a run: through Dagster where it is installed, so that its interface shows the run; else in this process."""

from collections.abc import Sequence
from datetime import datetime

from lakehouse.pipeline import orchestrator
from lakehouse.pipeline.events import Progress, unwatched
from lakehouse.pipeline.report import RunReport
from lakehouse.pipeline.runs import new_run, run_pipeline
from lakehouse.pipeline.selection import select
from lakehouse.pipeline.workspace import Workspace


def start_run(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    now: datetime,
    full: bool = False,
    direct: bool = False,
    progress: Progress = unwatched,
) -> RunReport:
    """Bring the named datasets and models, or everything, up to date.

    A full run is always in this process: Dagster decides by itself what it leaves out.

    Raises:
        ContractNotFound: a name is neither a dataset nor a model.
        OrchestrationError: Dagster could not run at all.
    """
    if direct or full or not orchestrator.is_installed():
        return run_pipeline(workspace, names, run=new_run(), now=now, full=full, progress=progress)
    from lakehouse.pipeline.dagster_run import run_through_dagster

    return run_through_dagster(workspace, select(workspace.contracts, names), progress=progress)
