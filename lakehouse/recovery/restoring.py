"""Bring a home back from a backup.

Everything is first laid out beside its place, in a hidden folder, each file checked against its digest, and given its name at the
end. What a killed restore has laid out, the next one checks and uses. Nothing that is there is ever removed: with `force` it is
moved aside.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.crashpoints import Point, reached
from lakehouse.durable import sync
from lakehouse.errors import BackupNotFound, RecoveryError
from lakehouse.recovery.databases import is_sqlite, move_paths
from lakehouse.recovery.manifest import ARCHIVE, HOME, KEYS, TABLES, Entry, Manifest
from lakehouse.recovery.store import BackupStore, digest_of
from lakehouse.settings import Settings
from lakehouse.tables.storage import Storage

_PARALLEL = 8
_LOG = "/_delta_log/"
_AUDIT_HEAD = f"{KEYS}audit.head"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did.

    Attributes:
        backup: id of the backup.
        created_at: the instant it shows.
        home: the home that was brought back.
        tables: versions by `layer.name`.
        files: files that were laid out.
        files_found: of these, those that an interrupted restore had laid out already.
        moved_aside: where things are now that were in the way.
        keys_restored: whether the keys came along.
        left_to_do: what the restore could not do itself.
    """

    backup: str
    created_at: datetime
    home: str
    tables_uri: str
    tables: Mapping[str, int]
    files: int
    size_bytes: int
    files_found: int
    moved_aside: tuple[str, ...]
    keys_restored: bool
    left_to_do: tuple[str, ...]
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """What is laid out and given its name as one: a folder directly in the home, or the root of the tables."""

    prefix: str
    place: Path

    def draft(self, backup_id: str) -> Path:
        return self.place.with_name(f".{self.place.name}.restoring-{backup_id}")


def unwatched(done: int, total: int) -> None:
    """Where nobody watches."""


def restore_home(
    settings: Settings,
    source: str,
    *,
    now: datetime,
    at: datetime | None = None,
    to: Path | None = None,
    keys_from: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = unwatched,
) -> RestoreReport:
    """Bring back a home as it was at an instant.

    Args:
        settings: how the place of the backup is reached, and the home to bring back.
        source: where the backups are.
        now: names what is moved aside.
        at: the newest backup at or before it; None is the newest of all.
        to: another home than that of the settings; its tables are then in it.
        keys_from: where the keys were backed up; None leaves them.
        force: move aside what is there.
        dry_run: only say what would be done.
        progress: told how many files are done, of how many.

    Raises:
        BackupNotFound: there is no backup of that time.
        BackupDamaged: the manifest or a file of the backup is not as it was written.
        RecoveryError: there is a home already.
    """
    store = BackupStore.open(source, settings)
    manifest = store.at(at)
    home = to.expanduser().absolute() if to else settings.home_dir
    tables_uri = str(home / "tables") if to else settings.tables_uri
    keys = _keys(settings, keys_from, manifest)
    archive_uri = str(home / "archive") if to else settings.archive_root
    remotes = [
        (prefix, Storage(uri, settings.storage_options))
        # The tables last: they count on what is in the archive.
        for prefix, uri in ((ARCHIVE, archive_uri), (TABLES, tables_uri))
        if "://" in uri and manifest.below(prefix)
    ]
    local = [(prefix, Path(uri)) for prefix, uri in ((ARCHIVE, archive_uri), (TABLES, tables_uri)) if "://" not in uri]
    parts = _parts(manifest, home, local)
    if keys is not None:
        key_folder = home / "keys" if to else settings.key_file.parent
        parts.insert(0, _Part(KEYS, key_folder))
    in_the_way = _in_the_way(parts, manifest.id)
    found, moved = 0, [str(path) for path in in_the_way]
    if not dry_run:
        _refuse(in_the_way, home, force=force)
        for prefix, remote in remotes:
            _refuse_foreign(remote, manifest, prefix)
        home.mkdir(parents=True, exist_ok=True)
        for part in parts:
            holder, content = keys if keys is not None and part.prefix == KEYS else (store, manifest)
            found += _lay_out(holder, content, part, manifest.id, progress)
        for prefix, remote in remotes:
            _fill(store, manifest, remote, settings, progress, prefix=prefix)
        _relocate(parts, manifest, home)
        moved = _move_aside(in_the_way, now)
        _give_names(parts, manifest.id)
    return RestoreReport(
        backup=manifest.id,
        created_at=manifest.created_at,
        home=str(home),
        tables_uri=tables_uri,
        tables=dict(manifest.tables),
        files=len(manifest.files),
        size_bytes=manifest.size_bytes,
        files_found=found,
        moved_aside=tuple(moved),
        keys_restored=keys is not None,
        left_to_do=tuple(_left_to_do(manifest, home, has_keys=keys is not None)),
        is_dry_run=dry_run,
    )


def _keys(settings: Settings, keys_from: str | None, manifest: Manifest) -> tuple[BackupStore, Manifest] | None:
    if keys_from is None:
        return None
    store = BackupStore.open(keys_from, settings)
    # The newest, whatever the instant: it has the keys of all times but those that were destroyed so that nobody has them again.
    newest = store.at(None)
    files = {path: entry for path, entry in newest.files.items() if path != _AUDIT_HEAD}
    # It names the last entry of the audit's journal, which comes back as it was then.
    try:
        head = store.at(manifest.created_at).files.get(_AUDIT_HEAD)
    except BackupNotFound:
        head = None
    if head is not None:
        files[_AUDIT_HEAD] = head
    return store, newest.with_files(files)


def _parts(manifest: Manifest, home: Path, roots: Iterable[tuple[str, Path]]) -> list[_Part]:
    """Everything beside the tables first: when they have their name, all is there."""
    names = sorted({path.removeprefix(HOME).split("/", 1)[0] for path in manifest.files if path.startswith(HOME)})
    parts = [_Part(f"{HOME}{name}", home / name) for name in names]
    return [*parts, *(_Part(prefix, place) for prefix, place in roots if prefix == TABLES or manifest.below(prefix))]


def _files_of(manifest: Manifest, part: _Part) -> dict[str, Entry]:
    """Entries of a part by their path in it; the empty path is a part that is one file."""
    if part.prefix.endswith("/"):
        return {path.removeprefix(part.prefix): entry for path, entry in manifest.below(part.prefix).items()}
    if part.prefix in manifest.files:
        return {"": manifest.files[part.prefix]}
    return {path.removeprefix(f"{part.prefix}/"): entry for path, entry in manifest.below(f"{part.prefix}/").items()}


def _in_the_way(parts: Iterable[_Part], backup_id: str) -> list[Path]:
    """What has the name that a part is to have; but not what an interrupted restore of this backup has named already."""
    return [part.place for part in parts if part.place.exists() and not _is_empty(part.place) and not _is_done(part, backup_id)]


def _mark(part: _Part, backup_id: str) -> Path:
    """Is there from just before a part is given its name until all of them have theirs."""
    return part.place.with_name(f".{part.place.name}.restored-{backup_id}")


def _is_done(part: _Part, backup_id: str) -> bool:
    return _mark(part, backup_id).exists() and part.place.exists() and not part.draft(backup_id).exists()


def _is_empty(place: Path) -> bool:
    return place.is_dir() and not any(path.is_file() for path in place.rglob("*"))


def _refuse(in_the_way: list[Path], home: Path, *, force: bool) -> None:
    if in_the_way and not force:
        raise RecoveryError(
            f"home {home}",
            "is not empty; nothing was restored",
            found=", ".join(path.name for path in in_the_way),
            fix="Restore to another folder (--to), or move what is there aside (--force)",
        )


def _refuse_foreign(remote: Storage, manifest: Manifest, prefix: str) -> None:
    """A bucket can't move what is there aside; what an interrupted restore has put there is welcome."""
    files = manifest.below(prefix)
    for file in remote.walk(""):
        entry = files.get(prefix + file.path)
        if entry is None or entry.size_bytes != file.size_bytes:
            raise RecoveryError(
                f"root {remote.root}",
                "is not empty; nothing was restored",
                found=file.path,
                fix=f"Set {'LAKEHOUSE_URI' if prefix == TABLES else 'LAKEHOUSE_ARCHIVE_URI'} to another prefix, or restore to a folder (--to)",
            )


# ---- laying out


def _lay_out(store: BackupStore, manifest: Manifest, part: _Part, backup_id: str, progress: Callable[[int, int], None]) -> int:
    """Put every file of a part into its hidden folder; gives how many were there."""
    if _is_done(part, backup_id):
        return 0
    draft, files = part.draft(backup_id), _files_of(manifest, part)
    found = 0

    def lay(path: str) -> bool:
        target = draft / path if path else draft
        return _lay(store, files[path], target, name=f"{part.prefix}{path}")

    if "" not in files:
        draft.mkdir(parents=True, exist_ok=True, mode=0o700 if part.prefix == KEYS else 0o755)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for done, was_there in enumerate(pool.map(lay, files), start=1):
            found += was_there
            progress(done, len(files))
    return found


def _lay(store: BackupStore, entry: Entry, target: Path, *, name: str) -> bool:
    """Put one file; True if it was there, whole."""
    if target.is_file() and target.stat().st_size == entry.size_bytes and digest_of(target) == entry.sha256:
        return True
    target.parent.mkdir(parents=True, exist_ok=True)
    store.get(entry, target, path=name)
    reached(Point.MID_RESTORE)
    target.chmod(entry.mode or 0o644)
    if entry.modified is not None:
        # The next backup tells by it that the file has not changed.
        instant = entry.modified.timestamp()
        os.utime(target, (instant, instant))
    return False


def _fill(
    store: BackupStore, manifest: Manifest, remote: Storage, settings: Settings, progress: Callable[[int, int], None], *, prefix: str
) -> None:
    """Put the tables into a bucket, which knows no renaming: a table is there when its log is, so logs go last, oldest first."""
    files = {path.removeprefix(prefix): entry for path, entry in manifest.below(prefix).items()}
    data = [path for path in files if _LOG not in path]
    logs = sorted(path for path in files if _LOG in path)
    scratch = settings.spill_dir
    scratch.mkdir(parents=True, exist_ok=True)

    def send(path: str) -> None:
        if remote.size(path) == files[path].size_bytes:
            return
        copy = scratch / f"restore-{os.getpid()}-{files[path].sha256}-{abs(hash(path))}"
        try:
            store.get(files[path], copy, path=prefix + path)
            reached(Point.MID_RESTORE)
            remote.put(copy, path)
        finally:
            copy.unlink(missing_ok=True)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        for done, _ in enumerate(pool.map(send, data), start=1):
            progress(done, len(files))
    for path in logs:
        send(path)


def _relocate(parts: Iterable[_Part], manifest: Manifest, home: Path) -> None:
    """Let the registry's absolute addresses name the new home."""
    old = Path(manifest.home)
    if old == home:
        return
    for part in parts:
        database = part.draft(manifest.id) / "mlflow.db"
        if part.prefix == f"{HOME}registry" and database.is_file() and is_sqlite(database):
            move_paths(database, old.as_uri(), home.as_uri())
            move_paths(database, str(old), str(home))


# ---- names


def _move_aside(in_the_way: Iterable[Path], now: datetime) -> list[str]:
    moved: list[str] = []
    for place in in_the_way:
        aside = place.with_name(f"{place.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
        place.replace(aside)
        moved.append(str(aside))
    return moved


def _give_names(parts: Iterable[_Part], backup_id: str) -> None:
    waiting = list(parts)
    for part in waiting:
        draft = part.draft(backup_id)
        if not draft.exists():
            continue
        if part.place.is_dir() and _is_empty(part.place):
            shutil.rmtree(part.place)
        # The mark comes first: a restore that is killed after it finds either the draft or the place.
        _mark(part, backup_id).touch()
        draft.replace(part.place)
        sync(part.place.parent)
    for part in waiting:
        _mark(part, backup_id).unlink(missing_ok=True)


def _left_to_do(manifest: Manifest, home: Path, *, has_keys: bool) -> list[str]:
    todo: list[str] = []
    dumps = [path for path in manifest.files if path.endswith(".pgdump")]
    todo += [f"pg_restore --clean --if-exists --no-owner --dbname=postgresql://... {home / path.removeprefix(HOME)}" for path in dumps]
    if not has_keys and any(path.endswith(".enc") for path in manifest.files):
        todo.append("Put the keys in place (restore-backup --keys-from, or LAKEHOUSE_SECRET_KEY_FILE): encrypted originals need them")
    return todo
