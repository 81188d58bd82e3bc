"""What a commit rests on is on disk before the commit is, and the commit is on disk before the writer says so."""

import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse import durable
from lakehouse.errors import TableError
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.writing import TableWriter

T = "raw.events"


class Disk:
    """Notes which files and folders were brought to disk, and when a commit was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: set[Path] = set()
        self.before: list[set[Path]] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            self.synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        def commit(self_: TableWriter, version: int, commit_id: str, commit: Any, *more: Any, **named: Any) -> int:
            def noted() -> None:
                self.before.append(set(self.synced))
                commit()

            return made(self_, version, commit_id, noted, *more, **named)

        made = TableWriter._commit
        monkeypatch.setattr(durable.os, "fsync", note)
        monkeypatch.setattr(TableWriter, "_commit", commit)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def data_files(lake: Lake) -> set[Path]:
    return {Path(address) for address in lake.snapshot(T).addresses()}


def test_a_commit_comes_after_its_files_and_their_folders(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, disk: Disk) -> None:
    log = Path(lake.uri) / "raw" / "events" / "_delta_log"
    lake.append(con, T, "SELECT range AS id, range % 3 AS part FROM range(9)", partition_by=["part"], stamp=stamp)
    files = data_files(lake)
    assert files | {file.parent for file in files} | {log.parent} <= disk.before[-1]
    # A new table: the folders above it are new as well.
    assert {log / f"{0:020d}.json", log, log.parent, log.parent.parent, Path(lake.uri)} <= disk.synced
    lake.append(con, T, "SELECT 10 AS id, 7 AS part", stamp=stamp)
    assert data_files(lake) | {log / f"{0:020d}.json"} <= disk.before[-1]
    assert log / f"{1:020d}.json" in disk.synced


def test_the_commit_before_is_on_disk_whoever_made_it(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, disk: Disk) -> None:
    """Its writer may not have come that far: a power cut would leave a version without the one it builds on."""
    entry = Path(CommitLog(lake.storage, TableName.parse(T)).address(0))
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp)
    disk.synced.clear()
    lake.append(con, T, "SELECT 2 AS id, 'x' AS more", stamp=stamp)
    assert [entry in before for before in disk.before] == [False, True, True]


def test_a_checkpoint_is_brought_to_disk_with_the_commit_that_made_it(
    lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, disk: Disk
) -> None:
    for number in range(26):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)
    log = Path(lake.uri) / "raw" / "events" / "_delta_log"
    made = {log / name for name in os.listdir(log) if "checkpoint" in name}
    assert len(made) == 2
    assert made <= disk.synced


def test_a_disk_that_loses_data_is_told(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", broken)
        with pytest.raises(TableError, match=r"part-.*Input/output error.*table is as it was"):
            lake.append(con, T, "SELECT 2 AS id", stamp=stamp)
    assert lake.version(T) == 0


def test_files_of_a_commit_that_may_have_been_made_are_never_removed(
    lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the commit and before anybody knew: whoever cleans up must not take the table's files."""
    for number in range(3):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CommitLog, "commit_to_disk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lake.compact(T, stamp=stamp)
    assert lake.version(T) == 3
    with lake.connect([T]) as session:
        assert session.con.execute(f"SELECT count(*) FROM {T}").fetchall() == [(3,)]
