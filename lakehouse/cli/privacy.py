"""Commands about people, and about who looked at what: erase, retention, keys, audit."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS, PrivacyError


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "erase", panel="Privacy")(erase)
    command(app, "retention", panel="Privacy")(retention)
    group = typer.Typer(name="audit", help="Who read or changed what.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Privacy")
    keys = typer.Typer(name="keys", help="The secrets of this home.", no_args_is_help=True)
    app.add_typer(keys, rich_help_panel="Privacy")
    command(keys, "rotate")(rotate_keys)
    command(group, "list")(list_entries)
    command(group, "verify")(verify_audit)


def erase(
    screen: Screen,
    *,
    subject: Annotated[
        str | None, typer.Option("--subject", help='Who: dataset:column=value. "-" reads it from stdin, so that no shell remembers it.')
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    backup: Annotated[
        list[str] | None, typer.Option("--backup", help="A place of backups beside LAKEHOUSE_BACKUP_URI; may be repeated.")
    ] = None,
    verify: Annotated[Path | None, typer.Option("--verify", help="Check an erasure's report, and that nothing is left.")] = None,
) -> None:
    """Remove a person from every table and version, original, model record and backup, and keep them out."""
    import sys

    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.privacy.erasure.subject import Subject

    text = sys.stdin.read().strip() if subject == "-" else subject
    who = Subject.parse(text) if text else None
    if verify is not None:
        _verify(screen, Workspace.load(), verify, who, backup or [])
        return
    if who is None:
        raise PrivacyError("erase", "needs a subject", expected="--subject dataset:column=value", fix="Name the person")
    _erase(screen, Workspace.load(), who, backup or [], dry_run=dry_run)


def _erase(screen: Screen, workspace: Any, who: Any, backups: list[str], *, dry_run: bool) -> None:
    from lakehouse.pipeline.erasing import erase as erase_subject
    from lakehouse.pipeline.runs import new_run

    report = erase_subject(workspace, who, run=new_run(), now=datetime.now(UTC), dry_run=dry_run, backups=backups, told=screen.say)
    document: dict[str, Any] = {
        **report.document,
        "report": str(report.path) if report.path else None,
        "dry_run": dry_run,
        "clean": report.is_clean,
    }

    def show(out: Any) -> None:
        from rich.table import Table

        grid = Table(box=None, pad_edge=False)
        for name in ("what", "rows now", "rows in all files", "masked", "files", "commits"):
            grid.add_column(name, justify="left" if name == "what" else "right")
        for one in document["tables"]:
            numbers = [one[name] for name in ("rows_now", "rows_in_files", "masked", "files", "commits")]
            grid.add_row(one["table"], *(f"{number:,}" for number in numbers))
        out.print(grid)
        for one in document["files"]:
            out.print(f"{one['path']}: {one['what']}, {one['records']} records", markup=False, soft_wrap=True)
        for one in document["online"]:
            out.print(f"online store: {one['rows']:,} rows of {one['view']}, {one['masked']:,} masked", markup=False)
        for one in document["backups"]:
            out.print(f"backup {one['backup']}: {one['files']} files", markup=False)
        for one in document["models"]:
            out.print(f"model {one['model']}, versions {', '.join(one['versions'])}: {one['note']}", markup=False, soft_wrap=True)
        if not any(document[name] for name in ("tables", "files", "online")):
            out.print("Nothing of the subject was found.")
        if report.path:
            out.print(f"Signed report: {report.path}", markup=False, soft_wrap=True)

    screen.emit(document, show)
    for one in report.document["waiting"]:
        screen.say(f"lakehouse: {one} may belong to a writer that is still at work: erase again in an hour")
    for one in report.document["left"]:
        screen.say(f"lakehouse: {one} still has something of the subject")
    if not dry_run and not report.is_clean:
        raise typer.Exit(DATA_DID_NOT_PASS)


def _verify(screen: Screen, workspace: Any, path: Path, who: Any, backups: list[str]) -> None:
    from lakehouse.pipeline.erasing import verify_erasure

    found = verify_erasure(workspace, path, who, backups=backups)
    document = {
        "report": str(path),
        "erasure": found.report["erasure"],
        "at": found.report["at"],
        "signature": "valid",
        "looked_everywhere": found.looked_everywhere,
        "left": list(found.left),
    }

    def show(out: Any) -> None:
        out.print(f"The report of {found.report['at']} is as it was signed.")
        if found.left:
            out.print("Something of the subject is left:")
            for one in found.left:
                out.print(f"  {one}", markup=False, soft_wrap=True)
        else:
            out.print(
                "Nothing of the subject is left"
                + ("." if found.looked_everywhere else " in any table; give --subject to search every byte.")
            )

    screen.emit(document, show)
    if found.left:
        raise typer.Exit(DATA_DID_NOT_PASS)


def list_entries(
    screen: Screen,
    *,
    table: Annotated[str | None, typer.Option("--table", help="Only what read or changed this table.")] = None,
    who: Annotated[str | None, typer.Option("--who", help="Only this user.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
) -> None:
    """Show accesses and changes, newest first."""
    from lakehouse.privacy.audit import Audit
    from lakehouse.settings import Settings

    found = [one for one in Audit(Settings.load()).entries() if (who in (None, one.who)) and (table is None or table in one.tables)]
    newest = found[::-1][:limit]
    document = {
        "entries": [
            {
                "number": one.number,
                "at": one.at,
                "who": one.who,
                "action": one.action,
                "tables": dict(one.tables),
                "outcome": one.outcome,
                "facts": dict(one.facts),
            }
            for one in newest
        ]
    }

    def show(out: Any) -> None:
        from rich.table import Table

        grid = Table(box=None, pad_edge=False)
        for name in ("number", "at (UTC)", "who", "action", "tables", "outcome"):
            grid.add_column(name, justify="right" if name == "number" else "left", overflow="fold")
        for one in newest:
            tables = ", ".join(name if version is None else f"{name}@{version}" for name, version in one.tables.items())
            grid.add_row(str(one.number), one.at[:19].replace("T", " "), one.who, one.action, tables, one.outcome)
        out.print(grid)

    screen.emit(document, show)


def verify_audit(screen: Screen) -> None:
    """Check that every entry that was ever made is there as it was made."""
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.privacy.audit import Audit

    workspace = Workspace.load()
    audit = Audit(workspace.settings)
    with workspace.lake.connect(()) as session:
        problems = [*audit.problems(), *audit.table_problems(workspace.lake, session.con)]
    entries = sum(1 for _ in audit.entries()) if not problems else None
    document = {"entries": entries, "problems": [{"number": one.number, "problem": one.what} for one in problems]}

    def show(out: Any) -> None:
        if not problems:
            out.print(f"{entries:,} entries, each as it was made.")
        for one in problems:
            out.print(f"entry {one.number} {one.what}", markup=False)

    screen.emit(document, show)
    if problems:
        raise typer.Exit(DATA_DID_NOT_PASS)


def retention(screen: Screen, *, dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False) -> None:
    """Remove what is over the period that its contract enforces, and people who withdrew their consent."""
    from lakehouse.pipeline.keeping import enforce_contracts
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    report = enforce_contracts(Workspace.load(), run=new_run(), now=datetime.now(UTC), dry_run=dry_run, told=screen.say)

    def show(out: Any) -> None:
        if not report.enforced:
            out.print("No contract enforces a retention or holds consents: see docs/privacy.md.")
        for one in report.expired:
            for table, rows in one.tables.items():
                out.print(f"{table}: {rows:,} rows of before {one.cutoff:%Y-%m-%d}", markup=False)
            if one.originals:
                out.print(f"{one.originals:,} originals of {one.dataset}", markup=False)
        out.print(f"{len(report.withdrawn):,} people withdrew their consent")

    screen.emit({**report.as_dict(), "dry_run": dry_run}, show)
    if report.unfinished:
        raise typer.Exit(DATA_DID_NOT_PASS)


def rotate_keys(
    screen: Screen,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Make no new key: end a rotation that was interrupted.")] = False,
) -> None:
    """Make a new key that encrypts from now on, and encrypt anew what older ones encrypted; pseudonyms stay what they are."""
    from lakehouse.pipeline.rotating import rotate
    from lakehouse.pipeline.workspace import Workspace

    done = rotate(Workspace.load(), now=datetime.now(UTC), is_new=not resume, told=screen.say)
    document = {"key": done.key, "subject_keys": done.subject_keys, "originals": done.originals}

    def show(out: Any) -> None:
        out.print(
            f"Key {done.key} encrypts from now on; {done.subject_keys:,} keys of people and {done.originals:,} originals were moved to it."
        )
        out.print("Back the key file up again: lakehouse backup --keys-to PLACE")

    screen.emit(document, show)
