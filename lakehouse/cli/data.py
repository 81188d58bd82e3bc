"""Commands that bring files in and read tables: ingest, query, tables, history."""

import csv
import io
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names, table_names
from lakehouse.cli.screen import Screen, cell, counted, human_size
from lakehouse.errors import DATA_DID_NOT_PASS, QueryError, SourceError

if TYPE_CHECKING:
    from lakehouse.ingest import IngestReport

_SHOWN_ROWS = 50
_SHOWN_VERSIONS = 100


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "ingest", panel="Data")(ingest)
    command(app, "query", panel="Tables")(query)
    command(app, "tables", panel="Tables")(tables)
    command(app, "history", panel="Tables")(history)


def ingest(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The dataset, as its contract is called.", autocompletion=dataset_names)],
    paths: Annotated[list[str] | None, typer.Argument(help="Files, folders (with everything below) or globs; s3:// addresses too.")] = None,
    git: Annotated[list[Path] | None, typer.Option("--git", help="A git repository on this machine: its new commits.")] = None,
    github: Annotated[list[str] | None, typer.Option("--github", help="owner/name on GitHub: its new commits.")] = None,
    details: Annotated[bool, typer.Option("--details", help="With --github: statistics and files, one request per commit.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="What is new in the databases and topics of its contract.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="What comes in the topics of its contract, on and on.")] = False,
    every: Annotated[float | None, typer.Option("--every", min=0.1, help="With --follow: seconds between two looks (30).")] = None,
    build: Annotated[bool, typer.Option("--build", help="With --follow: build what depends on it, features online too.")] = False,
    again_from: Annotated[
        str | None,
        typer.Option("--again-from", help="Read messages again: earliest, OFFSET, PARTITION:OFFSET or an instant (ISO, UTC)."),
    ] = None,
    repaired: Annotated[bool, typer.Option("--repaired", help="Each file replaces what arrived under its name before.")] = False,
    replaces: Annotated[
        list[str] | None, typer.Option("--replaces", help="The file replaces this one (a name or SHA-256); may be repeated.")
    ] = None,
) -> None:
    """Ingest files, commits, a database's rows or a topic's messages: accepted rows to raw, the others to quarantine, each exactly once."""
    from lakehouse.cli.following import follow as follow_topics
    from lakehouse.pipeline.fetching import Repositories, fetch_commits
    from lakehouse.pipeline.files import arrived_files
    from lakehouse.pipeline.ingestion import ingest_files, ingest_sources
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.topics import Since, ingest_again
    from lakehouse.pipeline.workspace import Workspace

    repositories = Repositories(git or (), github or (), details)
    workspace = Workspace.load()
    contract = workspace.contracts.dataset(name)
    if follow or again_from is not None:
        others = (paths, repositories, fetch, replaces, repaired, follow and again_from)
        if any(others):
            raise SourceError(f"ingest {name}", "--follow and --again-from stand alone", fix="Give one of them and nothing else")
    if follow:
        follow_topics(screen, workspace, contract, every_s=every or workspace.settings.topic_interval_s, with_build=build)
        return
    if not (paths or repositories or fetch or again_from):
        expected = "files, --fetch, --follow, --git FOLDER or --github OWNER/NAME"
        raise SourceError(f"ingest {name}", "has nothing to ingest", expected=expected)
    if fetch and (replaces or repaired):
        raise SourceError(f"ingest {name}", "can't tell what fetched rows take the place of", fix="Leave out --fetch")
    files = arrived_files(workspace.settings, paths) if paths else []
    now, run = datetime.now(UTC), new_run()
    with screen.progress() as progress:
        files += fetch_commits(workspace, contract, repositories, now=now, progress=progress)
        if again_from is not None:
            report = ingest_again(workspace, contract, Since.parse(again_from), run=run, now=now, progress=progress)
        elif fetch:
            report = ingest_sources(workspace, contract, files, run=run, now=now, progress=progress)
        else:
            report = ingest_files(
                workspace, contract, files, run=run, now=now, progress=progress, replaces=replaces or (), repaired=repaired
            )

    screen.emit(report.as_dict(), partial(_show_ingested, report))
    refused = [file for file in report.files if str(file.status) == "refused"]
    for file in refused:
        screen.say(f"lakehouse: {file.error}")
    if refused:
        raise typer.Exit(DATA_DID_NOT_PASS)


def _show_ingested(report: "IngestReport", out: Any) -> None:
    """A line for each file, and what is odd."""
    from rich.table import Table

    from lakehouse.cli.following import warnings_of

    table = Table(box=None, pad_edge=False)
    for column, justify in (("file", "left"), ("status", "left"), ("read", "right"), ("accepted", "right"), ("quarantined", "right")):
        table.add_column(column, justify=justify)  # pyright: ignore[reportArgumentType]
    for file in report.files:
        counts = [f"{count:,}" for count in (file.rows_read, file.rows_accepted, file.rows_quarantined)]
        table.add_row(Path(file.path).name, str(file.status), *counts)
    out.print(table)
    for file in report.files:
        for digest in file.replaced:
            out.print(f"{Path(file.path).name} replaces file {digest[:12]}: no row of that counts any more", markup=False)
    for topic in report.topics:
        out.print(f"{topic.topic}: {topic.messages:,} messages read, {topic.lag:,} behind", markup=False)
    for table in report.slots:
        if (slot := table.replicated) is not None:
            kept = f"{slot.lag_bytes / 1e6:,.1f} MB behind, {slot.retained_bytes / 1e6:,.1f} MB kept by the server"
            out.print(f"{table.table}: {table.rows:,} rows changed, {table.gone:,} gone; slot {slot.slot} is {kept}", markup=False)
    for warning in warnings_of(report):
        out.print(f"Warning: {warning}", markup=False, soft_wrap=True, style="yellow")
    out.print(f"{report.table} is at version {report.version}" if report.version is not None else f"{report.table} does not exist yet")
    if any(file.rows_quarantined for file in report.files):
        out.print(f"Why rows were quarantined: lakehouse quarantine show {report.dataset}")


def query(
    screen: Screen,
    *,
    sql: Annotated[str, typer.Argument(help='One SELECT; tables are layer.name. "-" reads it from stdin.')],
    as_of: Annotated[
        list[str] | None,
        typer.Option("--as-of", help="table@version, table@instant or table@tag; may be repeated.", autocompletion=table_names),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most this many rows (50 on a terminal, else all).")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    with_archive: Annotated[bool, typer.Option("--with-archive", help="Read archived rows as well.")] = False,
) -> None:
    """Run one read-only SELECT over the tables, now or as they were."""
    import sys

    from lakehouse.pipeline.query import parse_as_of, rows_as_dicts
    from lakehouse.pipeline.query import query as run_query
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables.tiers import archive_tiers

    if as_csv and screen.json:
        raise QueryError("--csv and --json", "can't both be given", fix="Choose one")
    machine = as_csv or screen.json
    rows_shown = limit if limit is not None or machine else _SHOWN_ROWS
    text = sys.stdin.read() if sql == "-" else sql
    workspace = Workspace.load()
    archive = list(archive_tiers(workspace.settings, workspace.lake).values())[1:] if with_archive else []
    result = run_query(workspace.lake, text, as_of=parse_as_of(as_of or []), limit=rows_shown, archive=archive)
    if as_csv:
        screen.show_to_auditor({"versions": result.versions, "rows": result.rows})
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([cell(value) for value in row] for row in result.rows)
        screen.write(buffer.getvalue())
        return
    document = {
        "columns": [{"name": name, "type": kind} for name, kind in zip(result.columns, result.types, strict=True)],
        "rows": list(rows_as_dicts(result)),
        "truncated": result.truncated,
        "versions": result.versions,
    }

    def show(out: Any) -> None:
        from lakehouse.cli.rows import print_rows

        print_rows(out, result.columns, result.types, result.rows)
        rows = counted(len(result.rows), "row")
        screen.say(f"{rows}, and there are more: --limit N shows N" if result.truncated else rows)

    screen.emit(document, show)


def tables(
    screen: Screen,
    *,
    layer: Annotated[str | None, typer.Option("--layer", help="Only this layer.")] = None,
) -> None:
    """List the tables: rows, version, size and last commit."""
    from lakehouse.pipeline.overview import list_tables
    from lakehouse.pipeline.workspace import Workspace

    found = [one for one in list_tables(Workspace.load().lake) if layer in (None, one.layer)]
    document = {
        "tables": [
            {
                "table": f"{one.layer}.{one.name}",
                "layer": one.layer,
                "name": one.name,
                "rows": one.rows,
                "version": one.version,
                "files": one.files,
                "size_bytes": one.size_bytes,
                "last_commit": one.last_commit,
                "last_run": one.last_run,
            }
            for one in found
        ]
    }

    def show(out: Any) -> None:
        from rich.table import Table

        if not found:
            out.print("No tables yet. lakehouse demo makes some; lakehouse add FILE brings yours.")
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("layer")
        table.add_column("table")
        for name in ("rows", "version", "size", "last commit (UTC)"):
            table.add_column(name, justify="right")
        for one in found:
            when = f"{one.last_commit:%Y-%m-%d %H:%M:%S}" if one.last_commit else ""
            table.add_row(one.layer, one.name, f"{one.rows:,}", str(one.version), human_size(one.size_bytes), when)
        out.print(table)

    screen.emit(document, show)


def history(
    screen: Screen,
    *,
    table: Annotated[str, typer.Argument(help="layer.name", autocompletion=table_names)],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the newest commits.")] = None,
) -> None:
    """Show a table's versions, newest first: when, what, and from which versions of which tables."""
    from lakehouse.pipeline.overview import table_history
    from lakehouse.pipeline.workspace import Workspace

    lake = Workspace.load().lake
    shown = limit if limit is not None or screen.json else _SHOWN_VERSIONS
    commits = table_history(lake, table, limit=shown)
    tags: dict[int, list[str]] = {}
    for tag in lake.tags(table):
        tags.setdefault(tag.version, []).append(tag.name)
    document = {
        "table": table,
        "versions": [
            {
                "version": one.version,
                "timestamp": one.timestamp,
                "operation": one.operation,
                "rows": one.rows,
                "asset": one.stamp.asset if one.stamp else None,
                "run": one.stamp.run if one.stamp else None,
                "inputs": dict(one.stamp.inputs) if one.stamp else {},
                "code": one.stamp.code if one.stamp else None,
                "source": one.stamp.source if one.stamp else None,
                "restored": one.restored,
                "tags": tags.get(one.version, []),
            }
            for one in commits
        ],
    }

    def show(out: Any) -> None:
        from rich.table import Table

        grid = Table(box=None, pad_edge=False)
        for name, justify in (
            ("version", "right"),
            ("committed (UTC)", "left"),
            ("operation", "left"),
            ("rows", "right"),
            ("from", "left"),
            ("tags", "left"),
        ):
            grid.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
        for one in commits:
            inputs = ", ".join(f"{name}@{version}" for name, version in one.stamp.inputs.items()) if one.stamp else ""
            inputs = f"version {one.restored}" if one.restored is not None else inputs
            named = ", ".join(tags.get(one.version, ()))
            rows = "" if one.rows is None else f"{one.rows:,}"
            grid.add_row(str(one.version), f"{one.timestamp:%Y-%m-%d %H:%M:%S}", one.operation, rows, inputs, named)
        out.print(grid)
        if limit is None and len(commits) == _SHOWN_VERSIONS:
            screen.say(f"The newest {_SHOWN_VERSIONS} versions; --limit N shows N")

    screen.emit(document, show)
