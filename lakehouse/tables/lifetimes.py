"""From which version to which each data file was part of a table, read from the whole of its log."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from lakehouse.errors import TableError
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.ranges import Ranges, joined
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.storage import Storage

_CHUNK = 512
_MARKS = (b'"add"', b'"remove"', b'"cdc"')


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Versions that a file is part of: from `added` up to the one before `removed`; None where it still is.

    A restore can bring a file back, which then has another lifetime.
    """

    added: int
    removed: int | None

    def holds(self, versions: Sequence[int]) -> bool:
        """Whether the file is part of one of these versions."""
        return any(self.added <= version and (self.removed is None or version < self.removed) for version in versions)


@dataclass
class Replay:
    """The files of a table through its versions, up to the one that was read last.

    Attributes:
        lifetimes: of the data files.
        changes: the version that each file of changed rows tells about.
    """

    storage: Storage
    table: TableName
    log: CommitLog
    lifetimes: dict[str, list[Lifetime]] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    oldest: int = 0
    newest: int = -1

    def catch_up(self) -> None:
        """Read what was committed since; the first time everything.

        Raises:
            TableError: an entry of the log can't be read.
        """
        versions = self.log.versions()
        if self.newest < 0 and versions and versions[0] > 0:
            self._begin_at(versions[0])
        new = [version for version in versions if version > self.newest]
        for start in range(0, len(new), _CHUNK):
            chunk = new[start : start + _CHUNK]
            for version, content in zip(chunk, self.log.contents(chunk), strict=True):
                self._apply(version, content)

    def _begin_at(self, version: int) -> None:
        """Another program has removed the older entries of the log: what they left is in a checkpoint."""
        snapshot = Snapshot.open(self.storage, self.table, version, even_gone=True)
        for file in snapshot.files if snapshot is not None else ():
            self.lifetimes[file.path] = [Lifetime(version, None)]
        self.oldest = self.newest = version

    def _apply(self, version: int, content: bytes | None) -> None:
        for path, kind in _named(self.table, version, content):
            if kind == "cdc":
                self.changes[path] = version
                continue
            is_added = kind == "add"
            known = self.lifetimes.setdefault(path, [])
            is_there = bool(known) and known[-1].removed is None
            if is_added and not is_there:
                known.append(Lifetime(version, None))
            elif not is_added and is_there:
                known[-1] = Lifetime(known[-1].added, version)
        self.newest = version

    def are_part_of(self, path: str, versions: Sequence[int]) -> bool:
        """Whether a file is part of one of the versions."""
        return any(lifetime.holds(versions) for lifetime in self.lifetimes[path])

    def changes_of(self, versions: Ranges, *, needed: Collection[int]) -> list[str]:
        """Files of changed rows of these versions, but for those that are needed."""
        return sorted(
            path
            for path, version in self.changes.items()
            if version not in needed and any(first <= version <= last for first, last in versions)
        )

    def versions_of(self, paths: Iterable[str]) -> Ranges:
        """All versions that have one of the files."""
        return joined(
            (lifetime.added, (self.newest + 1 if lifetime.removed is None else lifetime.removed) - 1)
            for path in paths
            for lifetime in self.lifetimes[path]
        )


def _named(table: TableName, version: int, content: bytes | None) -> Iterator[tuple[str, str]]:
    """Paths that a commit removes, names as changes, and adds; removals first, since a commit may do both to one file."""
    added: list[str] = []
    try:
        if content is None:
            raise ValueError("it is gone")
        for line in content.splitlines():
            if not any(mark in line for mark in _MARKS):
                continue
            action = json.loads(line)
            if "remove" in action:
                yield unquote(action["remove"]["path"]), "remove"
            elif "cdc" in action:
                yield unquote(action["cdc"]["path"]), "cdc"
            elif "add" in action:
                added.append(unquote(action["add"]["path"]))
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{table}, version {version}",
            f"has an entry in the log that can't be read: {error}; nothing was removed",
            fix="Bring the log back from a backup: lakehouse restore-backup",
        ) from error
    for path in added:
        yield path, "add"
