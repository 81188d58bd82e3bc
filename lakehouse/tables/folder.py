"""A root on the local disk."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from lakehouse.durable import finish, new_file, sync
from lakehouse.errors import StorageError
from lakehouse.tables.stored import StoredFile


class Folder:
    """Files under one folder. What is written is on disk, under its name, when the call returns."""

    def __init__(self, root: str) -> None:
        self._root = root

    def _place(self, path: str) -> str:
        # A log has thousands of small files: what pathlib does for each would take most of the time.
        return f"{self._root}/{path}" if path else self._root

    def folders(self, path: str) -> list[str]:
        """Names of the folders directly in `path`."""
        return [entry.name for entry in _entries(self._place(path)) if entry.is_dir()]

    def files(self, path: str) -> list[str]:
        """Names of the files directly in `path`."""
        return [entry.name for entry in _entries(self._place(path)) if not entry.is_dir()]

    def walk(self, prefix: str) -> Iterator[StoredFile]:
        """Every file below `prefix`, in the order a bucket would list them."""
        return self._walk(prefix, frozenset())

    def _walk(self, path: str, above: frozenset[tuple[int, int]]) -> Iterator[StoredFile]:
        # A linked folder is followed, for its files are read under this root as well; but not round in circles.
        try:
            status = os.stat(self._place(path))
        except OSError:
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        entries = _entries(self._place(path))
        for entry in sorted(entries, key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name):
            inside = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir():
                yield from self._walk(inside, above | {here})
                continue
            try:
                found = entry.stat()
            except OSError:
                # Removed since it was listed, or a link to nothing.
                continue
            yield StoredFile(inside, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None if there is none."""
        try:
            with open(self._place(path), "rb") as file:
                return file.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file."""
        target = self._target(path)
        with new_file(target) as (file, draft):
            file.write(data)
            finish(file)
            draft.replace(target)
        sync(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        """Make a file that is not there; False if it is."""
        target = self._target(path)
        if target.exists():
            return False
        with new_file(target) as (file, draft):
            file.write(data)
            finish(file)
            try:
                os.link(draft, target)
            except FileExistsError:
                return False
        sync(target.parent)
        return True

    def get(self, path: str, to: Path) -> None:
        """Copy a stored file to a local path, which has it whole or is as it was."""
        try:
            source = open(self._place(path), "rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise missing(self._place(path)) from error
        with source:
            self._copy(source, to)

    def put(self, source: Path, path: str) -> None:
        """Store a local file under a path, which has it whole or is as it was."""
        target = self._target(path)
        with source.open("rb") as reader:
            self._copy(reader, target)
        sync(target.parent)

    def _copy(self, source: IO[bytes], target: Path) -> None:
        with new_file(target) as (file, draft):
            shutil.copyfileobj(source, file, 4 * 1024 * 1024)
            finish(file)
            draft.replace(target)

    def look(self, path: str) -> StoredFile | None:
        """What a listing would tell of one file, or None if there is none."""
        try:
            found = os.stat(self._place(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if stat.S_ISDIR(found.st_mode) else StoredFile(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone already is no error."""
        for path in paths:
            Path(self._place(path)).unlink(missing_ok=True)

    def _target(self, path: str) -> Path:
        target = Path(self._place(path))
        new = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder's name is on disk when the folder above it is.
        for folder in new:
            sync(folder.parent)
        return target


def missing(address: str) -> StorageError:
    """The error for a file that was asked for and is not there."""
    return StorageError(address, "is not there", fix="Name a file that exists")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
