"""What every commit says about itself, and what a writer and a reader of commits get to see."""

import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from lakehouse.tables.names import TableName

COMPACT = "compact"
VACUUM = "vacuum"
NOTE = "note"
_KEEPS_ROWS = frozenset({COMPACT, VACUUM, NOTE, "OPTIMIZE", "VACUUM START", "VACUUM END"})
"""Operations after which a table has the rows that it had before: our own, and what delta-rs and Spark call theirs."""
_PREPARES = frozenset({"add_columns", "add_feature"})


USER = "lakehouse.user"
"""Metadata of a commit: the user of the machine that made it."""


@cache
def machine_user() -> str:
    """The name under which this process runs."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run as a number that has no name.
        return f"uid {os.getuid()}"


COMMITTED_AT = "lakehouse.at"
"""Milliseconds, in a commit whose writer's clock was behind that of the commit before it: versions and instants keep one order."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a commit came from; it lives in the commit's own metadata.

    Attributes:
        asset: who wrote: an asset key, a dbt node, a command.
        run: the run that wrote.
        inputs: version of every table that was read, by `layer.name`.
        code: git revision, or a digest of the SQL or function.
        source: for ingestion, what was read from outside: files with digest and row counts, offsets, a watermark.
    """

    asset: str
    run: str
    inputs: Mapping[str, int] = field(default_factory=dict)
    code: str = ""
    source: Mapping[str, object] | None = None

    def metadata(self) -> dict[str, str]:
        """The stamp as commit metadata: text values only, so that every Delta reader can carry them."""
        stamped = {
            "lakehouse.asset": self.asset,
            "lakehouse.run": self.run,
            "lakehouse.inputs": json.dumps(dict(self.inputs), sort_keys=True),
            "lakehouse.code": self.code,
        }
        if self.source is not None:
            stamped["lakehouse.source"] = json.dumps(dict(self.source), sort_keys=True)
        return stamped

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Stamp | None":
        """The stamp in a commit's metadata, or None where another program made the commit."""
        if "lakehouse.asset" not in metadata:
            return None
        source = metadata.get("lakehouse.source")
        return cls(
            asset=str(metadata["lakehouse.asset"]),
            run=str(metadata.get("lakehouse.run", "")),
            # A long log is mostly batches, which have none.
            inputs=json.loads(inputs) if (inputs := metadata.get("lakehouse.inputs") or "{}") != "{}" else {},
            code=str(metadata.get("lakehouse.code", "")),
            source=json.loads(source) if source else None,
        )


@dataclass(frozen=True, slots=True)
class Transaction:
    """A source's cursor, committed together with the rows it accounts for.

    A write whose transaction (or a later one of the same `app_id`) is already in the table is skipped.
    """

    app_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One Delta commit, as the writer that made it knows it.

    Attributes:
        version: the table's version after it; the current one where nothing was written.
        previous_version: the version it was made on; None if it created the table.
        rows: rows that were written on behalf of the caller; for a delete, rows that went.
        bytes_added: size of the new data files.
        attempts: how often it was tried; more than one means other writers were there.
        skipped: nothing was committed: the transaction is in the table already, or there was nothing to do.
    """

    table: TableName
    version: int
    previous_version: int | None
    rows: int = 0
    files_added: int = 0
    files_removed: int = 0
    bytes_added: int = 0
    attempts: int = 1
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One Delta commit, as the table's log tells it.

    Attributes:
        restored: for a restore, the version whose content it gave back; None for any other commit.
    """

    table: TableName
    version: int
    timestamp: datetime
    operation: str
    stamp: Stamp | None
    rows: int | None
    restored: int | None = None

    @property
    def changes_rows(self) -> bool:
        """False if the version has the rows of the one before it: maintenance made it."""
        return self.operation not in _KEEPS_ROWS

    @property
    def is_preparation(self) -> bool:
        """Whether it made the table ready for rows that come with a commit of their own: it carries their stamp, and has none of them."""
        return self.operation in _PREPARES

    @classmethod
    def from_log(cls, table: TableName, version: int, info: Mapping[str, Any]) -> "CommitInfo":
        """The commit whose `commitInfo` action is `info`."""
        milliseconds = int(info.get(COMMITTED_AT) or 0) or info.get("inCommitTimestamp") or info.get("timestamp") or 0
        rows = info.get("lakehouse.rows")
        return cls(
            table=table,
            version=version,
            timestamp=datetime.fromtimestamp(milliseconds / 1000, UTC),
            operation=str(info.get("lakehouse.operation") or info.get("operation") or "unknown"),
            stamp=Stamp.from_metadata(info),
            rows=None if rows is None else int(rows),
            restored=_restored(info),
        )


def _restored(info: Mapping[str, Any]) -> int | None:
    """The version a restore went to, whichever program made it."""
    parameters = info.get("operationParameters") or {}
    version = info.get("lakehouse.restored", parameters.get("version") if info.get("operation") == "RESTORE" else None)
    return int(version) if str(version).isdecimal() else None


@dataclass(frozen=True, slots=True)
class TableDetail:
    """How big a version of a table is and what it consists of; `columns` maps names to DuckDB types."""

    table: TableName
    version: int
    rows: int
    bytes: int
    files: int
    partition_by: tuple[str, ...]
    columns: Mapping[str, str]
