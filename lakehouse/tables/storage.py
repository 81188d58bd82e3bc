"""The few things that are asked of a folder or bucket directly: list, read and delete. Delta and DuckDB do the rest."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import TableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_PARALLEL = 16


class Storage:
    """A root that holds the tables: a local folder, or an address that delta-rs can reach.

    Args:
        uri: a path, `file://...`, or `s3://bucket/prefix`.
        options: what delta-rs needs to reach it.

    Raises:
        TableError: the path has a character that tables can't be found under.
    """

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.options = dict(options)
        self.is_local = "://" not in uri or uri.startswith("file://")
        self.root = str(Path(uri.removeprefix("file://")).absolute()) if self.is_local else uri.rstrip("/")
        if "%" in self.root:
            # delta-rs would decode it when it opens a table, but not when it makes one.
            raise TableError(f"root {self.root}", "has a percent sign in its path", fix="Choose a path without it")

    def address(self, *parts: str) -> str:
        """The full address of something under the root."""
        return "/".join((self.root, *parts))

    @cached_property
    def _remote(self) -> "FileSystem":
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        return PyFileSystem(DeltaStorageHandler(self.root, self.options))

    def make_folder(self, path: str) -> None:
        """Make a folder where folders exist; a bucket has none."""
        if self.is_local:
            Path(self.address(path)).mkdir(parents=True, exist_ok=True)

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`."""
        if self.is_local:
            return _entries(self.address(path) if path else self.root, are_folders=True)
        from pyarrow.fs import FileSelector, FileType

        entries = self._remote.get_file_info(FileSelector(path, allow_not_found=True))
        return sorted(entry.base_name for entry in entries if entry.type == FileType.Directory)

    def folders_of(self, paths: Sequence[str]) -> list[list[str]]:
        """Names of the folders directly in each of the paths; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.folders(path) for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(self.folders, paths))

    def files(self, path: str) -> list[str]:
        """Names of the files directly in `path`."""
        if self.is_local:
            return _entries(self.address(path), are_folders=False)
        from pyarrow.fs import FileSelector, FileType

        entries = self._remote.get_file_info(FileSelector(path, allow_not_found=True))
        return sorted(entry.base_name for entry in entries if entry.type == FileType.File)

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None if there is none."""
        try:
            if self.is_local:
                # A log has thousands of small files: what pathlib does for each would take most of the time.
                with open(self.address(path), "rb") as file:
                    return file.read()
            with self._remote.open_input_stream(path) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def read_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """The bytes of each file; a bucket is asked for many at once."""
        if self.is_local or len(paths) < 2:
            return [self.read(path) for path in paths]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(self.read, paths))

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone already is no error."""
        for path in paths:
            if self.is_local:
                Path(self.address(path)).unlink(missing_ok=True)
            else:
                try:
                    self._remote.delete_file(path)
                except FileNotFoundError:
                    continue


def _entries(folder: str, *, are_folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() == are_folders)
    except (FileNotFoundError, NotADirectoryError):
        return []
