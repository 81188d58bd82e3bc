"""Make a backup: what is new goes to the place first, and the manifest that makes it count goes last."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import BackupDamaged, RecoveryError, StorageError
from lakehouse.recovery.contents import Contents, Item, Vanished, home_contents, key_contents, tables_contents
from lakehouse.recovery.cut import newest_versions, take_cut
from lakehouse.recovery.databases import copy_sqlite, dump_postgres, is_sqlite, postgres_databases
from lakehouse.recovery.leases import Lease, Work, lease
from lakehouse.recovery.manifest import ARCHIVE, TABLES, Entry, Manifest, id_of
from lakehouse.recovery.store import BackupStore, digest_of
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.tables.spill import own_folder
from lakehouse.tables.tiers import archive_tiers

REGISTRY = "home/registry/mlflow.db"
_ATTEMPTS = 6
_PARALLEL = 8
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup did.

    Attributes:
        id: of the backup; of what would be one for a dry run.
        tables: how many.
        files: that the backup holds.
        size_bytes: of these files.
        files_read: those that are new or changed since the backup before.
        bytes_read: of these.
        objects_added: objects that were not there before; for a dry run not known.
        bytes_added: of these.
        left_out: what is not in the backup, and why.
    """

    id: str
    uri: str
    created_at: datetime
    parent: str | None
    tables: int
    files: int
    size_bytes: int
    files_read: int
    bytes_read: int
    objects_added: int | None
    bytes_added: int | None
    keys_uri: str | None
    left_out: tuple[str, ...]
    is_dry_run: bool = False


@dataclass(slots=True)
class _Counts:
    files_read: int = 0
    bytes_read: int = 0
    objects_added: int = 0
    bytes_added: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a backup is to hold: versions of the tables, of the archived ones by `tier/layer.name`, and the files."""

    versions: Mapping[str, int]
    archive: Mapping[str, int]
    contents: Contents


def unwatched(done: int, total: int) -> None:
    """Where nobody watches."""


def back_up(
    settings: Settings,
    to: str,
    *,
    now: datetime,
    keys_to: str | None = None,
    full: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = unwatched,
) -> BackupReport:
    """Back up a home; a process that is killed meanwhile leaves no backup, and nothing to clean up.

    The tables keep being written to: the backup shows them, together with the registry, as they were at one instant. What the
    backup before has read and has not changed is not read again.

    Args:
        settings: of the home.
        to: a folder or `s3://bucket/prefix`.
        now: the instant that the backup is named by.
        keys_to: where the keys go; None leaves them out.
        full: read and store everything again, which repairs objects that were damaged.
        dry_run: only say what would be read.
        progress: told how many files are done, of how many.

    Raises:
        RecoveryError: the place can't be used, or the tables changed faster than they could be read.
        BackupBusy: somebody removes from the backups at this place.
    """
    _check_places(settings, to, keys_to)
    store = BackupStore.open(to, settings, is_signing=not dry_run)
    lake = Lake.from_settings(settings)
    with tempfile.TemporaryDirectory(prefix="backup-", dir=own_folder(settings.spill_dir)) as scratch:
        work = _Work(settings, lake, store, Path(scratch), full=full, progress=progress)
        if dry_run:
            return work.foresee(now)
        with lease(store.storage, Work.ADDING, patience_s=_PATIENCE_S) as held:
            manifest = work.make(held, now=now, keys_uri=keys_to)
            if keys_to is not None:
                _back_up_keys(settings, keys_to, manifest, Path(scratch))
            held.check()
            manifest = store.add(manifest)
            return work.report(manifest, keys_uri=keys_to)


def _back_up_keys(settings: Settings, to: str, manifest: Manifest, scratch: Path) -> None:
    """Keys are there before the backup that can't be used without them."""
    store = BackupStore.open(to, settings)
    if store.storage.is_local:
        Path(store.uri).mkdir(parents=True, exist_ok=True, mode=0o700)
        Path(store.uri).chmod(0o700)
    files: dict[str, Entry] = {}
    with lease(store.storage, Work.ADDING, patience_s=_PATIENCE_S):
        for item in key_contents(settings).items:
            stored = store.put_bytes(item.storage.read(item.stored.path) or b"")
            files[item.path] = Entry(stored.sha256, stored.size_bytes, item.stored.modified, 0o600)
        store.add(Manifest(manifest.id, manifest.created_at, manifest.home, manifest.tables_uri, {}, files, made_by=manifest.made_by))


class _Work:
    """One backup in the making."""

    def __init__(
        self, settings: Settings, lake: Lake, store: BackupStore, scratch: Path, *, full: bool, progress: Callable[[int, int], None]
    ) -> None:
        self._settings = settings
        self._lake = lake
        self._store = store
        self._scratch = scratch
        self._full = full
        self._progress = progress
        self._counts = _Counts()
        self._parent = _newest(store)
        before = self._parent.files if self._parent and not full else {}
        self._known: dict[str, Entry] = dict(before)
        self._there: set[str] = {entry.sha256 for entry in before.values()}

    def foresee(self, now: datetime) -> BackupReport:
        """What a backup would hold and read."""
        plan = self._plan()
        unread = [item for item in plan.contents.items if not item.is_as_in(self._known.get(item.path))]
        self._counts.files_read = len(unread)
        self._counts.bytes_read = sum(item.stored.size_bytes for item in unread)
        files = {item.path: Entry("", item.stored.size_bytes) for item in plan.contents.items}
        manifest = self._manifest(now, plan, files, keys_uri=None)
        return self.report(manifest, keys_uri=None, is_dry_run=True)

    def make(self, held: Lease, *, now: datetime, keys_uri: str | None) -> Manifest:
        """Store everything that the backup needs; gives the manifest that is still to be written.

        Raises:
            RecoveryError: files were removed again and again before they could be read.
        """
        gone = ""
        for _ in range(_ATTEMPTS):
            try:
                plan = self._plan()
                files = self._store_all(plan.contents.items, held)
            except Vanished as vanished:
                gone = str(vanished)
                continue
            files |= self._dumps()
            return self._manifest(now, plan, files, keys_uri=keys_uri)
        raise RecoveryError(
            f"backup of {self._lake.uri}",
            "could not be made: files were removed faster than they could be read",
            found=gone,
            fix="Run it again when no vacuum is at work, or keep removed files for longer",
        )

    def _plan(self) -> "_Plan":
        since = self._parent.tables if self._parent else {}
        cut = take_cut(self._lake, self._copy_registry, since=since)
        parent = None if self._full else self._parent
        found = [tables_contents(self._lake, cut.versions, parent)]
        archive: dict[str, int] = {}
        # After the tables: what these count on in a tier is there before they do, and what came later is passed over by readers.
        for tier, lake in list(archive_tiers(self._settings, self._lake).items())[1:]:
            versions = newest_versions(lake)
            archive |= {f"{tier}/{table}": version for table, version in versions.items()}
            found += [tables_contents(lake, versions, parent, prefix=f"{ARCHIVE}{tier}/")] if versions else []
        found.append(home_contents(self._settings))
        items, left_out = [item for one in found for item in one.items], [note for one in found for note in one.left_out]
        return _Plan(cut.versions, archive, Contents(items, left_out))

    def _copy_registry(self) -> Path | None:
        """The registry as it is now: it is taken with the tables, for each names versions of the other."""
        source = self._registry
        if source is None or not source.is_file():
            return None
        target = self._scratch / "mlflow.db"
        copy_sqlite(source, target)
        return target

    @property
    def _registry(self) -> Path | None:
        scheme, _, path = self._settings.mlflow_tracking_uri.partition(":///")
        return Path(path) if scheme == "sqlite" else None

    # ---- storing

    def _store_all(self, items: Iterable[Item], held: Lease) -> dict[str, Entry]:
        wanted = [item for item in items if item.path != REGISTRY]
        files: dict[str, Entry] = {}
        registry = self._scratch / "mlflow.db"
        if registry.is_file():
            # First: of what follows it names some files, which may not be removed from it meanwhile.
            files[REGISTRY] = self._store_file(registry)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for done, (item, entry) in enumerate(zip(wanted, pool.map(self._store_item, wanted), strict=True), start=1):
                held.keep()
                if entry is not None:
                    files[item.path] = entry
                self._progress(done, len(wanted))
        return files

    def _store_item(self, item: Item) -> Entry | None:
        before = self._known.get(item.path)
        if before is not None and item.is_as_in(before):
            return before
        try:
            stored = self._read_and_store(item)
        except (FileNotFoundError, StorageError) as error:
            if isinstance(error, StorageError) and item.storage.size(item.stored.path) is not None:
                raise
            if item.is_needed or item.path.startswith((TABLES, ARCHIVE)):
                raise Vanished(item.path) from error
            return None
        mode = _mode(item)
        entry = Entry(stored.sha256, stored.size_bytes, item.stored.modified, mode)
        self._known[item.path] = entry
        return entry

    def _read_and_store(self, item: Item) -> Entry:
        if not item.storage.is_local:
            copy = Path(tempfile.mkstemp(dir=self._scratch)[1])
            try:
                item.storage.get(item.stored.path, copy)
                return self._store_file(copy)
            finally:
                copy.unlink(missing_ok=True)
        source = Path(item.storage.address(item.stored.path))
        if item.path.startswith((TABLES, ARCHIVE)):
            return self._store_in_place(source, item)
        # Somebody may write to it while it is read.
        copy = Path(tempfile.mkstemp(dir=self._scratch)[1])
        try:
            if item.is_database and is_sqlite(source):
                copy_sqlite(source, copy)
            else:
                shutil.copyfile(source, copy)
            return self._store_file(copy)
        finally:
            copy.unlink(missing_ok=True)

    def _store_in_place(self, source: Path, item: Item) -> Entry:
        """Store a file that nobody writes to; where somebody did all the same, what was stored may be no version of it."""
        before = source.stat()
        entry = self._store_file(source)
        after = source.stat()
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
            if digest_of(source) != entry.sha256:
                self._store.drop([entry.sha256])
            raise Vanished(f"{item.path} was written to")
        return entry

    def _store_file(self, source: Path) -> Entry:
        sha256, size = digest_of(source), source.stat().st_size
        is_new = sha256 not in self._there and (self._full or not self._store.has(sha256, size))
        if is_new:
            self._store.put(source, sha256)
            reached(Point.MID_BACKUP)
        with self._counts.guard:
            self._counts.files_read += 1
            self._counts.bytes_read += size
            if is_new and sha256 not in self._there:
                self._counts.objects_added += 1
                self._counts.bytes_added += size
            self._there.add(sha256)
        return Entry(sha256, size)

    def _dumps(self) -> dict[str, Entry]:
        files: dict[str, Entry] = {}
        for database in postgres_databases(self._settings):
            dump = self._scratch / "dump"
            dump_postgres(database, dump)
            files[database.path] = self._store_file(dump)
        return files

    # ---- the result

    def _manifest(self, now: datetime, plan: "_Plan", files: Mapping[str, Entry], *, keys_uri: str | None) -> Manifest:
        notes = [*plan.contents.left_out, *_not_covered(self._settings, keys_uri)]
        home = str(self._settings.home_dir)
        return Manifest(
            id_of(now),
            now,
            home,
            self._settings.tables_uri,
            dict(plan.versions),
            dict(files),
            tuple(notes),
            _program_version(),
            dict(plan.archive),
        )

    def report(self, manifest: Manifest, *, keys_uri: str | None, is_dry_run: bool = False) -> BackupReport:
        """What was done."""
        return BackupReport(
            id=manifest.id,
            uri=self._store.uri,
            created_at=manifest.created_at,
            parent=self._parent.id if self._parent else None,
            tables=len(manifest.tables) + len(manifest.archive),
            files=len(manifest.files),
            size_bytes=manifest.size_bytes,
            files_read=self._counts.files_read,
            bytes_read=self._counts.bytes_read,
            objects_added=None if is_dry_run else self._counts.objects_added,
            bytes_added=None if is_dry_run else self._counts.bytes_added,
            keys_uri=keys_uri,
            left_out=manifest.left_out,
            is_dry_run=is_dry_run,
        )


def _newest(store: BackupStore) -> Manifest | None:
    """The newest backup that can be read: a damaged one is no reason to make no other."""
    for backup_id in reversed(store.ids()):
        try:
            return store.load(backup_id)
        except BackupDamaged:
            continue
    return None


def _mode(item: Item) -> int | None:
    if not item.storage.is_local:
        return None
    try:
        mode = Path(item.storage.address(item.stored.path)).stat().st_mode & 0o777
    except OSError:
        return None
    return None if mode == 0o644 else mode


def _not_covered(settings: Settings, keys_uri: str | None) -> list[str]:
    notes: list[str] = []
    if keys_uri is None and settings.key_file.exists():
        notes.append(
            f"keys ({settings.key_file.parent}): back them up to another place with --keys-to; "
            "without them pseudonyms can't be matched, nor encrypted originals read"
        )
    if settings.mlflow_tracking_uri.startswith(("http://", "https://")):
        notes.append(f"the MLflow server {settings.mlflow_tracking_uri}: back it up where it runs")
    landing = settings.landing_dir
    if landing.is_dir() and any(landing.iterdir()):
        notes.append(f"files in {landing}: what was ingested of them is among the originals")
    return notes


def _check_places(settings: Settings, to: str, keys_to: str | None) -> None:
    for place in (to, keys_to):
        if place is None or "://" in place:
            continue
        path = (settings.project / Path(place).expanduser()).resolve()
        roots = [Path(uri) for uri in (settings.tables_uri, settings.archive_root) if "://" not in uri]
        for inside in (settings.home_dir, *roots):
            if path.is_relative_to(inside.resolve()):
                raise RecoveryError(
                    f"backup place {place}", "lies inside what is to be backed up", found=str(inside), fix="Name a folder elsewhere"
                )
    for uri in (settings.tables_uri, settings.archive_root):
        if "://" in uri and f"{to.rstrip('/')}/".startswith(f"{uri}/"):
            raise RecoveryError(f"backup place {to}", "lies inside what is to be backed up", found=uri, fix="Name another prefix")
    if keys_to is None:
        return
    one, other = (
        place.rstrip("/") + "/" if "://" in place else f"{(settings.project / Path(place).expanduser()).resolve()}/"
        for place in (to, keys_to)
    )
    if one.startswith(other) or other.startswith(one):
        raise RecoveryError(
            f"place of the keys {keys_to}",
            "is beside the backup that they open: whoever takes one has both",
            found=to,
            fix="Name another disk or bucket, which other people can read",
        )


def _program_version() -> str:
    try:
        return version("lakehouse")
    except PackageNotFoundError:
        return ""
