"""A file that has arrived, wherever that is: a path, or an object in a bucket."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lakehouse.settings import Settings
from lakehouse.tables.storage import Storage, StoredFile

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class BucketFile:
    """An object as it was listed. What is under its key later may be another content, with another `etag`.

    Attributes:
        address: `s3://bucket/key`.
        path: relative to the storage's root.
    """

    address: str
    path: str
    size_bytes: int
    modified: datetime
    etag: str
    storage: Storage = field(compare=False, repr=False)

    @classmethod
    def listed(cls, storage: Storage, file: StoredFile) -> "BucketFile":
        """The object that a listing names."""
        return cls(storage.address(file.path), file.path, file.size_bytes, file.modified, file.etag or "", storage)

    @property
    def name(self) -> str:
        """Its key in the bucket: what `_file` and messages call it."""
        return self.address.removeprefix("s3://").partition("/")[2]

    def __str__(self) -> str:
        return self.address

    def __fspath__(self) -> str:
        """For what asks a name for its ending."""
        return self.address


Arrived = Path | BucketFile


class Looks(NamedTuple):
    """What tells, without reading a file, that it is the one of the last look: size, and time of change or a bucket's tag."""

    size_bytes: int
    mark: int | str


def looks_of(file: Arrived) -> Looks | None:
    """How a file looks now; None if it is gone."""
    if isinstance(file, BucketFile):
        return Looks(file.size_bytes, file.etag)
    try:
        found = file.stat()
    except OSError:
        return None
    return Looks(found.st_size, found.st_mtime_ns)


def in_bucket(settings: Settings, dataset: str, globs: tuple[str, ...]) -> Iterator[BucketFile]:
    """Objects that have arrived for a dataset: below its prefix of the landing bucket, and of the contract's `s3://` globs.

    Names that are hidden or unfinished are among them.

    Raises:
        StorageError: a bucket can't be listed.
    """
    if settings.landing_bucket is not None:
        storage = Storage(settings.landing_bucket, settings.storage_options)
        for file in storage.walk(dataset):
            yield BucketFile.listed(storage, file)
    for glob in globs:
        yield from matching(settings, glob)


def matching(settings: Settings, address: str) -> Iterator[BucketFile]:
    """The object at an `s3://` address, those below it, or those that it matches as a glob, by key.

    Raises:
        StorageError: the bucket can't be listed.
    """
    parts = PurePosixPath(address.removeprefix("s3://")).parts
    # Listed from the deepest folder that a glob names outright.
    plain = next((number for number, part in enumerate(parts[:-1]) if any(sign in part for sign in _WILD)), len(parts) - 1)
    storage = Storage("s3://" + "/".join(parts[: max(plain, 1)]), settings.storage_options)
    below = "/".join(parts[max(plain, 1) :])
    is_glob = any(sign in below for sign in _WILD)
    exact = storage.look(below) if below and not is_glob else None
    if exact is not None:
        yield BucketFile.listed(storage, exact)
        return
    for file in storage.walk("" if is_glob else below):
        if not is_glob or fnmatch(storage.address(file.path), address):
            yield BucketFile.listed(storage, file)
