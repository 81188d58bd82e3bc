"""Checkpoints: the state of a table at a version, written beside its log. They save time and hold nothing that the log has not."""

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import TableNotFound
from lakehouse.tables.stored import StoredFile
from lakehouse.tables.writing import TableWriter

_FILE = re.compile(r"(\d{20})\.checkpoint\.parquet")
# A reader may have just been told of one by `_last_checkpoint`.
_NEWEST_KEPT = 2
_YOUNGEST_REMOVED = timedelta(hours=1)
# Opening an old version replays at most this many commits.
_EVERY = 500


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was done about a table's checkpoints, or would be.

    Attributes:
        is_due: the newest version had none.
        superseded_files: older checkpoints that were removed.
        superseded_bytes: their size.
    """

    version: int
    is_due: bool
    superseded_files: int = 0
    superseded_bytes: int = 0


def checkpoint_table(writer: TableWriter, *, now: datetime | None, dry_run: bool) -> Checkpoint:
    """Make a checkpoint of the newest version where it has none, then remove those that newer ones stand for.

    Raises:
        TableNotFound: there is no such table.
    """
    snapshot = writer.open()
    if snapshot is None:
        raise TableNotFound(str(writer.table), "does not exist", fix="Check the name: lakehouse tables")
    folder = f"{writer.table.layer}/{writer.table.name}/_delta_log"
    is_due = _last(writer, folder) < snapshot.version
    if is_due and not dry_run:
        reached(Point.MID_CHECKPOINT)
        snapshot.delta.create_checkpoint()
        reached(Point.MID_CHECKPOINT)
    superseded = [] if now is None else _superseded(writer, folder, before=now - _YOUNGEST_REMOVED)
    if not dry_run:
        writer.storage.delete(file.path for file in superseded)
    return Checkpoint(snapshot.version, is_due, len(superseded), sum(file.size_bytes for file in superseded))


def _last(writer: TableWriter, folder: str) -> int:
    """The version of the newest checkpoint that readers are told of; -1 where there is none."""
    content = writer.storage.read(f"{folder}/_last_checkpoint")
    try:
        return int(json.loads(content)["version"]) if content else -1
    except (ValueError, KeyError, TypeError):
        # Readers that can't read it list the log instead: it is written anew.
        return -1


def _superseded(writer: TableWriter, folder: str, *, before: datetime) -> list[StoredFile]:
    """Checkpoints that are neither among the newest, nor young, nor the first of many versions."""
    found: dict[int, StoredFile] = {}
    for file in writer.storage.walk(folder):
        name = _FILE.fullmatch(file.path.rpartition("/")[2])
        if name is not None:
            found[int(name[1])] = file
    versions = sorted(found)
    told = _last(writer, folder)
    steps = {version // _EVERY: version for version in reversed(versions)}
    kept = {*versions[-_NEWEST_KEPT:], *steps.values(), told}
    return [found[version] for version in versions if version not in kept and version < told and found[version].modified < before]
