"""Put back from a backup only what is damaged or gone; everything that is in order stays as it is, and newer versions do too."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.errors import RecoveryError
from lakehouse.recovery.databases import is_sqlite, move_paths, sqlite_problem
from lakehouse.recovery.findings import Advice, subject_of
from lakehouse.recovery.manifest import ARCHIVE, HOME, TABLES, Entry, Manifest
from lakehouse.recovery.store import BackupStore, digest_of
from lakehouse.recovery.table_checks import inspect_table
from lakehouse.settings import Settings
from lakehouse.tables import Lake, TableName
from lakehouse.tables.spill import own_folder
from lakehouse.tables.storage import Storage
from lakehouse.tables.tiers import archive_tiers

ORIGINALS = "originals"
_COMMIT = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was put back.

    Attributes:
        backup: id of the backup it came from.
        replaced: paths of files that were damaged or gone.
        checked: files that were compared.
    """

    backup: str
    created_at: datetime
    only: tuple[str, ...]
    checked: int
    replaced: tuple[str, ...]
    is_dry_run: bool = False


def repair(
    settings: Settings,
    source: str,
    only: Sequence[str],
    *,
    at: datetime | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RepairReport:
    """Compare parts of a home with a backup, and put back the files that are gone or hold other bytes.

    A table that is not there at all comes back at the version of the backup. Data files that maintenance has removed on purpose
    stay away.

    Args:
        settings: of the home.
        source: where the backups are.
        only: tables (`layer.name`, of the archive `tier/layer.name`), `originals`, or parts of the home (`registry`, `contracts`, `dagster`).
        at: of the newest backup at or before it.
        dry_run: put nothing back.
        progress: told how many files were compared, of how many.

    Raises:
        BackupNotFound: there is no such backup.
        BackupDamaged: the backup is damaged itself.
        RecoveryError: the backup does not have it, or the table is another one than was backed up.
    """
    store = BackupStore.open(source, settings)
    manifest = store.at(at)
    replaced: list[str] = []
    checked = 0
    with tempfile.TemporaryDirectory(prefix="repair-", dir=own_folder(settings.spill_dir)) as scratch:
        work = _Repair(settings, store, manifest, Path(scratch), is_dry_run=dry_run)
        for subject in only:
            for path in work.damaged(subject):
                replaced.append(path)
                work.put_back(path)
            checked += work.checked
            progress(checked, checked)
    return RepairReport(manifest.id, manifest.created_at, tuple(only), checked, tuple(replaced), dry_run)


class _Repair:
    """One repair from one backup."""

    def __init__(self, settings: Settings, store: BackupStore, manifest: Manifest, scratch: Path, *, is_dry_run: bool) -> None:
        self._settings = settings
        self._store = store
        self._manifest = manifest
        self._scratch = scratch
        self._is_dry_run = is_dry_run
        hot, *below = archive_tiers(settings, Lake.from_settings(settings)).items()
        self._lakes = {TABLES: hot[1]} | {f"{ARCHIVE}{tier}/": lake for tier, lake in below}
        self._home = Storage(str(settings.home_dir), {})
        self.checked = 0

    def damaged(self, subject: str) -> Iterator[str]:
        """Paths that have to be put back, in the order in which that is safe; the caller puts back each before it asks for the next."""
        self.checked = 0
        if subject == ORIGINALS:
            yield from self._differing(self._manifest.below(f"{TABLES}files/"))
        elif "." in subject:
            tier, _, name = subject.rpartition("/")
            yield from self._of_table(TableName.parse(name), f"{ARCHIVE}{tier}/" if tier else TABLES)
        else:
            entries = self._manifest.below(f"{HOME}{subject}/")
            if not entries:
                raise self._not_there(subject)
            yield from (path for path in self._differing(entries) if not self._is_sound_database(path))

    def _of_table(self, table: TableName, root: str) -> Iterator[str]:
        prefix = f"{root}{table.layer}/{table.name}/"
        entries = self._manifest.below(prefix)
        if not entries:
            raise self._not_there(subject_of(prefix))
        logs = {path: entry for path, entry in entries.items() if path.startswith(f"{prefix}_delta_log/")}
        commits = {path: logs[path] for path in sorted(logs) if _COMMIT.fullmatch(path.rpartition("/")[2])}
        data = {path: entry for path, entry in entries.items() if path not in logs}
        if not any(self._size(path) is not None for path in commits):
            # All of it is gone: its log makes it a table again, and so comes last.
            yield from self._differing(data)
            yield from self._differing(commits)
            return
        self._check_identity(table, commits)
        yield from self._differing(commits)
        yield from (path for path, entry in logs.items() if path not in commits and self._was_written_alike(path, entry))
        needed = self._needed(table, root)
        yield from self._differing({path: entry for path, entry in data.items() if path in needed or self._size(path) is not None})

    def _needed(self, table: TableName, root: str) -> set[str]:
        """Files of the newest version, and what the versions that are kept have changed."""
        folder, lake = f"{table.layer}/{table.name}/", self._lakes[root]
        listed = {file.path.removeprefix(folder): file for file in lake.storage.walk(folder.rstrip("/"))}
        seen = inspect_table(lake, table, listed, Advice(), prefix=root)
        return {seen.folder + path for path in seen.lives if seen.is_needed(path)}

    def _check_identity(self, table: TableName, commits: Mapping[str, Entry]) -> None:
        """A table that was made anew under the name has another log, which must not be mixed with that of the backup."""
        for path, entry in commits.items():
            storage, inside = self._storage(path)
            here = _table_id(storage.read(inside) or b"")
            there = _table_id(self._store.read_object(entry, path=path))
            if here is not None and there is not None and here != there:
                raise RecoveryError(
                    str(table),
                    "is another table than the one that was backed up: it was made anew",
                    found=f"id {here}, in the backup {there}",
                    fix="Move its folder away first, and the one of the backup is brought back whole",
                )
            if here is not None:
                return

    def _differing(self, entries: Mapping[str, Entry]) -> Iterator[str]:
        for path, entry in entries.items():
            self.checked += 1
            if self._size(path) != entry.size_bytes or self._digest(path) != entry.sha256:
                yield path

    def _was_written_alike(self, path: str, entry: Entry) -> bool:
        """Whether a checkpoint that differs was damaged: somebody may have made it a second time."""
        self.checked += 1
        storage, inside = self._storage(path)
        modified = next((file.modified for file in storage.walk(inside.rpartition("/")[0]) if file.path == inside), None)
        return modified == entry.modified and self._digest(path) != entry.sha256

    def _is_sound_database(self, path: str) -> bool:
        """A database goes on being written to, so it differs; it is put back only where it can't be used."""
        place = self._settings.home_dir / path.removeprefix(HOME)
        return path.endswith((".db", ".sqlite", ".sqlite3")) and is_sqlite(place) and sqlite_problem(place) is None

    def _storage(self, path: str) -> tuple[Storage, str]:
        for root, lake in self._lakes.items():
            if path.startswith(root):
                return lake.storage, path.removeprefix(root)
        return self._home, path.removeprefix(HOME)

    def _size(self, path: str) -> int | None:
        storage, inside = self._storage(path)
        return storage.size(inside)

    def _digest(self, path: str) -> str:
        storage, inside = self._storage(path)
        if storage.is_local:
            return digest_of(Path(storage.address(inside)))
        copy = self._scratch / "compared"
        storage.get(inside, copy)
        return digest_of(copy)

    def put_back(self, path: str) -> None:
        """Put one file in its place, whole."""
        if self._is_dry_run:
            return
        entry = self._manifest.files[path]
        storage, inside = self._storage(path)
        copy = self._scratch / "file"
        self._store.get(entry, copy, path=path)
        if path == "home/registry/mlflow.db" and Path(self._manifest.home) != self._settings.home_dir:
            move_paths(copy, Path(self._manifest.home).as_uri(), self._settings.home_dir.as_uri())
        if is_sqlite(copy) and storage.is_local:
            # What a damaged database has left beside it belongs to no other.
            for sidecar in ("-wal", "-shm", "-journal"):
                Path(storage.address(inside) + sidecar).unlink(missing_ok=True)
        storage.put(copy, inside)
        if storage.is_local:
            target = Path(storage.address(inside))
            target.chmod(entry.mode or 0o644)
            if entry.modified is not None:
                os.utime(target, (entry.modified.timestamp(), entry.modified.timestamp()))

    def _not_there(self, subject: str) -> RecoveryError:
        tables = [*sorted(self._manifest.tables), *sorted(self._manifest.archive)]
        parts = sorted({path.split("/")[1] for path in self._manifest.files if path.startswith(HOME) and path.count("/") > 1})
        return RecoveryError(
            f"{subject} in backup {self._manifest.id}",
            "is not there",
            expected=f"one of {', '.join([*tables, ORIGINALS, *parts])}",
            fix="Name one of them, or another backup with --at",
        )


def _table_id(commit: bytes) -> str | None:
    for line in commit.splitlines():
        if line.startswith(b'{"metaData":'):
            try:
                return str(json.loads(line)["metaData"]["id"])
            except (ValueError, KeyError, TypeError):
                return None
    return None
