"""Which rows a table's commits deleted and inserted between two versions, as the commits themselves tell it.

A commit that names files of changed rows is told by them alone. Of any other, the files that it adds and removes are its inserted and
deleted rows, unless it says that it changes none. That is how Delta's change data feed is read, by whichever program it was written.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import duckdb

from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.damage import readable_lines
from lakehouse.tables.feed import CHANGE_TYPE, COMMIT_VERSION, ChangeType
from lakehouse.tables.log import CommitLog
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.sql import glob_escape
from lakehouse.tables.storage import Storage
from lakehouse.tables.types import TableColumn

_CHUNK = 512
_ACTIONS = [b'{"add":', b'{"remove":', b'{"cdc":', b'{"metaData":']
_FILE = "__lakehouse_changes_file"


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file whose rows a version changed: each row says how, or all of them were inserted, or deleted."""

    path: str
    version: int
    size_bytes: int
    change: ChangeType | None


@dataclass(frozen=True)
class Changes:
    """What the commits after one version, up to another, did to the rows of a table.

    Attributes:
        since: the version that it begins after.
        until: the version that it ends with.
        files: where the rows are, in the order of the versions.
        snapshot: of `until`.
    """

    since: int
    until: int
    files: tuple[ChangedFile, ...]
    snapshot: Snapshot

    @property
    def size_bytes(self) -> int:
        """Of all files that tell it."""
        return sum(file.size_bytes for file in self.files)

    def are_there(self, storage: Storage) -> bool:
        """Whether every file can still be read: vacuum may have removed some."""
        table = self.snapshot.table
        return all(storage.are_there([f"{table.layer}/{table.name}/{path}" for path in dict.fromkeys(file.path for file in self.files)]))

    def scan_sql(self, con: duckdb.DuckDBPyConnection) -> str:
        """A SELECT of every row that was deleted or inserted: the table's columns, CHANGE_TYPE and COMMIT_VERSION.

        A row that several commits changed is there as often; with the deleted rows taken from the inserted ones it is the difference.
        """
        parts: list[str] = []
        for change in (None, ChangeType.INSERT, ChangeType.DELETE):
            files = [file for file in self.files if file.change is change]
            if files:
                parts.append(self._scan(con, files, change))
        if parts:
            return "\nUNION ALL\n".join(parts)
        empty = [f"CAST(NULL AS {column.sql_type}) AS {quote_identifier(column.name)}" for column in self.snapshot.columns]
        empty += [
            f"CAST(NULL AS VARCHAR) AS {quote_identifier(CHANGE_TYPE)}",
            f"CAST(NULL AS BIGINT) AS {quote_identifier(COMMIT_VERSION)}",
        ]
        return f"SELECT {', '.join(empty)} WHERE false"

    def _scan(self, con: duckdb.DuckDBPyConnection, files: Iterable[ChangedFile], change: ChangeType | None) -> str:
        addresses = {file.path: f"{self.snapshot.uri}/{file.path}" for file in files}
        listed = ", ".join(quote_literal(glob_escape(address)) for address in addresses.values())
        source = f"read_parquet([{listed}], union_by_name=true, filename={quote_literal(_FILE)}, {self._partitions()})"
        present = {str(row[0]).casefold() for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        # A file that came, went and came back by a restore is read once, and counts each time.
        versions = ", ".join(f"({quote_literal(addresses[file.path])}, {file.version})" for file in files)
        selected = [self._select(column, present) for column in self.snapshot.columns]
        kind = quote_literal(str(change)) if change else f"f.{quote_identifier(CHANGE_TYPE)}"
        return (
            f"SELECT {', '.join(selected)}, {kind} AS {quote_identifier(CHANGE_TYPE)}, "
            f"CAST(v.version AS BIGINT) AS {quote_identifier(COMMIT_VERSION)} FROM {source} f "
            f"JOIN (VALUES {versions}) v(file, version) ON f.{quote_identifier(_FILE)} = v.file"
        )

    def _partitions(self) -> str:
        by = self.snapshot.partition_by
        types = {column.name: column.sql_type for column in self.snapshot.columns}
        pairs = ", ".join(f"{quote_literal(name)}: {'VARCHAR' if '(' in types[name] else types[name]}" for name in by)
        return f"hive_partitioning=true, hive_types={{{pairs}}}" if by else "hive_partitioning=false"

    @staticmethod
    def _select(column: TableColumn, present: set[str]) -> str:
        name = quote_identifier(column.name)
        return f"CAST({f'f.{name}' if column.key in present else 'NULL'} AS {column.sql_type}) AS {name}"


def read_changes(log: CommitLog, since: Snapshot, until: Snapshot) -> Changes | None:
    """What the commits between two versions did; None where they can't tell.

    They can't where columns were renamed, retyped or dropped, or the table was partitioned anew; where another engine marked rows as
    deleted; and where commits or files lie elsewhere or have gone.

    Raises:
        TableDamaged: a commit can't be read.
    """
    if since.version >= until.version:
        return Changes(since.version, until.version, (), until) if since.version == until.version else None
    reading = _Reading(since)
    wanted = list(range(since.version + 1, until.version + 1))
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for version, content in zip(chunk, log.contents(chunk), strict=True):
            if content is None or not reading.take(version, readable_lines(since.table, version, content, _ACTIONS)):
                return None
    is_whole = reading.live.keys() == {file.path for file in until.files} and reading.schema == _types(
        json.loads(until.delta.schema().to_json())
    )
    if not is_whole or any("://" in file.path or file.path[0] == "/" for file in reading.files):
        return None
    if until.partition_by and not all(f"/{name}=" in f"/{file.path}" for file in reading.files for name in until.partition_by):
        return None
    return Changes(since.version, until.version, tuple(reading.files), until)


@dataclass
class _Reading:
    """The commits that were read so far."""

    since: Snapshot
    live: dict[str, int] = field(init=False)
    schema: dict[str, Any] = field(init=False)
    files: list[ChangedFile] = field(default_factory=list[ChangedFile])

    def __post_init__(self) -> None:
        self.live = {file.path: file.size for file in self.since.files}
        self.schema = _types(json.loads(self.since.delta.schema().to_json()))

    def take(self, version: int, actions: list[dict[str, Any]]) -> bool:
        """Take a commit in; whether it can tell what it changed."""
        bodies: dict[str, list[dict[str, Any]]] = {"add": [], "remove": [], "cdc": [], "metaData": []}
        for action in actions:
            for kind, body in action.items():
                if kind in bodies:
                    bodies[kind].append(body)
        if any(body.get("deletionVector") for kind in ("add", "remove") for body in bodies[kind]):
            return False
        if not all(self._fits(body) for body in bodies["metaData"]):
            return False
        added = {unquote(body["path"]): body for body in bodies["add"]}
        removed = {unquote(body["path"]): body for body in bodies["remove"]}
        if bodies["cdc"]:
            self.files += [ChangedFile(unquote(body["path"]), version, int(body["size"]), None) for body in bodies["cdc"]]
        else:
            # What is there already is not inserted again: an erasure can leave such a commit behind.
            self._tell(
                version, {path: body for path, body in removed.items() if path in self.live and path not in added}, ChangeType.DELETE
            )
            self._tell(version, {path: body for path, body in added.items() if path not in self.live}, ChangeType.INSERT)
        for path in removed:
            self.live.pop(path, None)
        self.live |= {path: int(body["size"]) for path, body in added.items()}
        return True

    def _tell(self, version: int, bodies: Mapping[str, dict[str, Any]], change: ChangeType) -> None:
        for path, body in bodies.items():
            if body.get("dataChange", True):
                size = self.live[path] if change is ChangeType.DELETE else int(body["size"])
                self.files.append(ChangedFile(path, version, size, change))

    def _fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the columns are those that were there, and perhaps more of them."""
        schema = _types(json.loads(metadata["schemaString"]))
        is_kept = all(name in schema and schema[name] == kind for name, kind in self.schema.items())
        self.schema = schema
        is_mapped = (metadata.get("configuration") or {}).get("delta.columnMapping.mode", "none") != "none"
        return is_kept and not is_mapped and tuple(metadata.get("partitionColumns") or ()) == self.since.partition_by


def _types(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {str(one["name"]).casefold(): one["type"] for one in schema["fields"]}
