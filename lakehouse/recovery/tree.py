"""Every backup as a tree of files that can be read and rewritten: a person must be removable from all of them.

    with changing_backups(uri, settings) as trees:
        for tree in trees:
            tree.replace({file.path: without(tree.read(file.path)) for file in tree.files() if ...})
            tree.commit()

A commit stores the new objects and writes the manifest anew, signed, in one step: killed in between, a backup is as it was or as it
is to be. When the block ends, every object that no backup names any more is removed, also what killed backups left. After a kill the
same is done by the next `changing_backups` of that place, so an interrupted removal is made whole by running it again. Nobody makes or
prunes backups at the place while the block runs.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import BackupNotFound
from lakehouse.recovery.leases import Lease, Work, lease
from lakehouse.recovery.manifest import Entry, Manifest
from lakehouse.recovery.store import BackupStore, digest_of, object_path
from lakehouse.settings import Settings
from lakehouse.tables.stored import StoredFile

_PATIENCE_S = 3600.0


class BackupTree:
    """The files of one backup: `tables/<layer>/<name>/...`, `tables/files/...` (originals), `home/...`, in a backup of keys `keys/...`."""

    def __init__(self, store: BackupStore, manifest: Manifest, held: Lease | None) -> None:
        self._store = store
        self._manifest = manifest
        self._held = held
        self._changes: dict[str, Entry | None] = {}

    @property
    def id(self) -> str:
        """The backup's id: its instant."""
        return self._manifest.id

    @property
    def manifest(self) -> Manifest:
        """What the backup consists of, as it was last committed."""
        return self._manifest

    def files(self) -> Iterator[StoredFile]:
        """Its files, in the order of their paths; with what is replaced, and not yet committed, as it will be."""
        for path, entry in sorted(self._now().items()):
            yield StoredFile(path, entry.size_bytes, entry.modified or self._manifest.created_at)

    def digest(self, path: str) -> str:
        """SHA-256 of a file: two backups that name the same one share its bytes, so that it has to be looked into once.

        Raises:
            BackupNotFound: there is no such file.
        """
        return self._entry(path).sha256

    def address(self, path: str) -> str:
        """Where the bytes of a file are: a local path, or an address in the bucket.

        Raises:
            BackupNotFound: there is no such file.
        """
        return self._store.storage.address(object_path(self._entry(path).sha256))

    @property
    def is_local(self) -> bool:
        """Whether addresses are local paths."""
        return self._store.storage.is_local

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            BackupNotFound: there is no such file.
            BackupDamaged: its bytes are gone or changed.
        """
        return self._store.read_object(self._entry(path), path=path)

    def get(self, path: str, to: Path) -> None:
        """Copy a file to a local path; raises as `read` does."""
        self._store.get(self._entry(path), to, path=path)

    def replace(self, changes: Mapping[str, bytes | Path | None]) -> None:
        """Give files other bytes, add files, or (None) take them out; nothing of it counts before `commit`.

        The versions and logs of the tables are for the caller to keep in agreement: the backup takes the bytes as they are.
        """
        for path, content in changes.items():
            before = self._now().get(path)
            if content is None:
                self._changes[path] = None
            elif isinstance(content, Path):
                sha256, size = digest_of(content), content.stat().st_size
                if not self._store.has(sha256, size):
                    self._store.put(content, sha256)
                self._changes[path] = Entry(sha256, size, None, before.mode if before else None)
            else:
                self._changes[path] = replace(self._store.put_bytes(content), mode=before.mode if before else None)

    def set_versions(self, tables: Mapping[str, int]) -> None:
        """Say anew which version each table is at, for whom the logs were rewritten."""
        self._manifest = replace(self._manifest, tables=dict(tables))

    def commit(self) -> None:
        """Let the changes count; the old objects go when the block of `changing_backups` ends."""
        if self._held is not None:
            self._held.keep()
            self._held.check()
        changed = self._manifest.with_files(self._now())
        self._store.rewrite(changed)
        self._manifest, self._changes = changed, {}
        reached(Point.MID_ERASE)

    def _now(self) -> dict[str, Entry]:
        files = {**self._manifest.files, **{path: entry for path, entry in self._changes.items() if entry is not None}}
        return {path: entry for path, entry in files.items() if self._changes.get(path, entry) is not None}

    def _entry(self, path: str) -> Entry:
        entry = self._now().get(path)
        if entry is None:
            raise BackupNotFound(f"file {path}", f"is not in backup {self.id}", fix="List the backup's files")
        return entry


def backup_trees(uri: str, settings: Settings) -> list[BackupTree]:
    """The trees of all backups at a place, oldest first, to look into. To change them use `changing_backups`.

    Raises:
        BackupDamaged: a manifest is not as it was written.
    """
    store = BackupStore.open(uri, settings)
    return [BackupTree(store, store.load(one), None) for one in store.ids()]


@contextmanager
def changing_backups(uri: str, settings: Settings, *, patience_s: float = _PATIENCE_S) -> Generator[list[BackupTree]]:
    """The trees of all backups at a place while nobody else makes or removes backups there.

    When the block ends without an error, no object is left that no backup names. The manifests are signed with the home's key.

    Raises:
        BackupBusy: a backup is being made there, and still is after `patience_s` seconds.
        BackupDamaged: a manifest is not as it was written.
    """
    store = BackupStore.open(uri, settings, is_signing=True)
    with lease(store.storage, Work.REMOVING, patience_s=patience_s) as held:
        yield [BackupTree(store, store.load(one), held) for one in store.ids()]
        store.sweep(store.in_use())
