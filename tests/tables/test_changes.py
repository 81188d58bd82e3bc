"""What commits say that they changed: Delta's change data feed, as we write it, and as a diff reads it."""

import itertools
import json
import os
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from deltalake.schema import Field, PrimitiveType
from deltalake.transaction import AddAction, create_table_with_add_actions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import ConcurrentWrite, VersionGone
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.changes import Changes
from lakehouse.tables.diff import TableDiff, diff_snapshots
from lakehouse.tables.entries import escaped
from lakehouse.tables.feed import CHANGE_FOLDER
from lakehouse.tables.writing import TableWriter
from tests.tables.reading import rows

T = "raw.people"
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def change_files(lake: Lake) -> list[str]:
    return [file.path for file in lake.storage.walk("raw/people") if f"/{CHANGE_FOLDER}/" in file.path]


def feed(lake: Lake, since: int, columns: str = "_change_type, k, v") -> list[tuple[Any, ...]]:
    """The changes as another reader of Delta tells them."""
    told = pa.RecordBatchReader.from_stream(DeltaTable(f"{lake.uri}/raw/people").load_cdf(starting_version=since)).read_all()
    return sorted(duckdb.sql(f"SELECT {columns} FROM told").fetchall()) if told.num_rows else []


def ours(lake: Lake, since: int, until: int | None = None, columns: str = "_change_type, k, v") -> list[tuple[Any, ...]]:
    found = lake.changes(T, since, until)
    assert found is not None
    con = lake.open_connection()
    try:
        return sorted(con.execute(f"SELECT {columns} FROM ({found.scan_sql(con)})").fetchall())
    finally:
        con.close()


@pytest.fixture
def people(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> Lake:
    """Two files of ten rows."""
    for start in (0, 10):
        lake.append(con, T, f"SELECT i AS k, 'x' || i AS v FROM range({start}, {start + 10}) r(i)", stamp=stamp)
    return lake


def test_a_merge_a_delete_and_a_replacement_say_what_they_changed(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    people.merge(con, T, "SELECT 3 AS k, 'new' AS v UNION ALL SELECT 77, 'more'", key=["k"], stamp=stamp)
    people.delete(con, T, "k = 15", stamp=stamp)
    people.replace_where(con, T, "SELECT 4 AS k, 'four' AS v", where="k IN (4, 5)", stamp=stamp)
    people.delete_insert(con, T, "SELECT 6 AS k, 'six' AS v", key=["k"], stamp=stamp)
    expected = [
        [("insert", 77, "more"), ("update_postimage", 3, "new"), ("update_preimage", 3, "x3")],
        [("delete", 15, "x15")],
        [("delete", 4, "x4"), ("delete", 5, "x5"), ("insert", 4, "four")],
        [("delete", 6, "x6"), ("insert", 6, "six")],
    ]
    assert len(change_files(people)) == 4
    for number, told in enumerate(expected):
        assert ours(people, 1 + number, 2 + number) == told
    assert ours(people, 1) == feed(people, 2) == sorted(row for told in expected for row in told)
    assert ours(people, 0, 1, "count(*), any_value(_change_type)") == [(10, "insert")]
    versions = ours(people, 1, None, "DISTINCT _commit_version")
    assert versions == [(2,), (3,), (4,), (5,)]


def test_columns_that_the_rows_lack_keep_their_value_in_the_feed(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    people.merge(con, T, "SELECT 3 AS k, 30 AS n", key=["k"], stamp=stamp)
    assert ours(people, 1, None, "_change_type, k, v, n") == feed(people, 2, "_change_type, k, v, n")
    assert ours(people, 1, None, "_change_type, k, v, n") == [("update_postimage", 3, "x3", 30), ("update_preimage", 3, "x3", None)]


def test_no_file_is_written_where_the_others_say_it(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    people.delete(con, T, "k < 10", stamp=stamp)
    people.merge(con, T, "SELECT 1 AS k, 'back' AS v", key=["k"], stamp=stamp)
    people.append(con, T, "SELECT 2 AS k, 'back' AS v", stamp=stamp)
    people.compact(T, stamp=stamp)
    assert change_files(people) == []
    assert Counter(row[0] for row in ours(people, 1)) == {"delete": 10, "insert": 2}


def test_a_large_part_of_a_table_is_told_by_its_files(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT i AS k, 'x' AS v FROM range(100_000) r(i)", stamp=stamp)
    lake.merge(con, T, "SELECT i AS k, 'y' AS v FROM range(60_000) r(i)", key=["k"], stamp=stamp)
    assert change_files(lake) == []
    lake.merge(con, T, "SELECT i AS k, 'z' AS v FROM range(500) r(i)", key=["k"], stamp=stamp)
    assert len(change_files(lake)) == 1
    net = ours(lake, 0, None, "sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END)")
    assert net == [(0,)]


def test_partitions_with_odd_names(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    odd = "a b%c/é?#&+,;:[]{}|^`\"<>~*!$()''@\\="
    sql = f"SELECT k, 'x' || k AS v, CASE WHEN k % 2 = 0 THEN '{odd}' END AS p FROM range(10) r(k)"
    lake.append(con, T, sql, stamp=stamp, partition_by=["p"])
    lake.merge(con, T, f"SELECT 2 AS k, 'new' AS v, '{odd}' AS p UNION ALL SELECT 3, 'new', NULL", key=["k"], stamp=stamp)
    lake.delete(con, T, "k = 4", stamp=stamp)
    told = ours(lake, 0, None, "_change_type, k, v, p")
    text = odd.replace("''", "'")
    assert [row[3] for row in told] == [text, text, None, text, None]
    assert lake.compact(T, stamp=stamp).skipped is True
    lake.append(con, T, f"SELECT 20 AS k, 'new' AS v, '{odd}' AS p", stamp=stamp)
    assert lake.compact(T, stamp=stamp).skipped is False, "delta-rs finds the files that our own entries have added"
    lake.checkpoint(T)
    assert rows(lake, T, columns="count(*)") == [(10,)]


def test_paths_are_escaped_as_delta_rs_escapes_them(tmp_path: Path) -> None:
    """It takes two spellings of one path for two files."""
    paths = [f"a{chr(number)}b" for number in range(1, 0x250)] + ["p=a%20b/c d.parquet", "😀"]
    actions = [AddAction(path, 1, {}, 1, True, "{}") for path in paths]
    create_table_with_add_actions(str(tmp_path / "t"), Schema([Field("k", PrimitiveType("long"))]), actions)
    log = (tmp_path / "t/_delta_log/00000000000000000000.json").read_text("utf-8")
    theirs = {json.loads(line)["add"]["path"] for line in log.splitlines() if line.startswith('{"add"')}
    assert {escaped(path) for path in paths} == theirs


def test_a_table_without_the_feed_goes_on_without_it(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    DeltaTable(f"{people.uri}/raw/people").alter.set_table_properties({"delta.enableChangeDataFeed": "false"})
    people.merge(con, T, "SELECT 3 AS k, 'new' AS v", key=["k"], stamp=stamp)
    assert change_files(people) == []
    assert Counter(row[0] for row in ours(people, 2)) == {"delete": 10, "insert": 10}


@pytest.mark.parametrize("name", ["_change_type", "_Commit_Version"])
def test_columns_with_the_names_of_the_feed(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, name: str) -> None:
    lake.append(con, T, f"SELECT k, 'a' AS {name} FROM range(5) r(k)", stamp=stamp)
    lake.merge(con, T, f"SELECT 3 AS k, 'b' AS {name}", key=["k"], stamp=stamp)
    assert change_files(lake) == []
    assert rows(lake, T, columns="count(*)") == [(5,)]


def test_every_type_comes_back_from_the_feed(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    sql = """
        SELECT k, 1.5::DECIMAL(9, 2) AS d, TIMESTAMP '2026-01-01 10:00:00.123456' AS t, TIMESTAMPTZ '2026-01-01 10:00:00+02' AS z,
               DATE '2026-01-01' AS day, 'NaN'::DOUBLE AS f, [1, NULL] AS l, {'a': 1, 'b': ['x']} AS s, MAP {'k': 1} AS m,
               'ab'::BLOB AS b, NULL::VARCHAR AS nothing, true AS yes, 1::TINYINT AS tiny
        FROM range(START, END) r(k)"""
    lake.append(con, T, sql.replace("START, END", "0, 20"), stamp=stamp)
    before = rows(lake, T)
    lake.merge(con, T, sql.replace("START, END", "3, 4"), key=["k"], stamp=stamp)
    told = lake.changes(T, 0)
    assert told is not None
    assert len(change_files(lake)) == 1
    again = con.execute(f"SELECT * EXCLUDE (_change_type, _commit_version) FROM ({told.scan_sql(con)})").fetchall()
    assert [repr(row) for row in again] == [repr(row) for row in before if row[0] == 3] * 2


# ---- all that handles files


def test_checkpoints_are_made_of_our_own_commits(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT k, 0 AS v FROM range(20) r(k)", stamp=stamp)
    for number in range(1, 51):
        lake.merge(con, T, f"SELECT {number % 20} AS k, {number} AS v", key=["k"], stamp=stamp)
    names = lake.storage.files("raw/people/_delta_log")
    assert [name for name in names if "checkpoint" in name] == [
        "00000000000000000024.checkpoint.parquet", "00000000000000000049.checkpoint.parquet", "_last_checkpoint",
    ]  # fmt: skip
    assert rows(lake, T, columns="count(*), sum(v)") == [(20, sum(range(31, 51)))]
    assert len(change_files(lake)) == 50


def test_a_lost_attempt_takes_its_changes_with_it(
    people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = TableWriter.change
    first = iter([True])

    def second_at_first(self: TableWriter, *arguments: Any, **named: Any) -> int:
        if next(first, False):
            people.merge(con, T, "SELECT 3 AS k, 'theirs' AS v", key=["k"], stamp=stamp)
        return commit(self, *arguments, **named)

    monkeypatch.setattr(TableWriter, "change", second_at_first)
    done = people.merge(con, T, "SELECT 3 AS k, 'ours' AS v", key=["k"], stamp=stamp)
    assert (done.attempts, done.version) == (2, 3)
    assert len(change_files(people)) == 2
    assert ours(people, 2) == [("update_postimage", 3, "ours"), ("update_preimage", 3, "theirs")]
    with pytest.raises(ConcurrentWrite):
        people.merge(con, T, "SELECT 3 AS k, 'late' AS v", key=["k"], stamp=stamp, expect_version=2)
    assert len(change_files(people)) == 2


def test_an_answer_that_is_lost_is_found_in_the_log(
    people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = people.storage.create

    def create_and_fail(path: str, data: bytes) -> bool:
        create(path, data)
        return False

    monkeypatch.setattr(people.storage, "create", create_and_fail)
    done = people.merge(con, T, "SELECT 3 AS k, 'ours' AS v", key=["k"], stamp=stamp)
    assert (done.attempts, done.version) == (1, 2)


def test_vacuum_removes_the_changes_of_what_it_removes(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for number in range(3):
        people.merge(con, T, f"SELECT 3 AS k, 'v{number}' AS v", key=["k"], stamp=stamp)
    people.append(con, T, "SELECT 100 AS k, 'y' AS v", stamp=stamp)
    people.compact(T, stamp=stamp)
    first, second, third = change_files_by_version(people)
    plan = people.vacuum(T, keep=[3], retention=timedelta(0), now=LATER, force=True, dry_run=True)
    done = people.vacuum(T, keep=[3], retention=timedelta(0), now=LATER, force=True)
    assert (plan.files, plan.bytes) == (done.files, done.bytes)
    # Version 4 has gone, which is a merge whose changes nobody can ask for any more; 3 is kept, and with it how it came about.
    assert change_files(people) == [second]
    assert first not in change_files(people)
    assert third not in change_files(people)
    assert people.changes(T, 3) is None
    assert rows(people, T, version=3, columns="count(*)") == [(20,)]
    assert people.vacuum(T, keep=[3], retention=timedelta(0), now=LATER, force=True).files == 0
    with pytest.raises(VersionGone):
        people.changes(T, 2)


def test_changes_of_a_kept_version_stay_when_a_compaction_stands_for_it(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    people.merge(con, T, "SELECT 3 AS k, 'a' AS v", key=["k"], stamp=stamp)
    people.compact(T, stamp=stamp)
    people.merge(con, T, "SELECT 3 AS k, 'b' AS v", key=["k"], stamp=stamp)
    people.vacuum(T, keep=[1, 3], retention=timedelta(0), now=LATER, force=True)
    assert len(change_files(people)) == 2
    assert len(ours(people, 1)) == 4


def change_files_by_version(lake: Lake) -> list[str]:
    found = lake.changes(T, 0)
    assert found is not None
    return [f"raw/people/{file.path}" for file in found.files if file.change is None]


def test_orphans_among_the_changes_are_removed_and_live_ones_never(people: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    people.merge(con, T, "SELECT 3 AS k, 'new' AS v", key=["k"], stamp=stamp)
    [live] = change_files(people)
    folder = people.storage.address("raw/people", CHANGE_FOLDER)
    for name, age in (("old", timedelta(days=2)), ("young", timedelta(hours=1))):
        path = Path(folder, f"part-{name}.parquet")
        path.write_bytes(b"PAR1")
        then = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (then, then))
    found = people.remove_orphans(T, now=datetime.now(UTC))
    assert found.paths == (f"raw/people/{CHANGE_FOLDER}/part-old.parquet",)
    assert len(change_files(people)) == 2
    assert people.remove_orphans(T, now=datetime.now(UTC) + timedelta(days=3)).files == 1
    assert change_files(people) == [live]


# ---- the law: what changes tell is what a comparison finds

Op = tuple[str, int, int]
OPS = st.lists(
    st.tuples(
        st.sampled_from(
            "append append merge merge merge_part delete delete_insert replace_where partitions evolve overwrite restore compact retype".split()
        ),
        st.integers(0, 12),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=9,
)


def apply(lake: Lake, con: duckdb.DuckDBPyConnection, op: Op, *, is_partitioned: bool) -> None:
    kind, a, b = op
    stamp = Stamp("law", "run")
    values = f"SELECT ({a} + i)::INTEGER AS k, ({b} * i)::INTEGER AS n, (i % 2)::INTEGER AS p FROM range({b + 1}) r(i)"
    match kind:
        case "append":
            lake.append(con, T, values, stamp=stamp)
        case "merge":
            lake.merge(con, T, values, key=["k"], stamp=stamp)
        case "merge_part":
            lake.merge(con, T, f"SELECT k, n + 100 AS n FROM ({values})", key=["k"], stamp=stamp)
        case "delete":
            lake.delete(con, T, f"k % 5 = {b}", stamp=stamp)
        case "delete_insert":
            lake.delete_insert(con, T, f"{values} UNION ALL {values}", key=["k"], stamp=stamp)
        case "replace_where":
            lake.replace_where(con, T, f"SELECT * FROM ({values}) WHERE k > {a}", where=f"k > {a}", stamp=stamp)
        case "partitions" if is_partitioned:
            lake.replace_partitions(con, T, values, stamp=stamp)
        case "evolve":
            way = lake.append if a % 2 else lake.delete_insert
            more = {} if a % 2 else {"key": ["k"]}
            way(con, T, f"SELECT *, 'e{a}' AS extra{b} FROM ({values})", stamp=stamp, **more)  # pyright: ignore[reportArgumentType]
        case "overwrite":
            lake.overwrite(con, T, values, stamp=stamp, partition_by=["p"] if is_partitioned else [])
        case "retype":
            lake.overwrite(con, T, f"SELECT * REPLACE (n::BIGINT AS n) FROM ({values})", stamp=stamp)
        case "restore":
            lake.restore(T, a % ((lake.version(T) or 0) + 1), stamp=stamp)
        case _:
            lake.compact(T, stamp=stamp)


class Free(Changes):
    """Changes that cost nothing to read, so that a comparison always takes them."""

    @property
    def size_bytes(self) -> int:
        return 0


def free(found: Changes | None) -> Changes | None:
    return None if found is None else Free(found.since, found.until, found.files, found.snapshot)


def shown(found: TableDiff) -> tuple[object, ...]:
    return (
        found.added,
        found.removed,
        found.changed,
        found.changed_columns,
        found.samples,
        found.schema,
        found.rows_before,
        found.rows_after,
    )


@given(ops=OPS, is_partitioned=st.booleans())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_law_changes_are_the_difference(ops: list[Op], is_partitioned: bool) -> None:
    check_law(ops, is_partitioned, is_thorough=False)


@pytest.mark.slow
@given(ops=OPS, is_partitioned=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_law_changes_are_the_difference_for_long(ops: list[Op], is_partitioned: bool) -> None:
    check_law(ops, is_partitioned, is_thorough=True)


def check_law(ops: list[Op], is_partitioned: bool, *, is_thorough: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder, memory_limit="200MB", threads=1)
        con = lake.open_connection()
        base = "SELECT i::INTEGER AS k, 0::INTEGER AS n, (i % 2)::INTEGER AS p FROM range(8) r(i)"
        lake.append(con, T, base, stamp=Stamp("law", "run"), partition_by=["p"] if is_partitioned else [])
        for op in ops:
            apply(lake, con, op, is_partitioned=is_partitioned)
        newest = lake.version(T) or 0
        for before, after in itertools.permutations(range(newest + 1), 2):
            if not is_thorough and 0 not in (before, after):
                continue
            old, new = lake.snapshot(T, before), lake.snapshot(T, after)
            found = free(lake.changes(T, min(before, after), max(before, after)))
            full = diff_snapshots(con, old, new, key=["k"], limit=100)
            fast = diff_snapshots(con, old, new, key=["k"], limit=100, changes=lambda found=found: found)
            assert [repr(one) for one in shown(fast)] == [repr(one) for one in shown(full)], (before, after)
        con.close()
