"""Commands about contracts: contract diff, accept."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS

if TYPE_CHECKING:
    from lakehouse.contracts.evolution import Compatibility
    from lakehouse.pipeline.contract_changes import DriftReport


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="contract", help="Contracts and what arrived: what differs, and accepting it.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Data")
    command(group, "diff")(diff)
    command(group, "accept")(accept)


def diff(
    screen: Screen,
    *,
    name: Annotated[
        str, typer.Argument(help="A dataset; or the older of two contracts: a .yaml file or DATASET@VERSION.", autocompletion=dataset_names)
    ],
    other: Annotated[
        str | None, typer.Argument(help="A file of rows (the newest in landing by default); or the newer of two contracts.")
    ] = None,
) -> None:
    """Show how a dataset's contract differs from a file that arrived, or from another version of the contract."""
    from lakehouse.pipeline.contract_changes import compare_versions, diff_arrived, is_of_versions
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    if is_of_versions(name, other):
        found = compare_versions(workspace, name, other)
        screen.emit(found.as_dict(), lambda out: _show_versions(out, found))
        if not found.is_told:
            raise typer.Exit(DATA_DID_NOT_PASS)
        return
    report = diff_arrived(workspace, name, other)
    screen.emit(report.as_dict(), lambda out: _show_drift(out, report))
    if report.drifts:
        raise typer.Exit(DATA_DID_NOT_PASS)


def accept(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The dataset.", autocompletion=dataset_names)],
    file: Annotated[str | None, typer.Argument(help="The file that is to be accepted; the newest in landing by default.")] = None,
    column: Annotated[list[str] | None, typer.Option("--column", help="Only what became of this column; may be repeated.")] = None,
) -> None:
    """Change a dataset's contract so that it accepts a file's columns; comments and order of the document stay."""
    from lakehouse.pipeline.contract_changes import accept_arrived
    from lakehouse.pipeline.workspace import Workspace

    report = accept_arrived(Workspace.load(), name, file, columns=column or ())
    screen.emit(report.as_dict(), lambda out: _show_drift(out, report))


def _show_drift(out: Any, report: "DriftReport") -> None:
    contract = report.contract
    if not report.drifts:
        out.print(f"{report.file.name} has the columns of {contract.name} {contract.version}.", markup=False, soft_wrap=True)
        return
    for drift in report.drifts:
        out.print(f"{drift.kind}  {drift.column}", markup=False, style="bold")
        out.print(f"  {drift.detail}", markup=False, soft_wrap=True)
        for edit in drift.edits:
            out.print(f"  accepted by  {edit}", markup=False, soft_wrap=True)
        if drift.consequence:
            out.print(f"  then  {drift.consequence}", markup=False, soft_wrap=True, style="dim")
    if report.obstacle:
        out.print(f"Can't be accepted as a whole: {report.obstacle}", markup=False, soft_wrap=True, style="yellow")
    if report.accepted is not None:
        kind = "compatible" if report.accepted.compatibility.is_compatible else "breaking"
        word = "is now" if report.written else "would be"
        out.print(f"The contract {word} version {report.accepted.contract.version} ({kind}, after {contract.version})", markup=False)
        for change in report.accepted.compatibility.breaking:
            out.print(f"  breaking  {change}", markup=False, soft_wrap=True, style="yellow")
    if report.waiting:
        out.print(f"{report.waiting:,} rows wait in quarantine and may pass then")
    for step in report.next:
        out.print(f"Next: {step}", markup=False, soft_wrap=True)


def _show_versions(out: Any, found: "Compatibility") -> None:
    if not found.changes:
        out.print("The two say the same.")
        return
    for change in found.changes:
        out.print(f"{change.impact}  {change}", markup=False, soft_wrap=True, style="yellow" if change.impact == "breaking" else None)
    verdict = "can live" if found.is_compatible else "can't live"
    out.print(f"Rows and readers of {found.before} {verdict} with {found.after}.", markup=False)
    if not found.is_told:
        out.print(f"Its version should be {found.needed}.", markup=False)
