"""Looking for one subject in everything that a home consists of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import Key
from lakehouse.privacy.erasure.files import Files
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.erasure.suppression import is_erased_sql, prepare, suppressed
from lakehouse.privacy.erasure.trees import FileTree
from lakehouse.tables import Lake
from lakehouse.tables.storage import Storage
from lakehouse.tables.tiers import archive_tiers

_NOT_LOOKED_AT = ("tmp/", "keys/", "privacy/erasing/")
_ONLINE = "online/"
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Place:
    """A local folder beside the tables.

    Attributes:
        is_landing: files arrive there.
        skips: whether a path is looked at elsewhere, or not at all.
    """

    storage: Storage
    is_landing: bool
    skips: Callable[[str], bool]

    def skips_online(self, path: str) -> bool:
        """The same, and the online store, whose rows are more than cells."""
        return self.skips(path) or (not self.is_landing and path.startswith(_ONLINE))


def places(workspace: Workspace) -> Iterator[Place]:
    """The home, without what has a place of its own, and the landing folder."""
    settings = workspace.settings
    for folder, is_landing in ((settings.home_dir, False), (settings.landing_dir, True)):
        if folder.is_dir():
            yield Place(Storage(str(folder), {}), is_landing, _skips(workspace, folder, is_landing=is_landing))


def backup_places(workspace: Workspace, more: Sequence[str]) -> list[str]:
    """Places of backups: the setting's and those that were given."""
    own = workspace.settings.backup_uri
    return list(dict.fromkeys([*([own] if own else []), *more]))


def _skips(workspace: Workspace, root: Path, *, is_landing: bool) -> Callable[[str], bool]:
    settings = workspace.settings
    elsewhere = [Path(one) for one in (settings.tables_uri, settings.archive_root, settings.backup_uri) if one and "://" not in one]
    elsewhere += [settings.key_file] if is_landing else [settings.landing_dir, settings.key_file]
    inside = tuple(str(path.relative_to(root)) for path in elsewhere if path.is_relative_to(root) and path != root)

    def skip(path: str) -> bool:
        if not is_landing and path.startswith(_NOT_LOOKED_AT):
            return True
        return path.endswith(_LOCK) or any(path == one or path.startswith(one + "/") for one in inside)

    return skip


@dataclass(frozen=True)
class Search:
    """Looks for what is left of a subject.

    Args:
        con: reads Parquet.
        keys: open encrypted files.
        scratch: a private folder.
        backups: places of backups beside the setting's.
    """

    workspace: Workspace
    con: duckdb.DuckDBPyConnection
    keys: Sequence[Key]
    scratch: Path
    backups: Sequence[str] = ()

    def left(self, who: Identifiers) -> list[str]:
        """Every file that has a word of the subject in any form: under the root and in the archive, in the home, in the landing folder, in backups."""
        found: list[str] = []
        for tier, lake in self._tiers.items():
            lake.configure(self.con)
            tree = self._tree(lake.storage, who)
            below = "" if lake is self.workspace.lake else f"{tier}/"
            found += [who.masked(below + file.path) for file in tree.holding(skip=lambda _path: False)]
        for place in places(self.workspace):
            tree = self._tree(place.storage, who)
            found += [who.masked(place.storage.address(file.path)) for file in tree.holding(skip=place.skips)]
        for uri in backup_places(self.workspace, self.backups):
            storage = Storage(uri, self.workspace.settings.storage_options if "://" in uri else {})
            found += [who.masked(storage.address(file.path)) for file in self._tree(storage, who).holding(skip=lambda _path: False)]
        return found

    def hashed(self, dataset: str, column: str, fingerprint: str) -> list[str]:
        """Tables whose newest version has rows of a subject of whom only the keyed hash is known."""
        key = self.keys[0]
        prepare(self.con, key)
        listed = [one for one in suppressed(self.workspace.lake, self.con, dataset) if one.column == column and fingerprint in one.hashes]
        found: list[str] = []
        for tier, lake in self._tiers.items() if listed else ():
            lake.configure(self.con)
            for name in lake.tables():
                columns = list(lake.schema(name))
                if column not in columns:
                    continue
                condition = is_erased_sql(dataset, listed, columns, key)
                rows = self.con.execute(f"SELECT count(*) FROM ({lake.scan_sql(name, con=self.con)}) WHERE {condition}").fetchone()
                if rows and rows[0]:
                    found.append(f"{'' if lake is self.workspace.lake else f'{tier}/'}{name}: {rows[0]} rows")
        return found

    @property
    def _tiers(self) -> Mapping[str, Lake]:
        return archive_tiers(self.workspace.settings, self.workspace.lake)

    def _tree(self, storage: Storage, who: Identifiers) -> FileTree:
        files = Files(self.con, who, keys=self.keys, scratch=self.scratch)
        return FileTree(storage, files, who, scratch=self.scratch, is_local=storage.is_local)
