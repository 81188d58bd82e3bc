"""One person out of every file of a folder or bucket that is no table."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lakehouse.crashpoints import Point, reached
from lakehouse.privacy.erasure.files import Files, digest_of, kind_of
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.erasure.tree import Tree
from lakehouse.tables.storage import StoredFile

_SIDECARS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class ErasedFile:
    """A file that had something of the subject.

    Attributes:
        path: without the subject, should it be part of the name.
        records: records that were emptied.
        what: emptied, masked, or removed.
        sha256: of the new content; of an encrypted file that of what it holds.
        renamed: its name had the subject in it.
    """

    path: str
    records: int
    what: str
    sha256: str | None = None
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What is done with a file that has something of the subject."""

    has_records: bool = False
    goes: bool = False


class FileTree:
    """The files of a tree that are looked at.

    Args:
        tree: holds them.
        files: looks into a local file.
        scratch: a private folder.
        is_local: the tree's addresses are local paths.
    """

    def __init__(self, tree: Tree, files: Files, who: Identifiers, *, scratch: Path, is_local: bool) -> None:
        self._tree = tree
        self._files = files
        self._who = who
        self._scratch = scratch
        self._is_local = is_local

    def holding(self, prefix: str = "", *, skip: Callable[[str], bool]) -> Iterator[StoredFile]:
        """The files that have something of the subject, by name or by content."""
        tables: dict[Path, StoredFile] = {}
        for file in [file for file in self._tree.walk(prefix) if not skip(file.path)]:
            local = Path(self._tree.address(file.path)) if self._is_local else None
            if local is not None and self._is_table(local) and not self._who.mentioned_in(file.path):
                tables[local] = file
            elif self.holds(file.path):
                yield file
        bare = {local for local in tables if self._files.has_bytes(local)}
        inside = self._files.tables_with([local for local in tables if local not in bare])
        yield from (tables[local] for local in sorted(bare | inside))

    @staticmethod
    def _is_table(local: Path) -> bool:
        try:
            return kind_of(local) == "parquet"
        except OSError:
            return False

    def holds(self, path: str) -> bool:
        """Whether a file has something of the subject; one that is gone meanwhile has not."""
        if self._who.mentioned_in(path):
            return True
        try:
            if self._is_local:
                return self._files.has(Path(self._tree.address(path)))
            with tempfile.TemporaryDirectory(prefix="look-", dir=self._scratch) as folder:
                return self._files.has(self._local(path, Path(folder)))
        except FileNotFoundError:
            return False

    def clean(self, path: str, choice: Choice) -> ErasedFile:
        """Take the subject out of a file and out of its name."""
        shown = self._who.masked(path)
        if choice.goes:
            self._tree.delete([path])
            return ErasedFile(shown, 0, "removed")
        base = next((path.removesuffix(ending) for ending in _SIDECARS if path.endswith(ending)), path)
        if self._is_database(base):
            change = self._files.clean(Path(self._tree.address(base)), records=False)
            return ErasedFile(self._who.masked(base), change.records, "masked")
        with tempfile.TemporaryDirectory(prefix="clean-", dir=self._scratch) as folder:
            local = self._local(path, Path(folder))
            draft = Path(folder) / f"draft-{uuid.uuid4().hex}"
            shutil.copyfile(local, draft)
            change = self._files.clean(draft, records=choice.has_records)
            digest = change.sha256 or digest_of(draft)
            reached(Point.MID_ERASE)
            self._tree.put(draft, shown)
        if shown != path:
            self._tree.delete([path])
        return ErasedFile(shown, change.records, "emptied" if change.records else "masked", digest, renamed=shown != path)

    def _is_database(self, path: str) -> bool:
        if not self._is_local:
            return False
        local = Path(self._tree.address(path))
        if not local.is_file():
            return False
        with local.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"

    def _local(self, path: str, folder: Path) -> Path:
        if self._is_local:
            return Path(self._tree.address(path))
        local = folder / uuid.uuid4().hex
        self._tree.get(path, local)
        return local


def inside_tables(tables: Collection[str]) -> Callable[[str], bool]:
    """Whether a path belongs to one of the tables (`layer.name`)."""
    folders = tuple(table.replace(".", "/") + "/" for table in tables)
    return lambda path: path.startswith(folders)
