"""Commands about rows that did not pass: quarantine list, show, edit, replay, discard."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names
from lakehouse.cli.screen import Screen, cell, counted
from lakehouse.errors import DATA_DID_NOT_PASS, QueryError
from lakehouse.instants import parse_instant

if TYPE_CHECKING:
    from lakehouse.contracts import DatasetContract
    from lakehouse.ingest.events import Author
    from lakehouse.ingest.waiting import Selection
    from lakehouse.pipeline.workspace import Workspace

_LEVELS = ("structural", "semantic", "business")
_STATUSES = ("waiting", "replayed", "discarded")
_SHOWN_PROBLEMS = 5

_Dataset = Annotated[str, typer.Argument(help="The dataset.", autocompletion=dataset_names)]
_File = Annotated[str | None, typer.Option("--file", help="Only rows of the file that arrived under this name or has this SHA-256.")]
_Rule = Annotated[str | None, typer.Option("--rule", help="Only rows that broke this rule.")]
_Level = Annotated[str | None, typer.Option("--level", help=f"Only rows of this level: {', '.join(_LEVELS)}.")]
_Since = Annotated[str | None, typer.Option("--since", help="Only rows that arrived at this instant (ISO, UTC) or later.")]
_Until = Annotated[str | None, typer.Option("--until", help="Only rows that arrived before this instant.")]
_Batch = Annotated[int | None, typer.Option("--batch", help="Only rows that arrived in this batch, or that it decided on last.")]
_Status = Annotated[str | None, typer.Option("--status", help=f"Only rows of this status: {', '.join(_STATUSES)}.")]
_Note = Annotated[str, typer.Option("--note", help="Why; it is kept in the history of every row.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="quarantine", help="Rows that were refused: why, and what becomes of them.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Data")
    command(group, "list")(list_datasets)
    command(group, "show")(show_rows)
    command(group, "edit")(edit_rows)
    command(group, "replay")(replay_rows)
    command(group, "discard")(discard_rows)


def list_datasets(
    screen: Screen,
    *,
    dataset: Annotated[str | None, typer.Argument(help="Only this dataset.", autocompletion=dataset_names)] = None,
    file: _File = None,
    rule: _Rule = None,
    level: _Level = None,
    since: _Since = None,
    until: _Until = None,
    batch: _Batch = None,
    status: _Status = None,
) -> None:
    """Count the quarantined rows of every dataset by rule: those that wait, unless --status asks for others."""
    from lakehouse.pipeline.rejected import count_by_rule
    from lakehouse.pipeline.workspace import Workspace

    workspace = _opened(dataset, rule)[0] if dataset is not None else Workspace.load()
    chosen = _selection(file=file, rule=rule, level=level, since=since, until=until, batch=batch, status=status or "waiting")
    counts = count_by_rule(workspace.lake, chosen, dataset=dataset)
    document = {
        "datasets": {
            name: {
                "rows": one.rows,
                "oldest": one.oldest,
                "replayed": one.replayed,
                "discarded": one.discarded,
                "rules": [{"rule": rule.rule, "rows": rule.rows, "example": rule.example, "oldest": rule.oldest} for rule in one.rules],
            }
            for name, one in counts.items()
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
        table.add_column(status or "waiting", justify="right")
        table.add_column("since", justify="right")
        table.add_column("for example", overflow="fold")
        for name, one in counts.items():
            decided = f"{one.replayed:,} replayed, {one.discarded:,} discarded" if one.replayed or one.discarded else ""
            table.add_row(name, "(any)", f"{one.rows:,}", _day(one.oldest), decided)
            for broken in one.rules:
                table.add_row("", _literal(broken.rule), f"{broken.rows:,}", _day(broken.oldest), _literal(broken.example or ""))
        out.print(table)

    screen.emit(document, show)


def show_rows(
    screen: Screen,
    *,
    dataset: _Dataset,
    rule: _Rule = None,
    file: _File = None,
    level: _Level = None,
    since: _Since = None,
    until: _Until = None,
    batch: _Batch = None,
    status: _Status = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 20,
) -> None:
    """Show quarantined rows as they are now, with file, row number, every reason, and what was decided on them."""
    from lakehouse.pipeline.rejected import quarantined_rows

    workspace, _ = _opened(dataset, rule)
    chosen = _selection(file=file, rule=rule, level=level, since=since, until=until, batch=batch, status=status)
    found = quarantined_rows(workspace.lake, dataset, selection=chosen, limit=limit + 1)
    rows = found[:limit]
    document = {
        "dataset": dataset,
        "truncated": len(found) > limit,
        "rows": [
            {
                "file": row.file,
                "sha256": row.sha256,
                "row": row.row,
                "message": row.message.as_dict() if row.message is not None else None,
                "batch": row.batch,
                "ingested_at": row.ingested_at,
                "level": row.level,
                "rules": list(row.rules),
                "reasons": list(row.reasons),
                "status": row.status,
                "attempts": row.attempts,
                "changed_at": row.changed_at,
                "changed_by": row.changed_by,
                "history": list(row.history),
                "record": row.record,
            }
            for row in rows
        ],
    }

    def show(out: Any) -> None:
        if not rows:
            out.print(f"No quarantined row of {dataset} matches.")
        for row in rows:
            decided = "" if row.status == "waiting" else f", {row.status}"
            at = row.message
            where = f"{row.file} row {row.row}" if at is None else f"{at.topic} partition {at.partition} offset {at.offset}"
            out.print(f"{where}{decided}", style="bold", markup=False)
            for reason in row.reasons:
                out.print(f"  {reason}", markup=False, soft_wrap=True)
            out.print(f"  {cell(row.record)}", markup=False, soft_wrap=True, style="dim")
            for entry in row.history:
                out.print(f"  {_told(entry)}", markup=False, soft_wrap=True, style="dim")

    screen.emit(document, show)
    if len(found) > limit:
        screen.say(f"the newest {counted(limit, 'row')}, and there are more: --limit N shows N, lakehouse quarantine list counts them")


def edit_rows(
    screen: Screen,
    *,
    dataset: _Dataset,
    to: Annotated[Path, typer.Option("--to", help="The file to write: .csv, .ndjson or .jsonl.")],
    rule: _Rule = None,
    file: _File = None,
    level: _Level = None,
    since: _Since = None,
    until: _Until = None,
    batch: _Batch = None,
) -> None:
    """Write the rows that wait to a file that you correct; `quarantine replay --from` takes it back."""
    from lakehouse.ingest.edits import export_rows

    workspace, contract = _opened(dataset, rule)
    chosen = _selection(file=file, rule=rule, level=level, since=since, until=until, batch=batch, status="waiting")
    rows = export_rows(workspace.lake, contract, selection=chosen, to=to)
    following = f"lakehouse quarantine replay {dataset} --from {to}"

    def show(out: Any) -> None:
        if rows:
            out.print(f"{counted(rows, 'row')} in {to}. Correct them there, then: {following}", markup=False, soft_wrap=True)
        else:
            out.print(f"No waiting row of {dataset} matches; nothing was written.")

    screen.emit({"dataset": dataset, "rows": rows, "file": str(to) if rows else None, "next": following if rows else None}, show)


def replay_rows(
    screen: Screen,
    *,
    dataset: _Dataset,
    edited: Annotated[Path | None, typer.Option("--from", help="A corrected file that `quarantine edit` wrote: only its rows.")] = None,
    rule: _Rule = None,
    file: _File = None,
    level: _Level = None,
    since: _Since = None,
    until: _Until = None,
    batch: _Batch = None,
    status: Annotated[str, typer.Option("--status", help="waiting, or discarded to bring those back.")] = "waiting",
    note: _Note = "",
) -> None:
    """Judge quarantined rows again, by the contract as it is now and as you corrected them: those that pass go to raw, with their origin."""
    from lakehouse.ingest.replay import replay

    workspace, contract = _opened(dataset, rule)
    if status not in {"waiting", "discarded"}:
        raise QueryError(f"--status {status}", "has no rows that can be replayed", expected="waiting or discarded", fix="Choose one")
    chosen = _selection(file=file, rule=rule, level=level, since=since, until=until, batch=batch, status=status)
    report = replay(workspace.lake, contract, selection=chosen, edits=edited, settings=workspace.settings, author=_author(note))

    def show(out: Any) -> None:
        if not report.chosen and not report.left and not report.done_before:
            out.print(f"No {status} row of {dataset} matches.")
            return
        out.print(f"{counted(report.chosen, 'row')} judged: {report.accepted:,} accepted, {report.waiting:,} still waiting", markup=False)
        if report.edited:
            out.print(f"{report.edited:,} of them were corrected by hand")
        if report.done_before:
            out.print(
                f"{report.done_before:,} rows of {edited} do not wait any more: nothing was done to them", markup=False, soft_wrap=True
            )
        for broken, rows in report.rules.items():
            out.print(f"  {broken}: {counted(rows, 'row')}", markup=False)
        for name, problem in list(report.problems.items())[:_SHOWN_PROBLEMS]:
            out.print(f"Warning: {name}: {problem}", markup=False, soft_wrap=True, style="yellow")
        if report.accepted:
            out.print(f"raw.{dataset} is at version {report.version}. Bring what is made of it up to date: lakehouse run {dataset}")

    screen.emit(report.as_dict(), show)
    if report.waiting or report.left:
        raise typer.Exit(DATA_DID_NOT_PASS)


def discard_rows(
    screen: Screen,
    *,
    dataset: _Dataset,
    rule: _Rule = None,
    file: _File = None,
    level: _Level = None,
    since: _Since = None,
    until: _Until = None,
    batch: _Batch = None,
    everything: Annotated[bool, typer.Option("--all", help="Every row that waits.")] = False,
    note: _Note = "",
) -> None:
    """Decide that rows will not be replayed: they stay in quarantine, with who said so and why, and wait no more."""
    from lakehouse.ingest.replay import discard

    workspace, contract = _opened(dataset, rule)
    chosen = _selection(file=file, rule=rule, level=level, since=since, until=until, batch=batch, status="waiting")
    if chosen.is_narrowed == everything:
        raise QueryError(
            f"quarantine discard {dataset}",
            "must be told which rows",
            expected="--file, --rule, --level, --since, --until or --batch; or --all alone",
            fix="Say which rows are meant",
        )
    report = discard(workspace.lake, contract, selection=chosen, settings=workspace.settings, author=_author(note))

    def show(out: Any) -> None:
        out.print(f"{report.rows:,} rows of {dataset} are discarded" if report.rows else f"No waiting row of {dataset} matches.")

    screen.emit(report.as_dict(), show)


def _opened(dataset: str, rule: str | None) -> "tuple[Workspace, DatasetContract]":
    from lakehouse.pipeline.rejected import check_rule
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.dataset(dataset)
    if rule is not None:
        check_rule(workspace.lake, contract, rule)
    return workspace, contract


def _selection(
    *,
    file: str | None,
    rule: str | None,
    level: str | None,
    since: str | None,
    until: str | None,
    batch: int | None,
    status: str | None,
) -> "Selection":
    from lakehouse.ingest.waiting import STATUSES, RowStatus, Selection

    if level is not None and level not in _LEVELS:
        raise QueryError(f"--level {level}", "is no level that judges rows", expected=", ".join(_LEVELS), fix="Choose one")
    wanted: RowStatus | None = next((one for one in STATUSES if one == status), None)
    if wanted is None and status is not None:
        raise QueryError(f"--status {status}", "is no status", expected=", ".join(_STATUSES), fix="Choose one")
    return Selection(file, rule, level, _instant("--since", since), _instant("--until", until), batch, wanted)


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    return parse_instant(text, subject=option, error=QueryError, expected="2026-01-31 or 2026-01-31T12:00", fix="Write it so")


def _author(note: str) -> "Author":
    from lakehouse.ingest.events import Author
    from lakehouse.pipeline.runs import new_run
    from lakehouse.tables.stamp import machine_user

    return Author(machine_user(), new_run(), datetime.now(UTC), note)


def _told(entry: Mapping[str, Any]) -> str:
    changes = [f"{column}: {old!r} -> {(entry.get('after') or {}).get(column)!r}" for column, old in (entry.get("before") or {}).items()]
    note = [str(entry["note"])] if entry.get("note") else []
    return "; ".join([f"{entry.get('at')} {entry.get('action')} by {entry.get('by')}", *changes, *note])


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d}" if instant is not None else ""


def _literal(text: str) -> str:
    from rich.markup import escape

    return escape(text)
