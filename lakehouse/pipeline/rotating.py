"""A new key for what is encrypted, and everything that can be encrypted anew under it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import Key, SubjectKeys, decrypt_file, encrypt_file, rotate_key
from lakehouse.privacy import key as secret_key
from lakehouse.privacy.vault import key_of
from lakehouse.recovery.checksums import forget
from lakehouse.tables.spill import own_folder

_ENDING = ".enc"


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did.

    Attributes:
        key: id of the key that encrypts from now on.
        subject_keys: keys of people that were wrapped anew.
        originals: original files that were encrypted anew.
    """

    key: str
    subject_keys: int
    originals: int
    at: datetime


def rotate(workspace: Workspace, *, now: datetime, is_new: bool = True, told: Callable[[str], None] = lambda _step: None) -> Rotation:
    """Make a new key, wrap the keys of people under it and encrypt the originals anew; pseudonyms stay what they are.

    Interrupted, everything can be read all the same: call it again with `is_new` false to end it.

    Raises:
        PrivacyError: the key file can't be written, or an original was made with a key that is not in it.
    """
    settings = workspace.settings
    key = rotate_key(settings) if is_new else secret_key(settings)
    told("keys of people")
    wrapped = SubjectKeys(key).rewrap()
    told("originals")
    with tempfile.TemporaryDirectory(prefix="rotating-", dir=own_folder(settings.spill_dir)) as scratch:
        originals = _encrypt_anew(workspace, key, Path(scratch))
    return Rotation(key.newest.id, wrapped, originals, now)


def _encrypt_anew(workspace: Workspace, key: Key, scratch: Path) -> int:
    storage = workspace.lake.storage
    local, plain, sealed = scratch / "local", scratch / "plain", scratch / "sealed"
    count = 0
    for file in list(storage.walk("files")):
        if not file.path.endswith(_ENDING):
            continue
        storage.get(file.path, local)
        with local.open("rb") as head:
            if key_of(head.read(16)) in (None, key.newest.id):
                continue
        decrypt_file(local, plain, key)
        encrypt_file(plain, sealed, key)
        storage.put(sealed, file.path)
        # Its bytes are others now, on purpose.
        forget(storage, [file.path])
        count += 1
    return count
