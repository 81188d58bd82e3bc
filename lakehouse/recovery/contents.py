"""What a backup of a home consists of: exactly the files of some versions of its tables, and what else cannot be made again."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lakehouse.recovery.databases import SIDECARS
from lakehouse.recovery.manifest import HOME, KEYS, TABLES, Entry, Manifest
from lakehouse.settings import Settings
from lakehouse.tables import Lake, TableName
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.storage import Storage
from lakehouse.tables.stored import StoredFile

ORIGINALS = "files/"
CHECKSUMS = "_checksums/"
# What is made again when it is needed, what has not been taken in yet, and keys, which have a place of their own.
_NOT_OF_HOME = {"landing", "tmp", "dbt", "index", "keys", "online"}
_NOT_IN_HOME = re.compile(r"^registry/locks/|\.lock$|^\.|/\.[^/]*\.(new|tmp)$|\.tmp$")
_LOG_FILE = re.compile(r"(\d{20})\.(json|checkpoint\..+|crc)|(\d+)\.(\d+)\.compacted\.json")
_PARALLEL = 16


class Vanished(Exception):
    """A file that belongs to the versions of a backup was removed before it was read: newer versions have to be taken."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file to back up.

    Attributes:
        path: its path in the backup.
        storage: where it is.
        stored: what its storage says of it.
        is_needed: without it the backup would not be whole; else it is left out where it is gone.
        is_database: it is written to while it is read.
    """

    path: str
    storage: Storage
    stored: StoredFile
    is_needed: bool = True
    is_database: bool = False

    def is_as_in(self, entry: Entry | None) -> bool:
        """Whether an earlier backup has read it, and it has not been written to since."""
        return entry is not None and entry.size_bytes == self.stored.size_bytes and entry.modified == self.stored.modified


@dataclass(slots=True)
class Contents:
    """All items of one backup, and what a reader might miss."""

    items: list[Item] = field(default_factory=list[Item])
    left_out: list[str] = field(default_factory=list[str])


def tables_contents(lake: Lake, versions: Mapping[str, int], parent: Manifest | None, *, prefix: str = TABLES) -> Contents:
    """The files of these versions of the tables: their logs up to there, every data file that these name, and the originals.

    Earlier versions that can still be read come along, for a model's training set or a tag may be among them.

    Args:
        lake: holds the tables.
        versions: of the tables, by `layer.name`.
        parent: the backup before.
        prefix: what the paths in the backup begin with.

    Raises:
        Vanished: a data file of one of the versions is gone.
    """
    contents = Contents()
    listed: dict[str, dict[str, StoredFile]] = {name: {} for name in versions}
    for file in lake.storage.walk(""):
        parts = file.path.split("/", 2)
        name = f"{parts[0]}.{parts[1]}" if len(parts) == 3 else ""
        if name in listed:
            listed[name][parts[2]] = file
        elif file.path.startswith((ORIGINALS, CHECKSUMS)) and not _NOT_IN_HOME.search(file.path):
            contents.items.append(Item(prefix + file.path, lake.storage, file))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        before = _Before(prefix, parent, parent.roots().get(prefix, {}) if parent else {})
        found = pool.map(lambda name: _files_of_table(lake, TableName.parse(name), versions[name], listed[name], before), versions)
        for one in found:
            contents.items += one.items
            contents.left_out += one.left_out
    return contents


@dataclass(frozen=True, slots=True)
class _Before:
    """What the backup before has of a root of tables."""

    prefix: str
    manifest: Manifest | None
    versions: Mapping[str, int]


def _files_of_table(lake: Lake, table: TableName, version: int, listed: Mapping[str, StoredFile], before: _Before) -> Contents:
    contents = Contents()
    folder = f"{table.layer}/{table.name}"
    for path, file in listed.items():
        if path.startswith("_delta_log/") and _is_log_until(path.removeprefix("_delta_log/"), version):
            contents.items.append(Item(f"{before.prefix}{folder}/{path}", lake.storage, file))
    known, since = _known(before, folder, str(table), listed)
    named = known | _named_by_commits(lake, folder, range(since + 1, version + 1), listed)
    if not _has_whole_log(listed, version):
        named |= {file.path for file in _snapshot(lake, table, version).files}
    outside = sorted(path for path in named if "://" in path or path.startswith("/"))
    if outside:
        contents.left_out.append(f"{len(outside)} data files of {table} that lie outside its folder, such as {outside[0]}")
    gone = [path for path in named - set(outside) if path not in listed]
    if gone:
        needed = {file.path for file in _snapshot(lake, table, version).files}
        if needed.intersection(gone):
            raise Vanished(f"{table}: {sorted(needed.intersection(gone))[0]}")
    contents.items += [
        Item(f"{before.prefix}{folder}/{path}", lake.storage, listed[path], is_needed=False) for path in sorted(named) if path in listed
    ]
    return contents


def _snapshot(lake: Lake, table: TableName, version: int) -> Snapshot:
    return lake.snapshot(table, version)


def _is_log_until(name: str, version: int) -> bool:
    found = _LOG_FILE.fullmatch(name)
    return found is not None and int(found[1] or found[4]) <= version


def _has_whole_log(listed: Mapping[str, StoredFile], version: int) -> bool:
    return all(f"_delta_log/{one:020d}.json" in listed for one in range(version + 1))


def _known(earlier: _Before, folder: str, table: str, listed: Mapping[str, StoredFile]) -> tuple[set[str], int]:
    """Data files that the earlier backup's version names, and that version; -1 where the table is another one now."""
    parent = earlier.manifest
    if parent is None or table not in earlier.versions:
        return set(), -1
    since = earlier.versions[table]
    prefix = f"{earlier.prefix}{folder}/"
    for one in {0, since}:
        log = f"_delta_log/{one:020d}.json"
        before, file = parent.files.get(prefix + log), listed.get(log)
        if before is None or file is None or (before.size_bytes, before.modified) != (file.size_bytes, file.modified):
            return set(), -1
    paths = (path.removeprefix(prefix) for path in parent.files if path.startswith(prefix))
    return {path for path in paths if not path.startswith("_delta_log/")}, since


def _named_by_commits(lake: Lake, folder: str, versions: Collection[int], listed: Mapping[str, StoredFile]) -> set[str]:
    logs = [f"_delta_log/{version:020d}.json" for version in versions]
    contents = lake.storage.read_all([f"{folder}/{log}" for log in logs if log in listed])
    return {path for content in contents if content is not None for path in paths_in_commit(content)}


def paths_in_commit(content: bytes) -> Iterator[str]:
    """Data files that a commit adds, relative to the table: rows, changes, and rows that other engines took out."""
    for line in content.splitlines():
        if not line.startswith((b'{"add":', b'{"cdc":')):
            continue
        action: dict[str, Any] = next(iter(json.loads(line).values()))
        yield unquote(action["path"])
        dead = action.get("deletionVector") or {}
        if dead.get("storageType") == "u":
            yield _dead_rows_path(str(dead["pathOrInlineDv"]))


def _dead_rows_path(encoded: str) -> str:
    """Where a deletion vector is: a random prefix, then a UUID in the Z85 alphabet (Delta's protocol)."""
    import uuid

    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    prefix, code = encoded[:-20], encoded[-20:]
    data = b""
    for start in range(0, 20, 5):
        number = 0
        for character in code[start : start + 5]:
            number = number * 85 + alphabet.index(character)
        data += number.to_bytes(4, "big")
    name = f"deletion_vector_{uuid.UUID(bytes=data)}.bin"
    return f"{prefix}/{name}" if prefix else name


def home_contents(settings: Settings) -> Contents:
    """What else is in the home: contracts, the registry, Dagster's storage, alerts, and what later parts put there."""
    contents = Contents()
    home = Storage(str(settings.home_dir), {})
    # The tables and their archive are looked at by their logs.
    roots = [Path(uri) for uri in (settings.tables_uri, settings.archive_root) if "://" not in uri]
    inside = [name for name in home.folders() if name not in _NOT_OF_HOME and not name.startswith(".")]
    for name in inside:
        if settings.home_dir / name in roots:
            continue
        contents.items += [_home_item(home, file) for file in home.walk(name) if _belongs(settings, file, roots)]
    for name in home.files(""):
        status = (settings.home_dir / name).stat()
        file = StoredFile(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
        if _belongs(settings, file, roots):
            contents.items.append(_home_item(home, file))
    return contents


def _belongs(settings: Settings, file: StoredFile, roots: Collection[Path]) -> bool:
    place = settings.home_dir / file.path
    return _is_kept(file.path) and place != settings.key_file and not any(place.is_relative_to(root) for root in roots)


def _is_kept(path: str) -> bool:
    return not _NOT_IN_HOME.search(path) and not path.endswith(SIDECARS)


def _home_item(home: Storage, file: StoredFile) -> Item:
    is_database = file.path.endswith((".db", ".sqlite", ".sqlite3"))
    return Item(HOME + file.path, home, file, is_needed=False, is_database=is_database)


def key_contents(settings: Settings) -> Contents:
    """The keys of the home: everything in their folder, or the one file where it lies elsewhere."""
    folder, name = settings.key_file.parent, settings.key_file.name
    storage = Storage(str(folder), {})
    is_own = folder == settings.home_dir / "keys"
    files = [file for file in storage.walk("") if (is_own or file.path == name) and not file.path.endswith((".tmp", ".lock"))]
    return Contents([Item(KEYS + file.path, storage, file) for file in files])
