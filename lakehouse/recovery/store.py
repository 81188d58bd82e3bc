"""Where backups are: objects named by their content, and one manifest for each backup.

    objects/<aa>/<sha256>     bytes, never changed
    manifests/<instant>.json  what one backup consists of, written last
    leases/                   who is at work

The same in a folder and in a bucket. An object without a manifest is what a killed backup left; the next one uses it.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse.errors import BackupDamaged, BackupNotFound
from lakehouse.privacy import Key, key
from lakehouse.recovery.manifest import Entry, Manifest, Sealed, id_of, instant_of, read_manifest
from lakehouse.settings import Settings
from lakehouse.tables.storage import Storage
from lakehouse.tables.stored import StoredFile

_MANIFESTS = "manifests"
_OBJECTS = "objects"
_BLOCK = 4 * 1024 * 1024


def object_path(sha256: str) -> str:
    """Where the object of a digest is."""
    return f"{_OBJECTS}/{sha256[:2]}/{sha256}"


def digest_of(path: Path) -> str:
    """SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is listed."""

    sha256: str
    size_bytes: int


class BackupStore:
    """The backups at one place.

    Args:
        storage: the place.
        signer: signs manifests and checks signatures; None does neither.
    """

    def __init__(self, storage: Storage, signer: Key | None) -> None:
        self.storage = storage
        self.signer = signer

    @classmethod
    def open(cls, uri: str, settings: Settings, *, is_signing: bool = False) -> "BackupStore":
        """The backups of a folder or `s3://bucket/prefix`.

        Args:
            uri: the place; like in every setting, a relative path is one in the project.
            settings: how a bucket is reached, and the key of the home.
            is_signing: make the home's key if there is none yet.
        """
        if "://" not in uri:
            uri = str(settings.project / Path(uri).expanduser())
        signer = key(settings) if is_signing or settings.key_file.exists() else None
        return cls(Storage(uri, settings.storage_options), signer)

    @property
    def uri(self) -> str:
        """The place, absolute."""
        return self.storage.root

    # ---- manifests

    def ids(self) -> list[str]:
        """Ids of the backups, oldest first."""
        names = [name.removesuffix(".json") for name in self.storage.files(_MANIFESTS) if name.endswith(".json")]
        return sorted(name for name in names if instant_of(name) is not None)

    def read(self, backup_id: str) -> Sealed:
        """A backup's manifest with its seal.

        Raises:
            BackupNotFound: there is none of this id.
            BackupDamaged: a byte of it has changed, or its signature is wrong.
        """
        data = self.storage.read(f"{_MANIFESTS}/{backup_id}.json")
        if data is None:
            raise self._not_found(backup_id)
        sealed = read_manifest(data, name=backup_id, key=self.signer)
        if sealed.manifest.id != backup_id:
            raise BackupDamaged(f"manifest {backup_id}", "is that of another backup", found=sealed.manifest.id, fix="Use another backup")
        if sealed.is_genuine is False:
            raise BackupDamaged(
                f"manifest {backup_id}",
                "has a signature that is not this home's",
                found=f"made with another secret than key {sealed.signed_by}",
                fix="Don't restore it: it was changed by somebody who does not have the key",
            )
        return sealed

    def load(self, backup_id: str) -> Manifest:
        """A backup's manifest; raises as `read` does."""
        return self.read(backup_id).manifest

    def at(self, instant: datetime | None) -> Manifest:
        """The newest backup, or the newest that is not younger than an instant.

        Raises:
            BackupNotFound: there is none.
            BackupDamaged: its manifest is not as it was written.
        """
        ids = self.ids()
        limit = None if instant is None else id_of(instant)
        found = [one for one in ids if limit is None or one <= limit]
        if not found:
            raise self._not_found(f"at or before {instant.isoformat()}" if instant and ids else "")
        return self.load(found[-1])

    def add(self, manifest: Manifest) -> Manifest:
        """Make the backup count, in one step; a name that is taken moves it on by a microsecond.

        Returns:
            The manifest as it was stored.
        """
        while True:
            path = f"{_MANIFESTS}/{manifest.id}.json"
            if self.storage.create(path, manifest.to_bytes(self.signer)):
                return manifest
            later = manifest.created_at + timedelta(microseconds=1)
            manifest = replace(manifest, id=id_of(later), created_at=later)

    def rewrite(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one with its id."""
        self.storage.write(f"{_MANIFESTS}/{manifest.id}.json", manifest.to_bytes(self.signer))

    def forget(self, backup_id: str) -> None:
        """Remove a manifest; its objects stay."""
        self.storage.delete([f"{_MANIFESTS}/{backup_id}.json"])

    # ---- objects

    def objects(self) -> Iterator[StoredObject]:
        """Every object that is there."""
        for file in self.storage.walk(_OBJECTS):
            name = file.path.rpartition("/")[2]
            if file.path == object_path(name) and len(name) == 64:
                yield StoredObject(name, file.size_bytes)

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether an object is there, by its size."""
        return self.storage.size(object_path(sha256)) == size_bytes

    def put(self, source: Path, sha256: str) -> None:
        """Store a file whose digest is known."""
        self.storage.put(source, object_path(sha256))

    def put_bytes(self, data: bytes) -> Entry:
        """Store bytes; gives the entry that names them."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256, len(data)):
            self.storage.write(object_path(sha256), data)
        return Entry(sha256, len(data))

    def read_object(self, entry: Entry, *, path: str) -> bytes:
        """The bytes of a file in a backup.

        Raises:
            BackupDamaged: they are gone, or not those that were backed up.
        """
        data = self.storage.read(object_path(entry.sha256))
        if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise self._damaged(entry, path, "is gone" if data is None else "holds other bytes than were backed up")
        return data

    def get(self, entry: Entry, to: Path, *, path: str) -> None:
        """Copy a file of a backup to a local path; there it is whole and as it was backed up, or not at all.

        Raises:
            BackupDamaged: its bytes are gone, or not those that were backed up.
        """
        draft = to.with_name(f".{to.name[:100]}.part")
        if self.storage.size(object_path(entry.sha256)) is None:
            raise self._damaged(entry, path, "is gone")
        self.storage.get(object_path(entry.sha256), draft)
        if digest_of(draft) != entry.sha256:
            draft.unlink()
            raise self._damaged(entry, path, "holds other bytes than were backed up")
        draft.replace(to)

    def drop(self, sha256s: Iterable[str]) -> None:
        """Remove objects."""
        self.storage.delete(object_path(one) for one in sha256s)

    def sweep(self, needed: Collection[str], *, dry_run: bool = False) -> list[StoredFile]:
        """Remove every object that is not needed, and what killed processes left half written; only for who may remove."""
        unneeded = [
            file
            for file in self.storage.walk(_OBJECTS)
            if file.path != object_path(name := file.path.rpartition("/")[2]) or name not in needed
        ]
        if not dry_run:
            self.storage.delete(file.path for file in unneeded)
        return unneeded

    def in_use(self) -> set[str]:
        """Digests of the objects that some manifest names.

        Raises:
            BackupDamaged: a manifest can't be read, so nobody knows what it needs.
        """
        return {entry.sha256 for one in self.ids() for entry in self.load(one).files.values()}

    def _damaged(self, entry: Entry, path: str, problem: str) -> BackupDamaged:
        return BackupDamaged(
            f"object {entry.sha256} of {path} in {self.uri}",
            problem,
            fix="Restore from another backup or copy; where the home still has the file, `lakehouse backup --full` stores it anew",
        )

    def _not_found(self, what: str) -> BackupNotFound:
        ids = self.ids()
        return BackupNotFound(
            f"backup {what}".rstrip(),
            f"is not in {self.uri}",
            found=f"{len(ids)} backups, {ids[0]} to {ids[-1]}" if ids else "no backup",
            fix=f"List them with: lakehouse backups {self.uri}",
        )
