"""Digests of the files of a live home: what a later look compares with, so that a disk that forgets is found out.

They are kept at `<root>/_checksums/<number>-<sha256>.ndjson`. A file of digests is named by its own: it can't be damaged unnoticed
either, which a table, whose newest entry nobody vouches for, could be.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.recovery.contents import CHECKSUMS
from lakehouse.recovery.manifest import TABLES, Entry
from lakehouse.tables.storage import Storage

_FOLDER = CHECKSUMS.rstrip("/")
_MOST_FILES = 24


@dataclass(frozen=True, slots=True)
class Index:
    """The digests that were noted.

    Attributes:
        entries: by path, as in a backup: `tables/...` or `home/...`.
        damaged: files of digests whose name is not that of their content; nothing of them is used.
    """

    entries: Mapping[str, Entry]
    damaged: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), repr=False)


def read_index(storage: Storage) -> Index:
    """What was noted so far; of two notes on a path the later one counts."""
    names = [name for name in storage.files(_FOLDER) if name.endswith(".ndjson") and not name.startswith(".")]
    entries: dict[str, Entry] = {}
    damaged: list[str] = []
    paths = [f"{_FOLDER}/{name}" for name in names]
    for path, data in zip(paths, storage.read_all(paths), strict=True):
        if data is None:
            continue
        if hashlib.sha256(data).hexdigest() != path.removesuffix(".ndjson").rpartition("-")[2]:
            damaged.append(path)
            continue
        for line in data.splitlines():
            noted = json.loads(line)
            if noted["sha256"] is None:
                entries.pop(noted["path"], None)
            else:
                entries[noted["path"]] = Entry.from_dict(noted)
    return Index(entries, tuple(damaged), tuple(paths))


def note(storage: Storage, index: Index, new: Mapping[str, Entry]) -> None:
    """Add digests; many small files of them become one."""
    if not new:
        return
    if len(index.files) < _MOST_FILES or index.damaged:
        _write(storage, index.files, [{"path": path, **entry.as_dict()} for path, entry in new.items()])
        return
    whole = {**index.entries, **new}
    _write(storage, index.files, [{"path": path, **entry.as_dict()} for path, entry in whole.items()])
    storage.delete(index.files)


def forget(storage: Storage, paths: Iterable[str], *, prefix: str = TABLES) -> None:
    """Let files that were rewritten on purpose be noted anew: without it they would count as damaged.

    Args:
        storage: the root of the tables.
        paths: relative to the root, such as `raw/people/_delta_log/00000000000000000000.json`; with a slash at its end, all below it.
        prefix: of the root that the paths are under: the tables, or a tier of the archive.
    """
    index = read_index(storage)
    wanted = tuple(f"{prefix}{path}" for path in paths)
    below = tuple(path for path in wanted if path.endswith("/"))
    gone = [path for path in index.entries if path in wanted or path.startswith(below)]
    if gone:
        _write(storage, index.files, [{"path": path, "sha256": None} for path in gone])


def _write(storage: Storage, before: Iterable[str], lines: Iterable[Mapping[str, object]]) -> None:
    data = b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines)
    numbers = [int(name) for path in before if (name := path.removeprefix(CHECKSUMS).partition("-")[0]).isdigit()]
    storage.create(f"{CHECKSUMS}{max(numbers, default=0) + 1:010d}-{hashlib.sha256(data).hexdigest()}.ndjson", data)


def modified_alike(one: datetime | None, other: datetime | None) -> bool:
    """Whether nobody has written in between."""
    return one is not None and one == other
