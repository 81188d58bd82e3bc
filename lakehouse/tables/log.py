"""A table's commits, read from its Delta log.

The newest N cost N small reads, and a commit that was read once is remembered: it never changes.
"""

import os
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from lakehouse.durable import folders_above, sync_all
from lakehouse.errors import TableError, TableNotFound
from lakehouse.tables.damage import readable_lines
from lakehouse.tables.names import TableName
from lakehouse.tables.stamp import CommitInfo
from lakehouse.tables.storage import Storage

_COMMIT_FILE = re.compile(r"(\d{20})\.json")
_MARK = b'{"commitInfo":'


class CommitLog:
    """The commits of one table."""

    def __init__(self, storage: Storage, table: TableName) -> None:
        self._storage = storage
        self._table = table
        self._folder = f"{table.layer}/{table.name}/_delta_log"
        self._known: dict[int, CommitInfo] = {}
        self._versions: list[int] = []
        self._lock = threading.Lock()

    def versions(self) -> list[int]:
        """Versions whose commit is still in the log, oldest first."""
        with self._lock:
            # Listing a long log takes longer than a look at its ends; it has no gaps, so what is new follows the last.
            if not self._storage.is_local or not self._versions or not all(map(self._is_there, (self._versions[0], self._versions[-1]))):
                names = self._storage.files(self._folder)
                self._versions = [int(found[1]) for name in names if (found := _COMMIT_FILE.fullmatch(name))]
            else:
                while self._is_there(self._versions[-1] + 1):
                    self._versions.append(self._versions[-1] + 1)
            return list(self._versions)

    def _is_there(self, version: int) -> bool:
        return os.path.exists(self.address(version))

    def address(self, version: int) -> str:
        """Where one version's commit is kept."""
        return self._storage.address(self._path(version))

    def checkpoint_addresses(self, version: int) -> list[str]:
        """The files of a version's checkpoint in a local folder; none if it has none."""
        checkpoint = self._storage.address(f"{self._folder}/{version:020d}.checkpoint.parquet")
        return [checkpoint, self._storage.address(f"{self._folder}/_last_checkpoint")] if os.path.exists(checkpoint) else []

    def base_to_disk(self, version: int, paths: Iterable[str]) -> None:
        """Wait for what a commit will rest on: its data files, and the version before it, whose writer may not have come that far.

        Raises:
            TableError: the disk refuses it, or a file is gone; no version has the data files.
        """
        if not self._storage.is_local:
            return
        table = self._storage.address(self._table.layer, self._table.name)
        files = [self._storage.address(path) for path in paths]
        folders = {folder for file in files for folder in folders_above(file, table)}
        if os.path.exists(self.address(version)):
            files.append(self.address(version))
        _to_disk(self._table, [*files, *folders], "Nothing was written; the table is as it was")

    def commit_to_disk(self, version: int) -> None:
        """Wait for a commit itself, and for the checkpoint that delta-rs may have made of it.

        Raises:
            TableError: the disk refuses it.
        """
        if not self._storage.is_local:
            return
        entry = self.address(version)
        # A new table's folders are new as well.
        folders = folders_above(entry, self._storage.root) if version == 0 else folders_above(entry, self._storage.root)[:1]
        fix = f"Version {version} is there, but a power cut may undo it: look at the disk before you write more"
        _to_disk(self._table, [entry, *self.checkpoint_addresses(version), *folders], fix)

    def _path(self, version: int) -> str:
        return f"{self._folder}/{version:020d}.json"

    def commit_metadata(self, version: int) -> dict[str, object] | None:
        """The `commitInfo` of one version, or None if there is no such commit."""
        content = self._storage.read(self._path(version))
        return None if content is None else _commit_info(self._table, version, content)

    def newest_transaction(self, app_id: str) -> int | None:
        """The transaction that the newest commit itself made for a source; None where an older one may have."""
        versions = self.versions()
        content = self._storage.read(self._path(versions[-1])) if versions else None
        for action in readable_lines(self._table, versions[-1], content, [b'{"txn":']) if content else ():
            made: dict[str, Any] = action["txn"]
            if made["appId"] == app_id:
                return int(made["version"])
        return None

    def contents(self, versions: list[int]) -> list[bytes | None]:
        """The bytes of the given commits, None for those that are gone."""
        return self._storage.read_all([self._path(version) for version in versions])

    def commits(self, versions: list[int]) -> list[CommitInfo]:
        """The given versions' commits, in the order asked for; those that are gone are left out."""
        missing = [version for version in versions if version not in self._known]
        contents = self._storage.read_all([self._path(version) for version in missing])
        with self._lock:
            for version, content in zip(missing, contents, strict=True):
                if content is not None:
                    self._known[version] = CommitInfo.from_log(self._table, version, _commit_info(self._table, version, content))
            return [self._known[version] for version in versions if version in self._known]

    def history(self, limit: int | None = None) -> list[CommitInfo]:
        """Newest first."""
        versions = self.versions()[::-1]
        return self.commits(versions if limit is None else versions[:limit])

    def content_version(self, version: int) -> int:
        """The version whose commit last changed a row, up to this one: versions of equal content have equal rows."""
        while version > 0:
            commits = self.commits([version])
            if not commits or commits[0].changes_rows:
                break
            version -= 1
        return version

    def equal_versions(self, version: int) -> list[int]:
        """Later versions that have the rows of this one: maintenance made them from it; the newest first."""
        later: list[int] = []
        while (found := self.commits([version + 1])) and not found[0].changes_rows:
            version += 1
            later.append(version)
        return later[::-1]

    def version_at(self, instant: datetime) -> int:
        """The version that was current at an instant; one without a zone is taken as UTC.

        Raises:
            TableNotFound: the instant is before the oldest version that is left.
        """
        at = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
        versions = self.versions()
        low, high = 0, len(versions)
        while low < high:
            middle = (low + high) // 2
            if self._time_of(versions[middle]) <= at:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            oldest = (
                f"the oldest is version {versions[0]} of {self._time_of(versions[0]).isoformat()}" if versions else "it has no versions"
            )
            raise TableNotFound(
                str(self._table),
                f"did not exist at {at.isoformat()}",
                expected="a time at or after its first version",
                found=oldest,
                fix="Ask for a later time",
            )
        return versions[low - 1]

    def _time_of(self, version: int) -> datetime:
        return self.commits([version])[0].timestamp


def _commit_info(table: TableName, version: int, content: bytes) -> dict[str, Any]:
    found = readable_lines(table, version, content, [_MARK])
    return found[0]["commitInfo"] if found else {}


def _to_disk(table: TableName, paths: Iterable[str], fix: str) -> None:
    try:
        sync_all(paths)
    except OSError as error:
        problem, found = "can't be brought to disk", error.strerror or str(error)
        raise TableError(f"{table}, file {error.filename}", problem, found=found, fix=fix) from error
