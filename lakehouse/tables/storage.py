"""The few things that are asked of a folder or bucket directly. Delta and DuckDB do the rest."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from lakehouse.errors import StorageError, TableError
from lakehouse.tables.bucket import Bucket
from lakehouse.tables.folder import Folder
from lakehouse.tables.s3 import S3Access
from lakehouse.tables.stored import StoredFile

__all__ = ["Storage", "StoredFile"]

_PARALLEL = 16
_RACERS = 8


class Storage:
    """A root that holds files: a local folder, or a prefix of a bucket. All paths are relative to it and the same for both.

    A file is written whole or not at all, replaces what was there at one instant, and is on disk when the call returns.

    Args:
        uri: a path, `file://...`, or `s3://bucket/prefix`.
        options: for a bucket, the AWS_* names that delta-rs takes; what they do not say is found as every AWS tool does.

    Raises:
        TableError: the path has a character that tables can't be found under.
        StorageError: the address is of another kind.
    """

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.is_local = "://" not in uri or uri.startswith("file://")
        self.root = str(Path(uri.removeprefix("file://")).absolute()) if self.is_local else uri.rstrip("/")
        if "%" in self.root:
            # delta-rs would decode it when it opens a table, but not when it makes one.
            raise TableError(f"root {self.root}", "has a percent sign in its path", fix="Choose a path without it")
        if not self.is_local and not self.root.startswith("s3://"):
            raise StorageError(
                f"root {self.root}", "is no folder and no bucket", expected="a path, or s3://bucket/prefix", fix="Correct it"
            )
        self.access = S3Access(options)

    @property
    def options(self) -> dict[str, str]:
        """What delta-rs needs to reach the root, with credentials that are valid now; nothing for a folder.

        Raises:
            StorageError: there are no credentials.
        """
        return {} if self.is_local else self.access.options()

    @cached_property
    def _files(self) -> Folder | Bucket:
        return Folder(self.root) if self.is_local else Bucket(self.root, self.access)

    def address(self, *parts: str) -> str:
        """The full address of something under the root."""
        return "/".join((self.root, *parts))

    def make_folder(self, path: str) -> None:
        """Make a folder where folders exist; a bucket has none."""
        if self.is_local:
            Path(self.address(path)).mkdir(parents=True, exist_ok=True)

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`, sorted."""
        return self._files.folders(path)

    def folders_of(self, paths: Sequence[str]) -> list[list[str]]:
        """Names of the folders directly in each of the paths; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.folders(path) for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(self.folders, paths))

    def files(self, path: str) -> list[str]:
        """Names of the files directly in `path`, sorted."""
        return self._files.files(path)

    def files_of(self, paths: Sequence[str]) -> list[list[str]]:
        """Names of the files directly in each of the paths; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.files(path) for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(self.files, paths))

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Every file in the folder `prefix` and below, hidden ones too, sorted by path; nothing if there is no such folder."""
        return self._files.walk(_inside(prefix))

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None if there is none."""
        return self._files.read(path)

    def read_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """The bytes of each file; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.read(path) for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(self.read, paths))

    def write(self, path: str, data: bytes) -> None:
        """Make a file, or replace it at one instant."""
        self._files.write(_inside(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Make a file that is not there: True for exactly one of those who try, False for all others."""
        return self._files.create(_inside(path), data)

    def creates_once(self) -> bool:
        """Whether of several that create one file at the same time exactly one succeeds: what every commit depends on.

        Some servers that speak S3's protocol take the condition and ignore it; commits to them get lost.
        """
        path = f".probe-{uuid.uuid4().hex}"
        try:
            with ThreadPoolExecutor(_RACERS) as pool:
                together = sum(pool.map(lambda number: self.create(path, str(number).encode()), range(_RACERS)))
            return together == 1 and not self.create(path, b"late")
        finally:
            self.delete([path])

    def get(self, path: str, to: Path) -> None:
        """Fetch a file to a local path, which has it whole or is as it was.

        Raises:
            StorageError: there is no such file.
        """
        self._files.get(path, to)

    def put(self, source: Path, path: str) -> None:
        """Store a local file, which replaces what was there at one instant."""
        self._files.put(source, _inside(path))

    def look(self, path: str) -> StoredFile | None:
        """What a listing would tell of one file, or None if there is none."""
        return self._files.look(path)

    def size(self, path: str) -> int | None:
        """Bytes of a file, or None if there is none."""
        found = self.look(path)
        return None if found is None else found.size_bytes

    def are_there(self, paths: Sequence[str]) -> list[bool]:
        """Whether each file exists; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.size(path) is not None for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return [size is not None for size in pool.map(self.size, paths)]

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone already is no error."""
        self._files.delete(_inside(path) for path in paths)


def _inside(path: str) -> str:
    """The path, if it can't lead out of the root."""
    trimmed = path.strip("/") if path.endswith("/") else path
    if trimmed.startswith("/") or "\0" in trimmed or any(part in {"", ".", ".."} for part in trimmed.split("/") if trimmed):
        raise StorageError(f"path {path!r}", "is not one inside the root", expected="names divided by slashes", fix="Correct it")
    return trimmed
