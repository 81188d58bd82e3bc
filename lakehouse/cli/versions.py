"""Commands about a table's versions: diff, restore, as-of, tag."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import table_names
from lakehouse.cli.screen import Screen, counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.ingest.restoring import FileMoved
    from lakehouse.pipeline.versions import TableRestore
    from lakehouse.tables.diff import TableDiff

_Table = Annotated[str, typer.Argument(help="layer.name", autocompletion=table_names)]
_POINT = "A version (3), an instant (2026-01-31T12:00, UTC) or a tag."


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "as-of", panel="Tables")(as_of)
    command(app, "diff", panel="Tables")(diff)
    command(app, "restore", panel="Tables")(restore)
    group = typer.Typer(name="tag", help="Names for versions; maintenance keeps what they name.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Tables")
    command(group, "add")(add_tag)
    command(group, "list")(list_tags)
    command(group, "remove")(remove_tag)


def as_of(
    screen: Screen,
    *,
    table: _Table,
    point: Annotated[str, typer.Argument(help=_POINT)],
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most this many rows (50 on a terminal, else all).")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show a table's rows as they were; `query --as-of` asks any question of them."""
    from lakehouse.cli.data import query
    from lakehouse.tables import TableName

    name = TableName.parse(table)
    query(screen, sql=f"SELECT * FROM {name}", as_of=[f"{name}@{point}"], limit=limit, as_csv=as_csv)


def diff(
    screen: Screen,
    *,
    table: _Table,
    before: Annotated[str, typer.Argument(help=_POINT)],
    after: Annotated[str | None, typer.Argument(help="The other; the newest version if it is left out.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Columns that tell rows apart, if not the table's own key.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Rows of each kind to show.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Write every row that differs to a .parquet or .csv file.")] = None,
) -> None:
    """Show what differs between two versions: columns, and rows added, removed and changed."""
    from lakehouse.pipeline.versions import diff_versions
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables.tags import parse_point

    workspace = Workspace.load()
    other = parse_point(after) if after is not None else workspace.lake.snapshot(table).version
    names = [name.strip() for one in key or () for name in one.split(",")]
    found = diff_versions(workspace, table, parse_point(before), other, key=names, limit=limit, out=out)
    screen.emit(_diff_document(found, out), lambda shown: _show_diff(shown, found, out))


def _diff_document(found: "TableDiff", out: Path | None) -> dict[str, Any]:
    return {
        "table": str(found.table),
        "before": found.before,
        "after": found.after,
        "key": list(found.key),
        "schema": {
            "added": [{"name": name, "type": kind} for name, kind in found.schema.added.items()],
            "removed": [{"name": name, "type": kind} for name, kind in found.schema.removed.items()],
            "retyped": [{"name": name, "before": old, "after": new} for name, (old, new) in found.schema.retyped.items()],
        },
        "rows_before": found.rows_before,
        "rows_after": found.rows_after,
        "added": found.added,
        "removed": found.removed,
        "changed": found.changed,
        "changed_columns": [{"column": name, "rows": rows} for name, rows in found.changed_columns.items()],
        "files": {
            "in_both": found.files.in_both,
            "only_before": found.files.only_before,
            "only_after": found.files.only_after,
            "bytes_compared": found.files.bytes_compared,
            "changes": found.files.changes,
        },
        "samples": {
            "added": [dict(row) for row in found.samples.added],
            "removed": [dict(row) for row in found.samples.removed],
            "changed": [{"before": dict(row.before), "after": dict(row.after)} for row in found.samples.changed],
        },
        "out": str(out) if out is not None else None,
    }


def _show_diff(shown: Any, found: "TableDiff", out: Path | None) -> None:
    def say(text: str, style: str = "") -> None:
        shown.print(text, markup=False, soft_wrap=True, style=style or None)

    say(f"{found.table} version {found.before} to {found.after}", "bold")
    if found.is_empty:
        say("The same columns and the same rows.")
        return
    for name, kind in found.schema.added.items():
        say(f"+ column {name} {kind}", "green")
    for name, kind in found.schema.removed.items():
        say(f"- column {name} {kind}", "red")
    for name, (old, new) in found.schema.retyped.items():
        say(f"~ column {name} was {old}, is {new}", "yellow")
    by = f" by {', '.join(found.key)}" if found.key else " (no key: a changed row counts as one removed and one added)"
    say(f"{found.added:,} rows added, {found.removed:,} removed, {found.changed:,} changed{by}")
    if found.changed_columns:
        say("changed: " + ", ".join(f"{name} in {rows:,}" for name, rows in found.changed_columns.items()))
    for row in found.samples.added:
        say(f"+ {_row(row)}", "green")
    for row in found.samples.removed:
        say(f"- {_row(row)}", "red")
    for row in found.samples.changed:
        which = _row({name: row.after[name] for name in found.key})
        changes = [
            f"{name}: {_cell(old)} -> {_cell(row.after[name])}"
            for name, old in row.before.items()
            if name not in found.key and not (old == row.after[name] or (old != old and row.after[name] != row.after[name]))  # noqa: PLR0124
        ]
        say(f"~ {which}  {', '.join(changes)}", "yellow")
    if out is not None:
        say(f"Every row that differs is in {out}")


def _row(row: "Mapping[str, Any]") -> str:
    return " ".join(f"{name}={_cell(value)}" for name, value in row.items())


def _cell(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def restore(
    screen: Screen,
    *,
    table: _Table,
    to: Annotated[str, typer.Option("--to", help=_POINT)],
) -> None:
    """Give a table the rows and columns that it had, by a new version; what is undone can be restored in its turn."""
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.versions import restore_table
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables.tags import parse_point

    done = restore_table(Workspace.load(), table, parse_point(to), run=new_run(), now=datetime.now(UTC))
    dataset = done.dataset
    document = {
        "table": table,
        "version": done.commit.version,
        "restored": done.to,
        "skipped": done.commit.skipped,
        "files_added": done.commit.files_added,
        "files_removed": done.commit.files_removed,
        "quarantine_version": dataset.quarantine.version if dataset is not None and dataset.quarantine is not None else None,
        "ingested_files_removed": _moved(dataset.removed if dataset is not None else ()),
        "ingested_files_returned": _moved(dataset.returned if dataset is not None else ()),
        "decisions_undone": dataset.undecided if dataset is not None else 0,
        "in_landing": [str(path) for path in done.in_landing],
        "is_derived": done.is_derived,
    }
    screen.emit(document, lambda shown: _show_restore(shown, table, done))


def _moved(files: "tuple[FileMoved, ...]") -> list[dict[str, Any]]:
    return [
        {
            "file": file.file,
            "sha256": file.sha256,
            "batch": file.batch,
            "rows_accepted": file.rows_accepted,
            "rows_quarantined": file.rows_quarantined,
        }
        for file in files
    ]


def _show_restore(shown: Any, table: str, done: "TableRestore") -> None:
    def say(text: str) -> None:
        shown.print(text, markup=False, soft_wrap=True)

    if done.commit.skipped:
        say(f"{table} is at version {done.to} already; nothing was done.")
        return
    say(f"{table} is at version {done.commit.version}, with the rows of version {done.to}.")
    if done.dataset is not None:
        for what, files in (("went; it can be ingested again", done.dataset.removed), ("came back", done.dataset.returned)):
            for file in files[:20]:
                say(f"  {file.file}: {file.rows_accepted:,} rows and {file.rows_quarantined:,} quarantined {what}")
            if len(files) > 20:
                say(f"  and {len(files) - 20:,} more (--json lists all)")
        if done.dataset.undecided:
            rows = counted(done.dataset.undecided, "quarantined row")
            say(f"{rows} had been replayed or discarded after that version: of this nothing is left, and they wait again.")
    if done.in_landing:
        say(
            f"{len(done.in_landing):,} of these files lie in the landing folder: the next run ingests them again unless they are moved away."
        )
    if done.is_derived:
        say("It is made from other tables: the next run brings it up to date again.")


def add_tag(
    screen: Screen,
    *,
    table: _Table,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, dashes and underscores.")],
    version: Annotated[str | None, typer.Option("--version", help=f"{_POINT} Default: the newest.")] = None,
    note: Annotated[str, typer.Option("--note", help="Why.")] = "",
    move: Annotated[bool, typer.Option("--move", help="Take the name from the version that has it.")] = False,
) -> None:
    """Name a version of a table."""
    from lakehouse.pipeline.overview import require_table
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables.tags import parse_point

    lake = Workspace.load().lake
    at = parse_point(version) if version is not None else None
    tag = lake.tag(require_table(lake, table), name, version=at, note=note, now=datetime.now(UTC), run=new_run(), move=move)
    document = {"table": str(tag.table), "name": tag.name, "version": tag.version, "note": tag.note, "created_at": tag.created_at}
    screen.emit(document, lambda shown: shown.print(f"{tag.table} version {tag.version} is {tag.name}", markup=False))


def list_tags(
    screen: Screen, *, table: Annotated[str | None, typer.Argument(help="Only those of this table.", autocompletion=table_names)] = None
) -> None:
    """List the names of versions."""
    from lakehouse.pipeline.overview import require_table
    from lakehouse.pipeline.workspace import Workspace

    lake = Workspace.load().lake
    tags = lake.tags(require_table(lake, table) if table is not None else None)
    document = {
        "tags": [
            {"table": str(tag.table), "name": tag.name, "version": tag.version, "note": tag.note, "created_at": tag.created_at}
            for tag in tags
        ]
    }

    def show(shown: Any) -> None:
        if not tags:
            shown.print("No version has a name.")
        for tag in tags:
            shown.print(
                f"{tag.table}@{tag.version}  {tag.name}  {tag.created_at:%Y-%m-%d %H:%M:%S}  {tag.note}", markup=False, soft_wrap=True
            )

    screen.emit(document, show)


def remove_tag(screen: Screen, *, table: _Table, name: Annotated[str, typer.Argument(help="The tag.")]) -> None:
    """Take a name from its version; the version stays until nothing needs it."""
    from lakehouse.pipeline.overview import require_table
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    lake = Workspace.load().lake
    lake.untag(require_table(lake, table), name, run=new_run())
    screen.emit(
        {"table": table, "name": name, "removed": True}, lambda shown: shown.print(f"{table} has no tag {name} any more", markup=False)
    )
