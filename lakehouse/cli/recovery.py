"""Commands against loss: backup, backups, prune-backups, verify, restore-backup."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import table_names
from lakehouse.cli.screen import Screen, human_size
from lakehouse.errors import DATA_DID_NOT_PASS, RecoveryError
from lakehouse.instants import parse_instant

if TYPE_CHECKING:
    from lakehouse.recovery.repairing import RepairReport
    from lakehouse.recovery.restoring import RestoreReport
    from lakehouse.recovery.verifying import VerifyReport
    from lakehouse.settings import Settings

_PANEL = "Backup"
_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_PLACE = "A folder, or s3://bucket/prefix; default LAKEHOUSE_BACKUP_URI."


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "backup", panel=_PANEL)(backup)
    command(app, "backups", panel=_PANEL)(backups)
    command(app, "prune-backups", panel=_PANEL)(prune_backups)
    command(app, "verify", panel=_PANEL)(verify)
    command(app, "restore-backup", panel=_PANEL)(restore_backup)


def backup(
    screen: Screen,
    *,
    to: Annotated[str | None, typer.Argument(help=_PLACE)] = None,
    keys_to: Annotated[str | None, typer.Option("--keys-to", help="Back up the keys too, to a place of their own.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read and store everything again: repairs damaged objects.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be read.")] = False,
) -> None:
    """Back up tables, originals, registry, Dagster's storage and contracts as they are now; only what is new is read."""
    from lakehouse.recovery.backing_up import back_up

    settings = _settings()
    with _counting(screen, "backup") as progress:
        report = back_up(
            settings,
            _place(settings, to),
            now=datetime.now(UTC),
            keys_to=_from_here(keys_to) or settings.backup_keys_uri,
            full=full,
            dry_run=dry_run,
            progress=progress,
        )
    document = {
        "backup": report.id,
        "uri": report.uri,
        "created_at": report.created_at,
        "parent": report.parent,
        "tables": report.tables,
        "files": report.files,
        "size_bytes": report.size_bytes,
        "files_read": report.files_read,
        "bytes_read": report.bytes_read,
        "objects_added": report.objects_added,
        "bytes_added": report.bytes_added,
        "keys": report.keys_uri,
        "left_out": list(report.left_out),
        "dry_run": report.is_dry_run,
    }

    def show(out: Any) -> None:
        if report.is_dry_run:
            out.print(f"Would back up {report.tables} tables, {report.files:,} files, {human_size(report.size_bytes)}")
            out.print(f"Would read {report.files_read:,} files, {human_size(report.bytes_read)}")
        else:
            out.print(f"Backup {report.id} in {report.uri}", soft_wrap=True, markup=False)
            out.print(f"{report.tables} tables, {report.files:,} files, {human_size(report.size_bytes)}")
            out.print(f"New: {report.objects_added or 0:,} objects, {human_size(report.bytes_added or 0)}")
        for note in report.left_out:
            out.print(f"Not in it: {note}", style="yellow", markup=False, soft_wrap=True)

    screen.emit(document, show)


def backups(screen: Screen, *, source: Annotated[str | None, typer.Argument(help=_PLACE)] = None) -> None:
    """List the backups of a place, oldest first."""
    from lakehouse.errors import BackupDamaged
    from lakehouse.recovery.store import BackupStore

    settings = _settings()
    store = BackupStore.open(_place(settings, source), settings)
    found: list[dict[str, Any]] = []
    for backup_id in store.ids():
        try:
            one = store.load(backup_id)
            sizes = {"tables": len(one.tables), "files": len(one.files), "size_bytes": one.size_bytes, "home": one.home}
            found.append({"backup": backup_id, "created_at": one.created_at, **sizes, "problem": None})
        except BackupDamaged as error:
            nothing = {"created_at": None, "tables": None, "files": None, "size_bytes": None, "home": None}
            found.append({"backup": backup_id, **nothing, "problem": error.problem})

    def show(out: Any) -> None:
        from rich.table import Table

        if not found:
            out.print(f"There is no backup in {store.uri}.", markup=False)
            return
        table = Table(box=None, pad_edge=False)
        for column in ("backup", "tables", "files", "size"):
            table.add_column(column, justify="left" if column == "backup" else "right")
        for one in found:
            sizes = [str(one["tables"]), f"{one['files']:,}", human_size(one["size_bytes"])] if one["problem"] is None else [one["problem"]]
            table.add_row(one["backup"], *sizes)
        out.print(table)

    screen.emit({"uri": store.uri, "backups": found}, show)


def prune_backups(
    screen: Screen,
    *,
    source: Annotated[str | None, typer.Argument(help=_PLACE)] = None,
    keep_last: Annotated[int | None, typer.Option("--keep-last", min=1, help="Keep this many of the newest.")] = None,
    keep_days: Annotated[int | None, typer.Option("--keep-days", min=0, help="Keep those of this many days.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing.")] = False,
) -> None:
    """Remove old backups, and the objects that no backup needs any more."""
    from lakehouse.recovery.pruning import prune

    settings = _settings()
    report = prune(settings, _place(settings, source), keep_last=keep_last, keep_days=keep_days, now=datetime.now(UTC), dry_run=dry_run)
    document = {
        "uri": report.uri,
        "kept": list(report.kept),
        "removed": list(report.removed),
        "objects_removed": report.objects_removed,
        "bytes_removed": report.bytes_removed,
        "dry_run": report.is_dry_run,
    }

    def show(out: Any) -> None:
        would = "Would remove" if report.is_dry_run else "Removed"
        out.print(f"{would} {len(report.removed)} backups, {report.objects_removed:,} objects, {human_size(report.bytes_removed)}")
        out.print(f"Kept {len(report.kept)} backups, the newest is {report.kept[-1] if report.kept else 'none'}")

    screen.emit(document, show)


def verify(
    screen: Screen,
    *,
    tables: Annotated[list[str] | None, typer.Argument(help="Only these tables (layer.name).", autocompletion=table_names)] = None,
    source: Annotated[str | None, typer.Option("--backup", help="Also the backups at this place, and the home against the newest.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Logs and sizes only: no file's bytes are read.")] = False,
) -> None:
    """Read everything and check it: logs, digests of all files, rows, conservation, originals, models, backups."""
    from lakehouse.recovery.verifying import verify_home

    settings = _settings()
    with _counting(screen, "verify") as progress:
        report = verify_home(settings, tables or (), backup=_from_here(source) or settings.backup_uri, quick=quick, progress=progress)
    screen.emit(_verified(report), lambda out: _show_verified(out, report))
    if not report.is_green:
        raise typer.Exit(DATA_DID_NOT_PASS)


def _verified(report: "VerifyReport") -> dict[str, Any]:
    found = report.backups
    return {
        "ok": report.is_green,
        "tables": dict(report.tables),
        "files": report.files,
        "bytes_read": report.bytes_read,
        "digests_compared": report.digests_compared,
        "digests_noted": report.digests_noted,
        "backups": None
        if found is None
        else {
            "uri": found.uri,
            "backups": list(found.ids),
            "objects": found.objects,
            "objects_read": found.objects_read,
            "notes": list(found.notes),
        },
        "failures": [
            {
                "check": one.check,
                "subject": one.subject,
                "path": one.path,
                "versions": one.versions,
                "problem": one.problem,
                "fix": one.fix,
            }
            for one in report.failures
        ],
    }


def _show_verified(out: Any, report: "VerifyReport") -> None:
    out.print(f"{len(report.tables)} tables, {report.files:,} files, {human_size(report.bytes_read)} read")
    out.print(f"{report.digests_compared:,} digests compared, {report.digests_noted:,} noted for the next time")
    if report.backups is not None:
        found = report.backups
        out.print(
            f"{len(found.ids)} backups in {found.uri}: {found.objects_read:,} of {found.objects:,} objects read",
            markup=False,
            soft_wrap=True,
        )
        for note in found.notes:
            out.print(f"Note: {note}", markup=False, soft_wrap=True, style="yellow")
    for note in report.notes:
        out.print(f"Note: {note}", markup=False, soft_wrap=True, style="yellow")
    for one in report.failures:
        where = f" {one.path}" if one.path else ""
        versions = f" (versions {one.versions})" if one.versions else ""
        out.print(f"FAILED  {one.check}: {one.subject}{where}{versions}", style="bold red", markup=False, soft_wrap=True)
        out.print(f"        {one.problem}", markup=False, soft_wrap=True)
        out.print(f"        {one.fix}", markup=False, soft_wrap=True)
    if report.is_green:
        out.print("Everything is as it was written.", style="green")
    else:
        out.print(f"{len(report.failures)} failures", style="bold red")


def restore_backup(
    screen: Screen,
    *,
    source: Annotated[str | None, typer.Argument(help=_PLACE)] = None,
    at: Annotated[str | None, typer.Option("--at", help="The newest backup at or before an instant (UTC), or the id of one.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Restore into this folder as a home of its own.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Put back only what is damaged or gone of a table, originals, registry, ...; may be repeated."),
    ] = None,
    keys_from: Annotated[str | None, typer.Option("--keys-from", help="Restore the keys too, from their place.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Move what is there aside.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Bring back the home as it was at an instant, or repair parts of it; every file is checked against its digest."""
    from lakehouse.recovery.repairing import repair
    from lakehouse.recovery.restoring import restore_home

    settings = _settings()
    place, instant = _place(settings, source), _instant(at)
    with _counting(screen, "restore") as progress:
        if only:
            if to is not None or keys_from is not None or force:
                raise RecoveryError("restore-backup --only", "repairs this home in place", fix="Leave out --to, --keys-from and --force")
            repaired = repair(settings, place, only, at=instant, dry_run=dry_run, progress=progress)
            screen.emit(_repaired(repaired), lambda out: _show_repaired(out, repaired))
            return
        restored = restore_home(
            settings,
            place,
            now=datetime.now(UTC),
            at=instant,
            to=to,
            keys_from=_from_here(keys_from),
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    screen.emit(_restored(restored), lambda out: _show_restored(out, restored))


def _repaired(report: "RepairReport") -> dict[str, Any]:
    return {
        "backup": report.backup,
        "created_at": report.created_at,
        "only": list(report.only),
        "files_checked": report.checked,
        "replaced": list(report.replaced),
        "dry_run": report.is_dry_run,
    }


def _show_repaired(out: Any, report: "RepairReport") -> None:
    would = "Would put back" if report.is_dry_run else "Put back"
    out.print(f"{would} {len(report.replaced)} of {report.checked:,} files, from backup {report.backup}")
    for path in report.replaced:
        out.print(f"  {path}", markup=False, soft_wrap=True)


def _restored(report: "RestoreReport") -> dict[str, Any]:
    return {
        "backup": report.backup,
        "created_at": report.created_at,
        "home": report.home,
        "tables_uri": report.tables_uri,
        "tables": dict(report.tables),
        "files": report.files,
        "size_bytes": report.size_bytes,
        "files_found": report.files_found,
        "moved_aside": list(report.moved_aside),
        "keys_restored": report.keys_restored,
        "left_to_do": list(report.left_to_do),
        "dry_run": report.is_dry_run,
    }


def _show_restored(out: Any, report: "RestoreReport") -> None:
    would = "Would restore" if report.is_dry_run else "Restored"
    out.print(f"{would} backup {report.backup} to {report.home}", markup=False, soft_wrap=True)
    out.print(f"{len(report.tables)} tables, {report.files:,} files, {human_size(report.size_bytes)}")
    for path in report.moved_aside:
        out.print(f"{'Would be moved' if report.is_dry_run else 'Moved'} aside: {path}", markup=False, soft_wrap=True)
    for task in report.left_to_do:
        out.print(f"To do: {task}", style="yellow", markup=False, soft_wrap=True)
    if not report.is_dry_run:
        out.print("Check it with: lakehouse verify")


def _settings() -> "Settings":
    from lakehouse.pipeline.workspace import Workspace

    return Workspace.load().settings


def _place(settings: "Settings", given: str | None) -> str:
    place = _from_here(given) or settings.backup_uri
    if place is None:
        raise RecoveryError(
            "backup place", "was not given", expected="a folder, or s3://bucket/prefix", fix="Name it, or set LAKEHOUSE_BACKUP_URI"
        )
    return place


def _from_here(given: str | None) -> str | None:
    """A place as it was typed: a relative path is one in the current folder, where a setting's is one in the project."""
    return given if given is None or "://" in given else str(Path(given).expanduser().absolute())


def _instant(text: str | None) -> datetime | None:
    """The instant that was asked for; one without a zone is UTC, and a date alone means its end."""
    if text is None:
        return None
    from lakehouse.recovery.manifest import instant_of

    named = instant_of(text) if _ID.fullmatch(text) else None
    if named is not None:
        return named
    expected = "2026-01-31T12:00, 2026-01-31, or a backup's id"
    parsed = parse_instant(text, subject="--at", error=RecoveryError, expected=expected, fix="List ids with lakehouse backups")
    return parsed + timedelta(days=1, microseconds=-1) if len(text) == len("2026-01-31") else parsed


@contextmanager
def _counting(screen: Screen, step: str) -> Generator[Callable[[int, int], None]]:
    """Progress in files."""
    from lakehouse.pipeline.events import Event, State

    with screen.progress() as report:

        def told(done: int, total: int) -> None:
            if done % 50 == 0 or done == total:
                report(Event(step, "files", State.ADVANCED, done=done, total=total))

        yield told
