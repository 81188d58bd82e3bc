"""A run through Dagster: a child process materialises the selection, and its log and the tables say what came of it."""

import sys
from collections.abc import Sequence

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.dagster_log import CheckLine, RunLog
from lakehouse.pipeline.events import Progress
from lakehouse.pipeline.orchestrator import output_lines, prepare_instance
from lakehouse.pipeline.report import CheckOutcome, DatasetTotals, RunReport, dataset_totals, recorded_outcome
from lakehouse.pipeline.runs import READABLE
from lakehouse.pipeline.selection import Selection
from lakehouse.pipeline.workspace import Workspace

MAIN_JOB = "main"


class OrchestrationError(LakehouseError):
    """Dagster could not load the project or start the run."""


def run_through_dagster(workspace: Workspace, selection: Selection, *, progress: Progress) -> RunReport:
    """Materialise everything, or everything downstream of the selection, in one Dagster run.

    Raises:
        OrchestrationError: the run could not be started.
    """
    settings = workspace.settings
    prepare_instance(settings)
    log = RunLog()
    with output_lines(settings, command(selection)) as child:
        log.read(child.lines(), progress)
        code = child.exit_code()
    if log.run is None:
        raise OrchestrationError(
            "dagster", f"could not start the run: {log.error()}", fix="lakehouse doctor looks for the cause; --direct runs without it"
        )
    checks = [_outcome(line, log) for line in log.checks]
    checks += [
        CheckOutcome("step_succeeds", step, "error", passed=False, detail=message)
        for step, message in log.failures.items()
        if step not in log.stopped_by_checks
    ]
    if code != 0 and not any(check.blocks for check in checks):
        checks.append(CheckOutcome("run_succeeds", log.run, "error", passed=False, detail=log.error()))
    totals = {contract.name: dataset_totals(workspace.lake, contract.name) for contract in selection.datasets}
    outcomes = {model.name: recorded_outcome(workspace.lake, model.name) for model in selection.models}
    return RunReport(
        run=log.run,
        datasets={name: found or DatasetTotals() for name, found in totals.items() if found or not selection.is_everything},
        models={name: outcome for name, outcome in outcomes.items() if outcome is not None},
        checks=tuple(checks),
    )


def command(selection: Selection) -> list[str]:
    """The child's command line."""
    dagster = [sys.executable, "-m", "dagster"]
    module = ["-m", "definitions", "-d", "."]
    if selection.is_everything:
        return [*dagster, "job", "execute", "-j", MAIN_JOB, *module]
    return [*dagster, "asset", "materialize", "--select", ",".join(_keys(selection)), *module]


def _keys(selection: Selection) -> Sequence[str]:
    """Dagster's asset selection: all downstream of a named dataset; for a named model what it needs, and its predictions."""
    keys: list[str] = []
    for contract in selection.datasets:
        if contract.name not in selection.only_for_models:
            keys += [f'key:"raw/{contract.name}"+', f'key:"quarantine/{contract.name}"+']
    needed = [model.name for model in selection.models if model.dataset in selection.only_for_models]
    # The landing folder is an external asset: nothing can materialise it.
    keys += [f'(+key:"models/{name}_predictions" and not key:"landing/*")' for name in needed]
    return keys


def _outcome(line: CheckLine, log: RunLog) -> CheckOutcome:
    """A failed check is an error where it stopped something, or kept a whole file out; the log tells no more of severity."""
    is_error = (line.table, line.check) in log.blocking or line.check == READABLE
    return CheckOutcome(line.check, line.table, "error" if is_error else "warning", passed=line.passed, detail=line.description)
