"""Commands about rows that did not pass: quarantine list, quarantine show."""

from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names
from lakehouse.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="quarantine", help="Rows that were refused, and why.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Data")
    command(group, "list")(list_datasets)
    command(group, "show")(show_rows)


def list_datasets(screen: Screen) -> None:
    """Count the quarantined rows of every dataset by rule."""
    from lakehouse.pipeline.rejected import count_by_rule
    from lakehouse.pipeline.workspace import Workspace

    counts = count_by_rule(Workspace.load().lake)
    document = {
        "datasets": {
            dataset: {"rows": one.rows, "rules": [{"rule": rule.rule, "rows": rule.rows, "example": rule.example} for rule in one.rules]}
            for dataset, one in counts.items()
        }
    }

    def show(out: Any) -> None:
        from rich.table import Table

        if not counts:
            out.print("No row is in quarantine.")
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("dataset")
        table.add_column("rule")
        table.add_column("rows", justify="right")
        table.add_column("for example", overflow="fold")
        for dataset, one in counts.items():
            table.add_row(dataset, "(any)", f"{one.rows:,}", "")
            for rule in one.rules:
                table.add_row("", _literal(rule.rule), f"{rule.rows:,}", _literal(rule.example or ""))
        out.print(table)

    screen.emit(document, show)


def show_rows(
    screen: Screen,
    *,
    dataset: Annotated[str, typer.Argument(help="The dataset.", autocompletion=dataset_names)],
    rule: Annotated[str | None, typer.Option("--rule", help="Only rows that broke this rule.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="Only rows of the file that arrived under this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 20,
) -> None:
    """Show quarantined rows as they arrived, with file, row number and every reason."""
    from lakehouse.pipeline.rejected import check_rule, quarantined_rows
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.dataset(dataset)
    if rule is not None:
        check_rule(workspace.lake, contract, rule)
    rows = quarantined_rows(workspace.lake, dataset, rule=rule, file=file, limit=limit)
    document = {
        "dataset": dataset,
        "rows": [
            {
                "file": row.file,
                "sha256": row.sha256,
                "row": row.row,
                "batch": row.batch,
                "ingested_at": row.ingested_at,
                "level": row.level,
                "rules": list(row.rules),
                "reasons": list(row.reasons),
                "status": row.status,
                "record": row.record,
            }
            for row in rows
        ],
    }

    def show(out: Any) -> None:
        if not rows:
            out.print(f"No quarantined row of {dataset} matches.")
        for row in rows:
            out.print(f"{row.file} row {row.row}", style="bold", markup=False)
            for reason in row.reasons:
                out.print(f"  {reason}", markup=False, soft_wrap=True)
            out.print(f"  {row.record}", markup=False, soft_wrap=True, style="dim")

    screen.emit(document, show)


def _literal(text: str) -> str:
    from rich.markup import escape

    return escape(text)
