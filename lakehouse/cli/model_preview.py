"""`lakehouse model preview`: what each column becomes, before any training."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.screen import Screen, counted

if TYPE_CHECKING:
    from lakehouse.learning.preview import Preview, SampleRow

_MOST_NAMES = 3
_Name = Annotated[str, typer.Argument(help="The model, as its contract is called.", autocompletion=model_names)]
_Rows = Annotated[int, typer.Option("--rows", min=0, max=1000, help="How many sample rows.")]
_Algorithm = Annotated[str | None, typer.Option("--algorithm", help="Whose columns are shown; the first candidate's without it.")]


def register(group: typer.Typer) -> None:
    """Add the command to those about models."""
    command(group, "preview")(preview)


def preview(screen: Screen, *, name: _Name, rows: _Rows = 5, algorithm: _Algorithm = None) -> None:
    """Show what each column would become, with warnings and sample rows, by the Pipeline that training would fit; nothing is written."""
    from lakehouse.learning.preview import preview_model
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.model(name)
    found = preview_model(workspace.settings, workspace.lake, contract, rows=rows, algorithm=algorithm)
    document = {
        "model": found.model,
        "algorithm": found.shown,
        "rows_train": found.rows_train,
        "rows_test": found.rows_test,
        "columns": [
            {
                "feature": one.feature,
                "type": one.sql_type,
                "becomes": one.treatment,
                "reason": one.reason,
                "outputs": list(one.outputs),
                "warnings": list(one.warnings),
            }
            for one in found.columns
        ],
        "row_columns": list(found.row_columns),
        "candidates": [
            {"algorithm": one.algorithm, "columns": one.columns, "seconds": round(one.seconds, 3), "notes": list(one.notes)}
            for one in found.candidates
        ],
        "rows": [{"label": one.label, "before": dict(one.before), "after": dict(one.after)} for one in found.rows],
        "notes": list(found.notes),
        "versions": dict(found.inputs),
    }
    screen.emit(document, lambda out: _show(out, found))


def _show(out: Any, found: "Preview") -> None:
    head = f"{found.model}: {found.rows_train:,} rows to train, {found.rows_test:,} to test; columns as {found.shown} would see them"
    out.print(head, markup=False, style="bold", soft_wrap=True)
    _show_columns(out, found)
    for one in found.columns:
        for warning in one.warnings:
            out.print(f"  warning  {one.feature} {warning}", markup=False, soft_wrap=True, style="yellow")
    out.print()
    for one in found.candidates:
        out.print(f"  {one.algorithm:<24} {counted(one.columns, 'column')}, about {_duration(one.seconds)} on one core", markup=False)
        for note in one.notes:
            out.print(f"    note: {note}", markup=False, soft_wrap=True)
    for note in found.notes:
        out.print(f"  note: {note}", markup=False, soft_wrap=True)
    for row in found.rows:
        _show_row(out, row)


def _show_columns(out: Any, found: "Preview") -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for name in ("feature", "type", "becomes", "columns", "because"):
        grid.add_column(name, overflow="fold")
    for one in found.columns:
        named = ", ".join(one.outputs[:_MOST_NAMES]) + (", ..." if len(one.outputs) > _MOST_NAMES else "")
        columns = f"{len(one.outputs):,}: {named}" if one.outputs else "none"
        style = "dim" if not one.outputs else ""
        cells = (one.feature, one.sql_type.lower(), one.treatment.replace("_", " "), columns, one.reason)
        grid.add_row(*(Text(text, style=style) for text in cells))
    if found.row_columns:
        grid.add_row(*(Text(text) for text in ("(the whole row)", "", "oddness", ", ".join(found.row_columns), "isolation forest")))
    out.print(grid)


def _show_row(out: Any, row: "SampleRow") -> None:
    out.print(f"\n  a row labelled {row.label}", markup=False, style="bold")
    for feature, value in row.before.items():
        after = row.after.get(feature)
        seen = ", ".join(f"{name} {number:.4g}" for name, number in after.items()) if after else "nothing"
        out.print(f"    {feature}: {'missing' if value is None else value} -> {seen}", markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
