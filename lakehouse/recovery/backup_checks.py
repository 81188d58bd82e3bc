"""Backups looked at: every manifest is genuine, and every object that one of them names is there and holds what it should."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import BackupDamaged, BackupNotFound, StorageError
from lakehouse.recovery.findings import Failure
from lakehouse.recovery.store import BackupStore, digest_of, object_path
from lakehouse.settings import Settings
from lakehouse.tables.spill import own_folder

_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class BackupFindings:
    """What was found of the backups at one place.

    Attributes:
        ids: the backups whose manifest can be read, oldest first.
        objects: that they need.
        objects_read: whose bytes were compared with their digest.
    """

    uri: str
    ids: tuple[str, ...]
    objects: int
    objects_read: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


def check_backups(store: BackupStore, settings: Settings, *, quick: bool) -> BackupFindings:
    """Look at all backups of a place.

    Args:
        store: the place.
        settings: for the spill folder.
        quick: compare sizes only.
    """
    failures: list[Failure] = []
    readable: list[str] = []
    foreign: set[str] = set()
    needed: dict[str, tuple[int, str, list[str]]] = {}
    for backup_id in store.ids():
        try:
            sealed = store.read(backup_id)
        except BackupNotFound:
            continue
        except BackupDamaged as error:
            failures.append(Failure("manifests_are_genuine", f"backup {backup_id}", f"its manifest {error.problem}", error.fix or ""))
            continue
        readable.append(backup_id)
        if sealed.signed_by is None and store.signer is not None:
            problem = "its manifest is not signed"
            failures.append(Failure("manifests_are_genuine", f"backup {backup_id}", problem, "Don't trust it: back up again"))
        elif sealed.is_genuine is None and sealed.signed_by is not None:
            foreign.add(sealed.signed_by)
        for path, entry in sealed.manifest.files.items():
            needed.setdefault(entry.sha256, (entry.size_bytes, path, []))[2].append(backup_id)
    sizes = {one.sha256: one.size_bytes for one in store.objects()}
    sound: list[str] = []
    for sha256, (size, path, ids) in needed.items():
        if sizes.get(sha256) == size:
            sound.append(sha256)
            continue
        problem = "an object is gone" if sha256 not in sizes else f"an object has {sizes[sha256]} bytes instead of {size}"
        failures.append(_lost(sha256, path, ids, problem))
    if not quick:
        for sha256 in _damaged(store, sound, settings):
            _, path, ids = needed[sha256]
            failures.append(_lost(sha256, path, ids, "an object holds other bytes than were backed up"))
    notes = [f"signed with key {one}, which is not at hand: its signatures could not be checked" for one in sorted(foreign)]
    return BackupFindings(store.uri, tuple(readable), len(needed), 0 if quick else len(sound), tuple(failures), tuple(notes))


def _lost(sha256: str, path: str, ids: list[str], problem: str) -> Failure:
    which = ids[0] if len(ids) == 1 else f"{len(ids)} backups, {ids[0]} to {ids[-1]}"
    return Failure(
        "objects_are_as_backed_up",
        f"backup {ids[-1]}",
        f"{problem}: {path}, needed by {which}",
        "While the home has the file: lakehouse backup PLACE --full stores it anew; otherwise take the object from a copy of the backup",
        object_path(sha256),
    )


def _damaged(store: BackupStore, sha256s: list[str], settings: Settings) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="verify-", dir=own_folder(settings.spill_dir)) as scratch:

        def is_damaged(sha256: str) -> bool:
            path = object_path(sha256)
            try:
                if store.storage.is_local:
                    return digest_of(Path(store.storage.address(path))) != sha256
                copy = Path(scratch) / sha256
                store.storage.get(path, copy)
                digest = digest_of(copy)
                copy.unlink()
                return digest != sha256
            except (FileNotFoundError, StorageError):
                # Removed with its backup since it was listed.
                return store.storage.size(path) is not None

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return [sha256 for sha256, is_bad in zip(sha256s, pool.map(is_damaged, sha256s), strict=True) if is_bad]
