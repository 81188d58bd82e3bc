"""One person out of every backup: the same work on its tables and files as in the home, on what the backup holds of them."""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from lakehouse.errors import BackupNotFound
from lakehouse.privacy import Key
from lakehouse.privacy.erasure.files import Files
from lakehouse.privacy.erasure.rows import Manner
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.erasure.tables import Work, erase_past
from lakehouse.privacy.erasure.trees import Choice, FileTree
from lakehouse.recovery.tree import BackupTree, backup_trees, changing_backups
from lakehouse.settings import Settings
from lakehouse.tables.names import TableName
from lakehouse.tables.storage import StoredFile

_RECORDS = ("tables/files/", "home/landing/")
_PATIENCE_S = 600.0
_ARCHIVED = re.compile(r"(home/archive/[a-z]+/([a-z][a-z0-9_]*)/([a-z][a-z0-9_]*))/_delta_log/\d{20}\.json")


class BackupFiles:
    """A backup's files as erasure reads and writes them; what is written counts when the tree is committed."""

    def __init__(self, tree: BackupTree, scratch: Path) -> None:
        self._tree = tree
        self._scratch = scratch
        self._fetched: dict[str, str] = {}
        self.is_changed = False

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Every file below a folder."""
        below = f"{prefix}/" if prefix else ""
        return iter([file for file in self._tree.files() if file.path.startswith(below)])

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None."""
        try:
            return self._tree.read(path)
        except BackupNotFound:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Give a file these bytes."""
        self._change({path: data})

    def get(self, path: str, to: Path) -> None:
        """Fetch a file to a local path."""
        self._tree.get(path, to)

    def put(self, source: Path, path: str) -> None:
        """Give a file the bytes of a local one."""
        self._change({path: source})

    def delete(self, paths: Iterable[str]) -> None:
        """Take files out of the backup."""
        there = {file.path for file in self._tree.files()}
        gone = [path for path in paths if path in there]
        if gone:
            self._change(dict.fromkeys(gone))

    def address(self, *parts: str) -> str:
        """A local path that DuckDB reads a file from: what is in a bucket is fetched, each content once."""
        path = "/".join(parts)
        if self._tree.is_local:
            return self._tree.address(path)
        digest = self._tree.digest(path)
        if digest not in self._fetched:
            local = self._scratch / uuid.uuid4().hex
            self._tree.get(path, local)
            self._fetched[digest] = str(local)
        return self._fetched[digest]

    def digest(self, path: str) -> str:
        """Names a file's content."""
        return self._tree.digest(path)

    def _change(self, changes: Mapping[str, bytes | Path | None]) -> None:
        self._tree.replace(changes)
        self.is_changed = True


@dataclass(frozen=True, slots=True)
class ErasedBackup:
    """A backup that held something of the subject."""

    backup: str
    rows: int
    files: int


@dataclass(frozen=True)
class BackupWork:
    """What erasing from backups needs.

    Attributes:
        manners: how the rows of each table are taken to be the subject's; a table that is not there any more counts as derived.
    """

    settings: Settings
    con: duckdb.DuckDBPyConnection
    who: Identifiers
    keys: tuple[Key, ...]
    erasure: str
    now: datetime
    scratch: Path
    manners: Mapping[TableName, Manner]
    dry_run: bool = False


def erase_from_backups(uri: str, work: BackupWork, *, told: Callable[[str], None]) -> list[ErasedBackup]:
    """Take a subject out of all backups at a place; returns those that held something.

    Raises:
        BackupBusy: a backup is being made there.
        BackupDamaged: a manifest or an object is not as it was written.
    """
    if work.dry_run:
        return [one for tree in backup_trees(uri, work.settings) if (one := _erase(tree, work, set(), set(), told)).files]
    tables, files = set[str](), set[str]()
    with changing_backups(uri, work.settings, patience_s=_PATIENCE_S) as trees:
        return [one for tree in trees if (one := _erase(tree, work, tables, files, told)).files]


def _tables_of(tree: BackupTree) -> dict[str, TableName]:
    """Every table of a backup by its folder, those of the archive included; backups were made that have it among the files of the home."""
    found = {
        f"{prefix}{name.replace('.', '/')}": TableName.parse(name) for prefix, names in tree.manifest.roots().items() for name in names
    }
    in_home = (_ARCHIVED.match(file.path) for file in tree.files())
    return found | {one[1]: TableName(one[2], one[3]) for one in in_home if one}


def _erase(tree: BackupTree, work: BackupWork, clean_tables: set[str], clean_files: set[str], told: Callable[[str], None]) -> ErasedBackup:
    told(f"backup {tree.id}")
    view = BackupFiles(tree, work.scratch)
    rows = files = 0
    tables = _tables_of(tree)
    for folder, name in tables.items():
        who = work.who.everywhere() if name.layer == "monitoring" else work.who
        one = Work(view, work.con, who, work.erasure, work.now, work.scratch, work.dry_run, clean_tables)
        done = erase_past(one, folder, work.manners.get(name, Manner(shares_columns=True)))
        rows, files = rows + done.rows_ever, files + done.files + done.commits
    folders = tuple(f"{folder}/" for folder in tables)
    everywhere = work.who.everywhere()
    looker = FileTree(
        view, Files(work.con, everywhere, keys=work.keys, scratch=work.scratch), everywhere, scratch=work.scratch, is_local=False
    )
    for file in list(view.walk()):
        digest = view.digest(file.path)
        if file.path.startswith(folders) or (digest in clean_files and not everywhere.mentioned_in(file.path)):
            continue
        if not looker.holds(file.path):
            clean_files.add(digest)
            continue
        files += 1
        if not work.dry_run:
            looker.clean(file.path, Choice(has_records=file.path.startswith(_RECORDS)))
    if view.is_changed:
        tree.commit()
    return ErasedBackup(tree.id, rows, files)
