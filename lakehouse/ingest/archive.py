"""Originals: a private copy to read from, and its permanent place named by its content.

A file is copied before it is looked at, and digest, rows and archived bytes all come from the copy: a file that changes while it
is being ingested can't be recorded as something it was not.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.durable import sync
from lakehouse.ingest.arrivals import Arrived, BucketFile
from lakehouse.ingest.readers.formats import refused
from lakehouse.privacy import Key
from lakehouse.privacy.vault import encrypt_stream
from lakehouse.tables.storage import Storage

_COPY_BLOCK = 1024 * 1024
_PARALLEL = 16
_EXTENSION = re.compile(r"^(\.[a-z0-9]{1,10}){1,2}$")
ENCRYPTED = ".enc"


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it arrived: where, its content's digest and size, and the private copy that is read.

    `fetched` is the object of that copy, which may be newer than the one that was asked for.
    """

    path: Arrived
    sha256: str
    size_bytes: int
    copy: Path
    fetched: BucketFile | None = None

    @property
    def origin(self) -> dict[str, str]:
        """Where it came from, for the log; nothing more than its name where that is a folder."""
        return {"uri": self.fetched.address, "etag": self.fetched.etag} if self.fetched is not None else {}


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        FileRefused: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise refused(path, f"can't be read: {error.strerror}", found=str(path), fix="Check the path and its permissions") from error


def take(path: Arrived, folder: Path, number: int) -> Original:
    """Copy a file into a private folder and name its content.

    Raises:
        FileRefused: it is missing, no regular file, or can't be read.
        StorageError: its bucket can't be read.
    """
    if isinstance(path, BucketFile):
        return _fetch(path, folder, number)
    if not path.exists():
        raise refused(path, "does not exist", found=str(path), fix="Check the path")
    if not path.is_file():
        raise refused(path, "is not a regular file", found=str(path), fix="Name a file")
    # The name is kept: readers and errors go by it.
    copy = folder / path.name
    if copy.exists():
        (folder / str(number)).mkdir()
        copy = folder / str(number) / path.name
    try:
        sha256 = _copy_and_digest(path, copy)
    except OSError as error:
        raise refused(path, f"can't be read: {error.strerror}", found=str(path), fix="Check its permissions") from error
    return Original(path, sha256, copy.stat().st_size, copy)


def _fetch(file: BucketFile, folder: Path, number: int) -> Original:
    """The object as it is now, which may be another than the one that was listed."""
    copy = folder / str(number) / Path(file.path).name
    copy.parent.mkdir()
    before = file.storage.look(file.path)
    if before is None:
        raise refused(Path(file.address), "does not exist any more", found=file.address, fix="Deliver it again")
    file.storage.get(file.path, copy)
    after = file.storage.look(file.path)
    if after is None or after.etag != before.etag:
        raise refused(Path(file.address), "was replaced while it was fetched", found=file.address, fix="Ingest it again")
    return Original(file, digest_of(copy), copy.stat().st_size, copy, BucketFile.listed(file.storage, after))


def _copy_and_digest(path: Path, copy: Path) -> str:
    """Copy a file and give the digest of what was written; a block is written while it is being digested."""
    digest = hashlib.sha256()
    # One buffer for all blocks: a new one for each would cost more than the copying.
    buffer = memoryview(bytearray(_COPY_BLOCK))
    with path.open("rb", buffering=0) as reader, copy.open("wb") as writer, ThreadPoolExecutor(1) as pool:
        while size := reader.readinto(buffer):
            block = buffer[:size]
            written = pool.submit(writer.write, block)
            digest.update(block)
            written.result()
    return digest.hexdigest()


def extension_of(name: str) -> str:
    """The ending to keep: harmless letters only (`.csv`, `.csv.gz`)."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    for candidate in ("".join(suffixes), suffixes[-1] if suffixes else ""):
        if _EXTENSION.match(candidate) and (
            len(suffixes) < 2 or candidate != "".join(suffixes) or suffixes[-1] in {".gz", ".bz2", ".zst", ".zip"}
        ):
            return candidate
    return ""


def archive(storage: Storage, dataset: str, originals: Sequence[Original], *, key: Key | None, now: datetime) -> dict[str, str]:
    """Put originals at `files/<dataset>/<yyyy-mm-dd>/<sha256><ext>`; returns the places by digest.

    What is there stays as it is: the name says the content. With a key the bytes are encrypted. When this returns, the bytes and
    their names are on disk: a commit may name them.
    """
    day = f"files/{dataset}/{now:%Y-%m-%d}"
    places: dict[str, str] = {}
    drafts: dict[Path, Path] = {}
    for original in originals:
        place = f"{day}/{original.sha256}{extension_of(original.path.name)}{ENCRYPTED if key else ''}"
        places[original.sha256] = place
        if storage.is_local and _is_whole(Path(storage.address(place)), original, is_sealed=key is not None):
            continue
        if key is not None:
            sealed = original.copy.with_name(f"{original.sha256}{ENCRYPTED}")
            with original.copy.open("rb") as reader, sealed.open("xb") as writer:
                sealed.chmod(0o600)
                encrypt_stream(reader, writer, key)
            _put(storage, sealed, place, drafts)
            sealed.unlink()
        else:
            _put(storage, original.copy, place, drafts)
    _make_last(drafts)
    return places


def _is_whole(place: Path, original: Original, *, is_sealed: bool) -> bool:
    """Whether the content is there already; one that a power cut has shortened is not."""
    return place.exists() and (is_sealed or place.stat().st_size == original.size_bytes)


def _make_last(drafts: Mapping[Path, Path]) -> None:
    """Give drafts their names once their bytes are on disk, and wait until the names are there as well."""
    if not drafts:
        return
    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(sync, drafts.values()))
    for target, draft in drafts.items():
        draft.replace(target)
    day = next(iter(drafts)).parent
    # The day's folder may be new itself, and so may those above it.
    for folder in (day, *list(day.parents)[:3]):
        sync(folder)


def _put(storage: Storage, source: Path, place: str, drafts: dict[Path, Path]) -> None:
    if storage.is_local:
        target = Path(storage.address(place))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        # A link costs nothing where both are on one file system; the name appears only with the whole content.
        draft.unlink(missing_ok=True)
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)
        draft.chmod(0o600 if place.endswith(ENCRYPTED) else 0o644)
        drafts[target] = draft
        return
    storage.put(source, place)
