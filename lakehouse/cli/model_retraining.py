"""The command that trains a model again, because it is due or because somebody asks: model retrain."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "retrain")(retrain)


def retrain(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The model.", autocompletion=model_names)],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the history.")] = "",
    if_due: Annotated[bool, typer.Option("--if-due", help="Only if the contract's `retraining` says so.")] = False,
) -> None:
    """Train a model again, compare it with the version in production, and let it go as far as the guards allow; with the reason kept."""
    from lakehouse.learning.retraining import retraining_due, train_when_due
    from lakehouse.pipeline.events import Event, State
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables.stamp import machine_user

    workspace = Workspace.load()
    contract, now = workspace.contracts.model(name), datetime.now(UTC)
    due = retraining_due(workspace.lake, contract, now=now)
    document: dict[str, Any] = {"model": name, "due": bool(due), "triggers": [str(one) for one in due.triggers], "why": due.reason}
    report = None
    if due or not if_due:
        asked = reason or (due.reason if if_due else f"asked for by {machine_user()}")
        with screen.progress() as progress:
            progress(Event("train", name, State.STARTED))
            report = train_when_due(
                workspace.settings,
                workspace.lake,
                contract,
                run=new_run(),
                now=now,
                reason=asked,
                waiting=lambda line: progress(Event("train", name, State.WAITING, line)),
            )
            progress(Event("train", name, State.FINISHED, f"{report.algorithm}, version {report.version}"))
    document |= {
        "trained": report is not None and not report.skipped,
        "version": report.version if report is not None else due.version,
        "state": report.state if report is not None else None,
        "reason": report.reason if report is not None else None,
    }

    def show(out: Any) -> None:
        out.print(f"{'Due' if due else 'Not due'}: {due.reason}", markup=False, soft_wrap=True)
        if report is not None:
            known = " (not trained again: same data, contract and code)" if report.skipped else f": {report.reason}"
            out.print(f"{name} version {report.version} ({report.state}){known}", markup=False, soft_wrap=True, style="bold")

    screen.emit(document, show)
    if report is not None and not report.passed:
        raise typer.Exit(DATA_DID_NOT_PASS)
