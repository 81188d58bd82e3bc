"""Compaction: the same rows in every version, fewer files, and nobody disturbed."""

import json
from dataclasses import replace

import duckdb
import pytest

from lakehouse.errors import ConcurrentWrite, SchemaMismatch, TableNotFound
from lakehouse.tables import Lake, Stamp, Transaction
from lakehouse.tables.compaction import file_prefix, plan_groups
from lakehouse.tables.snapshot import DataFile
from tests.tables.reading import rows

T = "raw.orders"


def fill(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, *, commits: int = 5, partition_by: tuple[str, ...] = ()) -> None:
    for number in range(commits):
        sql = f"SELECT i + {number * 10} AS id, i % 2 AS part, 'row ' || i AS text FROM range(10) t(i)"
        lake.append(con, T, sql, stamp=stamp, partition_by=partition_by, transaction=Transaction("orders", number + 1))


@pytest.mark.parametrize("partition_by", [(), ("part",)], ids=["plain", "partitioned"])
def test_small_files_are_joined_and_every_version_keeps_its_rows(lake, con, stamp, partition_by) -> None:
    fill(lake, con, stamp, partition_by=partition_by)
    before = [rows(lake, T, version=version) for version in range(5)]
    done = lake.compact(T, stamp=stamp)
    partitions = 2 if partition_by else 1
    assert (done.version, done.files_before, done.files_after, done.skipped) == (5, 5 * partitions, partitions, False)
    assert lake.detail(T).files == partitions
    assert lake.detail(T).rows == 50
    assert [rows(lake, T, version=version) for version in range(5)] == before
    assert rows(lake, T) == before[-1]
    assert lake.schema(T) == {"id": "BIGINT", "part": "BIGINT", "text": "VARCHAR"}


def test_what_is_compact_is_left_alone(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=stamp)
    again = lake.compact(T, stamp=stamp)
    assert again.skipped
    assert again.version == lake.version(T) == 5


def test_an_empty_table_and_one_that_is_not_there(lake, con, stamp) -> None:
    lake.overwrite(con, T, "SELECT 1 AS id WHERE false", stamp=stamp)
    assert lake.compact(T, stamp=stamp).skipped
    with pytest.raises(TableNotFound):
        lake.compact("raw.nothing", stamp=stamp)


def test_stamps_and_transactions_outlive_it(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=replace(stamp, asset="maintenance"))
    newest, before = lake.history(T)[:2]
    assert (newest.operation, newest.rows, newest.stamp.asset) == ("compact", 0, "maintenance")
    assert newest.stamp.source["compaction"]["files"] == 5
    assert before.stamp == stamp
    assert lake.transaction(T, "orders") == 5
    assert lake.append(con, T, "SELECT 1::BIGINT AS id", stamp=stamp, transaction=Transaction("orders", 5)).skipped


def test_the_log_says_that_no_row_changed(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=stamp)
    content = lake.storage.read(f"raw/orders/_delta_log/{5:020d}.json")
    actions = [json.loads(line) for line in content.splitlines()]
    changes = [action[kind]["dataChange"] for action in actions for kind in ("add", "remove") if kind in action]
    assert changes == [False] * 6


def test_columns_that_older_files_lack_are_filled(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.append(con, T, "SELECT 99::BIGINT AS id, 1::BIGINT AS part, 'x' AS text, [1, 2] AS numbers, {'a': 1} AS nested", stamp=stamp)
    before = rows(lake, T)
    assert not lake.compact(T, stamp=stamp).skipped
    assert rows(lake, T) == before


def test_rows_stay_in_their_order(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=stamp)
    (file,) = lake.snapshot(T).files
    found = con.execute(f"SELECT id FROM read_parquet('{file.uri}', file_row_number=true) ORDER BY file_row_number").fetchall()
    assert [row[0] for row in found] == list(range(50))


def test_an_append_that_comes_first_is_not_lost(lake, con, stamp, monkeypatch) -> None:
    fill(lake, con, stamp)
    before = rows(lake, T)
    hook_once(
        monkeypatch, lambda: lake.append(con, T, "SELECT 1000::BIGINT AS id, 0::BIGINT AS part, 'new' AS text, 1 AS more", stamp=stamp)
    )
    done = lake.compact(T, stamp=stamp)
    assert (done.attempts, done.files_before) == (2, 5)
    assert rows(lake, T) == sorted([(*row, None) for row in before] + [(1000, 0, "new", 1)])
    assert lake.detail(T).files == 2


def test_a_delete_that_comes_first_makes_it_plan_anew(lake, con, stamp, monkeypatch) -> None:
    fill(lake, con, stamp)
    hook_once(monkeypatch, lambda: lake.delete(con, T, "id < 15", stamp=stamp))
    done = lake.compact(T, stamp=stamp)
    assert not done.skipped
    assert rows(lake, T, columns="id") == [(number,) for number in range(15, 50)]
    assert lake.detail(T).files == 1


def test_it_gives_up_where_others_never_pause(lake, con, stamp, monkeypatch) -> None:
    fill(lake, con, stamp, commits=9)
    monkeypatch.setattr("lakehouse.tables.compaction._MAX_PLANS", 5)
    numbers = iter(range(0, 90, 10))
    monkeypatch.setattr("lakehouse.tables.compaction.reached", lambda point: lake.delete(con, T, f"id = {next(numbers)}", stamp=stamp))
    with pytest.raises(ConcurrentWrite):
        lake.compact(T, stamp=stamp)
    assert len(rows(lake, T)) == 90 - 5
    stored = {file.path for file in lake.snapshot(T).files}
    assert stored <= set(lake.storage.files("raw/orders"))


def hook_once(monkeypatch, act) -> None:
    """Have somebody else commit between the writing of the files and the commit."""
    acts = iter([act])
    monkeypatch.setattr("lakehouse.tables.compaction.reached", lambda point: next(acts, lambda: None)())


def test_a_write_that_expects_the_version_before_is_not_disturbed(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=stamp)
    done = lake.append(con, T, "SELECT 1::BIGINT AS id", stamp=stamp, expect_version=4)
    assert done.version == 6
    with pytest.raises(ConcurrentWrite):
        lake.append(con, T, "SELECT 1::BIGINT AS id", stamp=stamp, expect_version=5)


def test_what_was_read_is_not_new_after_it(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    lake.compact(T, stamp=stamp)
    assert lake.content_version(T) == 4
    with lake.connect([T]) as session:
        assert session.versions == {T: 5}
        assert session.inputs() == session.inputs(T) == {T: 4}


@pytest.mark.parametrize("cluster_by", [("id",), ("id", "other"), ("TEXT",)])
def test_clustering_sorts_the_rows(lake, con, stamp, cluster_by) -> None:
    sql = "SELECT (i * 7919) % 1000 AS id, (i * 31) % 997 AS other, 'text ' || (i * 7919) % 1000 AS text FROM range(1000) t(i)"
    lake.append(con, T, sql, stamp=stamp)
    before = rows(lake, T)
    size = lake.detail(T).bytes
    done = lake.compact(T, stamp=stamp, cluster_by=cluster_by, target_bytes=size // 8)
    assert done.files_after >= 8
    assert rows(lake, T) == before
    wanted = {"id": 610, "other": 610, "text": "text 610"}
    kept = [
        file
        for file in lake.snapshot(T).files
        if all(file.facts[f"min.{name.lower()}"] <= wanted[name.lower()] <= file.facts[f"max.{name.lower()}"] for name in cluster_by)
    ]
    assert lake.compact(T, stamp=stamp, cluster_by=cluster_by, target_bytes=size // 8).skipped
    assert len(kept) <= (2 if len(cluster_by) == 1 else 4)


def test_a_column_that_can_not_be_clustered_by(lake, con, stamp) -> None:
    fill(lake, con, stamp, partition_by=("part",))
    for name in ("nothing", "part"):
        with pytest.raises(SchemaMismatch, match=name):
            lake.compact(T, stamp=stamp, cluster_by=[name])


def test_a_dry_run_writes_nothing(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    asked = lake.compact(T, stamp=stamp, dry_run=True)
    assert (asked.files_before, asked.files_after, asked.version, asked.skipped) == (5, 1, 4, True)
    assert lake.version(T) == 4
    assert asked.bytes_before == lake.detail(T).bytes


def a_file(number: int, size: int, part: str = "a") -> DataFile:
    return DataFile(f"{number}", f"{number}", size, 1, {"part": part}, {"modification_time": number})


def test_groups_are_neighbours_of_one_partition_that_fit_together() -> None:
    files = [
        a_file(0, 40),
        a_file(1, 40),
        a_file(2, 40),
        a_file(3, 90),
        a_file(4, 10),
        a_file(5, 10, "b"),
        a_file(6, 10, "b"),
        a_file(7, 5, "c"),
    ]
    groups = plan_groups(files, target_bytes=100)
    assert [[file.path for file in group.files] for group in groups] == [["0", "1"], ["2", "4"], ["5", "6"]]


def test_a_partition_is_sorted_when_a_fifth_of_it_is_new() -> None:
    sorted_files = [replace(a_file(0, 500), path=f"{file_prefix(['x'])}0"), replace(a_file(1, 400), path=f"{file_prefix(['X'])}1")]
    assert plan_groups([*sorted_files, a_file(2, 100)], target_bytes=100, cluster_by=["x"]) == []
    groups = plan_groups([*sorted_files, a_file(2, 300)], target_bytes=100, cluster_by=["x"])
    assert [(len(group.files), group.is_sorted) for group in groups] == [(3, True)]
    assert plan_groups(sorted_files, target_bytes=100, cluster_by=["y"])


def test_a_checkpoint_removes_no_commit(lake, con, stamp) -> None:
    fill(lake, con, stamp)
    assert lake.checkpoint(T).version == 4
    assert f"{4:020d}.checkpoint.parquet" in lake.storage.files("raw/orders/_delta_log")
    assert len(lake.history(T)) == 5
    with pytest.raises(TableNotFound):
        lake.checkpoint("raw.nothing")
