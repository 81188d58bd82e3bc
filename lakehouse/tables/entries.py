"""A commit as the log has it, for what delta-rs has no action for: the files of changed rows (`cdc`) that a commit names.

Everything else about such a commit is as delta-rs makes it: its file is created on condition that nobody else has made it, a checkpoint
follows where the table asks for one, and paths are escaped as delta-rs escapes them, for it tells files apart by that text.
"""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from lakehouse.tables.snapshot import DataFile, Snapshot
from lakehouse.tables.storage import Storage

_PLAIN = "!$&'()+,-./:;=@_~"
_CHECKPOINT_INTERVAL = "delta.checkpointInterval"
_DEFAULT_INTERVAL = "100"


def commit_entry(
    snapshot: Snapshot, properties: CommitProperties, added: Sequence[AddAction], removed: Iterable[DataFile], changes: Iterable[AddAction]
) -> bytes:
    """The log's entry of a commit on a version: rows added, files removed, and the files that say which rows changed."""
    now_ms = int(time.time() * 1000)
    info = {
        "timestamp": now_ms,
        "operation": "WRITE",
        "operationParameters": {"mode": "Append", "partitionBy": json.dumps(list(snapshot.partition_by))},
        "engineInfo": "lakehouse",
        **(properties.custom_metadata or {}),
    }
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    actions += [{"add": _file(action) | {"modificationTime": action.modification_time, "stats": action.stats}} for action in added]
    actions += [{"remove": _removal(file, now_ms)} for file in removed]
    actions += [{"cdc": _file(action) | {"dataChange": False}} for action in changes]
    actions += [{"txn": {"appId": one.app_id, "version": one.version}} for one in properties.app_transactions or ()]
    return "".join(f"{json.dumps(action, ensure_ascii=False, separators=(',', ':'))}\n" for action in actions).encode()


def escaped(path: str) -> str:
    """A path as delta-rs writes it into the log."""
    return quote(path, safe=_PLAIN)


def _file(action: AddAction) -> dict[str, Any]:
    return {
        "path": escaped(action.path),
        "partitionValues": dict(action.partition_values),
        "size": action.size,
        "dataChange": action.data_change,
    }


def _removal(file: DataFile, now_ms: int) -> dict[str, Any]:
    return {
        # As the entry that added it has it: another engine may have escaped it in its own way.
        "path": file.facts["path"],
        "dataChange": True,
        "deletionTimestamp": now_ms,
        "extendedFileMetadata": True,
        "partitionValues": dict(file.partition),
        "size": file.size,
    }


def create_entry(storage: Storage, snapshot: Snapshot, entry: bytes) -> None:
    """Make the version after this one, and a checkpoint of it where it is due.

    Raises:
        CommitFailedError: the version is there already.
        StorageError: the bucket refuses it.
    """
    version = snapshot.version + 1
    if not storage.create(f"{snapshot.table.layer}/{snapshot.table.name}/_delta_log/{version:020d}.json", entry):
        raise CommitFailedError(f"version {version} of {snapshot.table} is there")
    interval = int(snapshot.configuration.get(_CHECKPOINT_INTERVAL, _DEFAULT_INTERVAL))
    if (version + 1) % interval == 0:
        DeltaTable(snapshot.uri, version=version, storage_options=storage.options or None).create_checkpoint()
