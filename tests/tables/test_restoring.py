"""Restore: a commit of its own that gives back rows, columns and partitions, and keeps every transaction."""

import duckdb
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import ConcurrentWrite, TableError, TableNotFound
from lakehouse.tables import RESTORED, CommitInfo, Lake, Stamp, Transaction, in_force
from tests.tables.reading import rows

T = "raw.people"


@pytest.fixture
def changed(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> Lake:
    """Four versions and more: two appends, a delete, then other columns and partitions."""
    lake.append(con, T, "SELECT 1 AS id, 'a' AS name", stamp=stamp, transaction=Transaction("files", 1))
    lake.append(con, T, "SELECT 2 AS id, 'ä=/ %' AS name, TIMESTAMP '2026-01-01' AS seen", stamp=stamp, transaction=Transaction("files", 2))
    lake.delete(con, T, "id = 1", stamp=stamp)
    lake.overwrite(con, T, "SELECT 'x y' AS part, 7 AS n", stamp=stamp, partition_by=["part"])
    return lake


def test_every_version_can_be_given_back_and_undone(changed: Lake, stamp: Stamp) -> None:
    newest = changed.version(T)
    assert newest is not None
    before = {version: (rows(changed, T, version=version), changed.schema(T, version)) for version in range(newest + 1)}
    partitions = {version: changed.detail(T, version).partition_by for version in before}
    for version in [0, newest, 2, newest - 1, 0]:
        commit = changed.restore(T, version, stamp=stamp)
        assert (rows(changed, T), changed.schema(T)) == before[version]
        assert changed.detail(T).partition_by == partitions[version]
        assert commit.rows == len(before[version][0])
        told = changed.history(T, limit=1)[0]
        assert (told.operation, told.restored, told.stamp) == ("restore", version, stamp)
    for version, found in before.items():
        assert (rows(changed, T, version=version), changed.schema(T, version)) == found
    assert changed.transaction(T, "files") == 2
    assert changed.transaction(T, RESTORED) == changed.version(T)


def test_a_restored_table_can_be_written_to(changed: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    changed.restore(T, 0, stamp=stamp)
    changed.append(con, T, "SELECT 3 AS id, 'c' AS name, DATE '2026-02-01' AS born", stamp=stamp)
    assert rows(changed, T, columns="id, name") == [(1, "a"), (3, "c")]
    assert changed.append(con, T, "SELECT 2 AS id", stamp=stamp, transaction=Transaction("files", 2)).skipped


def test_partitions_and_checkpoints_do_not_change_what_is_restored(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for text in ("a b", "ü/x", "100%"):
        lake.append(con, T, f"SELECT '{text}' AS part, 1 AS n", stamp=stamp, partition_by=["part"])
        lake.snapshot(T).delta.create_checkpoint()
    lake.restore(T, 1, stamp=stamp)
    assert rows(lake, T, columns="part") == [("a b",), ("ü/x",)]
    assert lake.restore(T, 2, stamp=stamp).files_added == 1
    assert len(rows(lake, T)) == 3


def test_what_can_not_be_restored_is_told(changed: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    newest = changed.version(T)
    with pytest.raises(TableNotFound, match="has no version 99"):
        changed.restore(T, 99, stamp=stamp)
    with pytest.raises(TableNotFound, match=r"tag nothing of .* does not exist"):
        changed.restore(T, "nothing", stamp=stamp)
    with pytest.raises(TableNotFound):
        changed.restore("raw.nobody", 0, stamp=stamp)
    with pytest.raises(ConcurrentWrite, match="was changed by another writer"):
        changed.restore(T, 0, stamp=stamp, expect_version=0)
    assert changed.restore(T, newest or 0, stamp=stamp).skipped
    for file in changed.snapshot(T, 0).files:
        changed.storage.delete([f"raw/people/{file.path}"])
    with pytest.raises(TableError, match="restored: 1 of its data files are gone"):
        changed.restore(T, 0, stamp=stamp)
    assert changed.version(T) == newest


def test_an_append_only_table_is_left_alone(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for number in range(2):
        lake.append(con, "monitoring.audit", f"SELECT {number} AS n", stamp=stamp)
    lake.snapshot("monitoring.audit").delta.alter.set_table_properties({"delta.appendOnly": "true"})
    with pytest.raises(TableError, match="is append-only"):
        lake.restore("monitoring.audit", 0, stamp=stamp)


def test_a_restore_by_another_program_is_known_for_one(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for number in range(3):
        lake.append(con, T, f"SELECT {number} AS n", stamp=stamp)
    DeltaTable(f"{lake.uri}/raw/people").restore(1)
    assert lake.history(T, limit=1)[0].restored == 1


def test_a_restore_is_a_writer_among_others(changed: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    first = changed.restore(T, 0, stamp=stamp, transaction=Transaction("undo", 1))
    assert not first.skipped
    assert changed.restore(T, 2, stamp=stamp, transaction=Transaction("undo", 1)).skipped
    assert rows(changed, T) == [(1, "a")]


@given(st.lists(st.one_of(st.just(None), st.integers(0, 30)), max_size=25))
def test_commits_in_force_are_those_that_made_the_content(steps: list[int | None]) -> None:
    """Law: following restores backwards gives the same as playing the log forwards."""
    contents: list[tuple[int, ...]] = []
    log: list[CommitInfo] = []
    for version, step in enumerate(steps):
        target = step if step is not None and step < version else None
        contents.append((*(contents[-1] if contents else ()), version) if target is None else contents[target])
        log.append(_commit(version, target))
    for version, content in enumerate(contents):
        found = [one.version for one in in_force(log[::-1], version) if one.restored is None]
        assert tuple(found[::-1]) == content


def _commit(version: int, restored: int | None) -> CommitInfo:
    from datetime import UTC, datetime

    from lakehouse.tables import TableName

    return CommitInfo(TableName.parse(T), version, datetime(2026, 1, 1, tzinfo=UTC), "append", None, 0, restored)
