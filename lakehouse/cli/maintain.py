"""The command that keeps tables fast and small: maintain."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names, table_names
from lakehouse.cli.screen import Screen, counted, human_size
from lakehouse.errors import WRONG_USE


def register(app: typer.Typer) -> None:
    """Add this group's command."""
    command(app, "maintain", panel="Data")(maintain)
    command(app, "unarchive", panel="Data")(unarchive)


def maintain(
    screen: Screen,
    *,
    tables: Annotated[list[str] | None, typer.Argument(help="layer.name of each; all by default.", autocompletion=table_names)] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Join small files; sort rows as the contract says.")] = False,
    checkpoint: Annotated[bool, typer.Option("--checkpoint", help="Write the tables' state beside their logs.")] = False,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Remove versions that are old and that nothing points to.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="Move old rows to the archive, as the contracts say.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Remove what killed processes left.")] = False,
    retention: Annotated[float | None, typer.Option("--retention", min=0, help="Hours that vacuum keeps a replaced version.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow less than an hour: nothing else may use the tables.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files and bytes, change nothing.")] = False,
) -> None:
    """Archive, compact, checkpoint, vacuum and clean up tables; all of it unless some is named."""
    from datetime import UTC

    from lakehouse.pipeline.maintenance import Operation
    from lakehouse.pipeline.maintenance import maintain as do
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    asked = {
        Operation.ARCHIVE: archive,
        Operation.COMPACT: compact,
        Operation.CHECKPOINT: checkpoint,
        Operation.VACUUM: vacuum,
        Operation.ORPHANS: orphans,
    }
    chosen = [operation for operation, is_asked in asked.items() if is_asked or not any(asked.values())]
    now = datetime.now(UTC)
    report = do(
        Workspace.load(),
        operations=chosen,
        tables=tables or (),
        run=new_run(),
        now=now,
        dry_run=dry_run,
        force=force,
        retention=None if retention is None else timedelta(hours=retention),
    )

    def show(out: Any) -> None:
        from rich.table import Table

        changed = [one for one in report.done if one.changed]
        if changed:
            grid = Table(box=None, pad_edge=False)
            for name in ("operation", "table", "files", "size", "what"):
                grid.add_column(name, justify="right" if name in {"files", "size"} else "left", overflow="fold")
            for one in changed:
                files, size = one.files_before - one.files_after, one.bytes_saved
                grid.add_row(one.operation, one.table, f"{-files:+,}" if files else "", _change(size), one.detail)
            out.print(grid)
        for left in report.leftovers:
            if left.files:
                out.print(f"{left.kind}: {counted(left.files, 'file')}, {human_size(left.bytes)}", markup=False)
        if not changed and not any(left.files for left in report.leftovers):
            out.print("Nothing to do.")
        else:
            out.print(f"{'Would free' if dry_run else 'Freed'} {human_size(report.bytes_freed)}.")

    screen.emit(report.as_dict(), show)
    for one in report.failed:
        screen.say(f"{one.operation} {one.table}: {one.error}")
    if report.failed:
        raise typer.Exit(WRONG_USE)


def _change(bytes_saved: int) -> str:
    return "" if bytes_saved == 0 else f"{'-' if bytes_saved > 0 else '+'}{human_size(abs(bytes_saved))}"


def unarchive(
    screen: Screen,
    *,
    dataset: Annotated[str, typer.Argument(help="The dataset.", autocompletion=dataset_names)],
    since: Annotated[datetime | None, typer.Option("--since", help="Only rows of this time (UTC) or later.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Only rows before this time (UTC).")] = None,
) -> None:
    """Bring archived rows back into a dataset's raw table; without a new rule in its contract they will leave again."""
    from lakehouse.pipeline.archiving import between, bring_back
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.dataset(dataset)
    where = between(contract, since=since, until=until)
    done = bring_back(workspace.settings, workspace.lake, contract.raw, where=where, run=new_run())
    document = {
        "dataset": dataset,
        "table": contract.raw,
        "moves": [{"from": one.origin, "to": one.target, "rows": one.rows, "bytes": one.bytes} for one in done],
    }

    def show(out: Any) -> None:
        for one in done:
            out.print(f"{counted(one.rows, 'row')} from {one.origin} to {one.target}")
        if not done:
            out.print("No archived row is of that time.")

    screen.emit(document, show)
