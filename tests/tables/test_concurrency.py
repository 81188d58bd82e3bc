"""Several processes write one table; some are killed. Nothing is lost and nothing is there twice."""

import random
import subprocess
import sys
import time

import duckdb
import pytest

from lakehouse.errors import ConcurrentWrite, TableError
from lakehouse.tables import Lake, Stamp
from lakehouse.tables import writing as writing_module
from tests.tables.reading import rows

T = "raw.shared"
STAMP = Stamp("test", "run")

WRITER = """
import sys
from lakehouse.tables import Lake, Stamp, Transaction
root, kind, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lake = Lake(root, memory_limit="200MB", threads=1)
stamp = Stamp("writer", str(me))
con = lake.open_connection()
print("ready", flush=True)
for i in range(count):
    one = f"SELECT {me} AS writer, {i} AS i, 1 AS n"
    if kind == "append":
        lake.append(con, "raw.shared", one, stamp=stamp, transaction=Transaction(f"writer.{me}", i))
    elif kind == "merge":
        both = f"{one} UNION ALL SELECT -1 AS writer, {i} AS i, {me} AS n"
        lake.merge(con, "raw.shared", both, key=["writer", "i"], stamp=stamp)
    elif kind == "big":
        lake.append(con, "raw.shared", f"SELECT {me} AS writer, range AS i, {i} AS n FROM range(300000)", stamp=stamp,
            transaction=Transaction("big", i))
"""


def start(root: str, kind: str, me: int, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, root, kind, str(me), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_four_processes_append_and_nothing_is_lost(lake: Lake) -> None:
    finish([start(lake.uri, "append", me, 15) for me in range(4)])
    assert sorted(rows(lake, T, columns="writer, i")) == [(me, i) for me in range(4) for i in range(15)]
    assert [info.version for info in lake.history(T)] == list(range(60))[::-1]
    assert sum(info.rows or 0 for info in lake.history(T)) == 60


def test_four_processes_merge_shared_keys_and_none_is_there_twice(lake: Lake) -> None:
    finish([start(lake.uri, "merge", me, 15) for me in range(4)])
    assert sorted(rows(lake, T, columns="writer, i")) == sorted((me, i) for me in range(-1, 4) for i in range(15))


def test_killed_at_any_instant_and_run_again(lake: Lake) -> None:
    random_instants = random.Random(7)
    kills = 0
    for round_number in range(12):
        # Every round has new commits to make, and is killed while it makes them, however fast the machine is.
        process = start(lake.uri, "big", 0, 4 * (round_number + 1))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(random_instants.uniform(0, 0.15))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        version = lake.version(T)
        if version is not None:
            assert lake.detail(T).rows == 300_000 * (version + 1)
            assert rows(lake, T, columns="count(*), count(DISTINCT n)") == [(300_000 * (version + 1), version + 1)]
    assert kills > 6
    finish([start(lake.uri, "big", 0, 48)])
    assert rows(lake, T, columns="count(*), count(DISTINCT n), sum(i)") == [(48 * 300_000, 48, 48 * 299_999 * 150_000)]


def test_a_commit_between_reading_and_writing_is_noticed(
    lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(con, T, "SELECT 1 AS i", stamp=STAMP)
    copy = writing_module.copy_rows
    foreign = iter([True])

    def copy_while_another_writes(*arguments: object, **named: object) -> object:
        written = copy(*arguments, **named)  # pyright: ignore[reportArgumentType]
        if next(foreign, False):
            lake.append(con, T, "SELECT 2 AS i", stamp=STAMP)
        return written

    monkeypatch.setattr("lakehouse.tables.operations.copy_rows", copy_while_another_writes)
    with pytest.raises(ConcurrentWrite, match="expected version 0; found version 1"):
        lake.append(con, T, "SELECT 3 AS i", stamp=STAMP, expect_version=0)
    foreign = iter([True])
    commit = lake.append(con, T, "SELECT 4 AS i", stamp=STAMP)
    assert (commit.attempts, commit.version) == (2, 3)
    assert sorted(rows(lake, T)) == [(1,), (2,), (2,), (4,)]


def test_a_merge_is_done_over_on_what_another_wrote(lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(con, T, "SELECT 1 AS i, 'a' AS v", stamp=STAMP)
    copy = writing_module.copy_rows
    foreign = iter([True])

    def copy_while_another_writes(*arguments: object, **named: object) -> object:
        written = copy(*arguments, **named)  # pyright: ignore[reportArgumentType]
        if next(foreign, False):
            import pyarrow as pa
            from deltalake import write_deltalake

            # A writer that knows nothing of ours and carries none of our transactions.
            write_deltalake(f"{lake.uri}/raw/shared", pa.table({"i": pa.array([2], pa.int32()), "v": ["theirs"]}), mode="append")
        return written

    monkeypatch.setattr("lakehouse.tables.rewriting.copy_rows", copy_while_another_writes)
    commit = lake.merge(con, T, "SELECT range::INTEGER AS i, 'ours' AS v FROM range(1, 3)", key=["i"], stamp=STAMP)
    assert commit.attempts == 2
    assert rows(lake, T) == [(1, "ours"), (2, "ours")]


def test_a_writer_that_never_gets_its_turn_gives_up_and_says_so(
    lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(con, T, "SELECT 1 AS i", stamp=STAMP)

    def always_second(*_: object, **__: object) -> int:
        raise writing_module.Conflict

    monkeypatch.setattr(writing_module.TableWriter, "change", always_second)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for write in (
        lambda: lake.append(con, T, "SELECT 1 AS i", stamp=STAMP),
        lambda: lake.merge(con, T, "SELECT 1 AS i", key=["i"], stamp=STAMP),
    ):
        with pytest.raises(ConcurrentWrite, match=r"raw.shared: .* 200 times .* in \d+ s; nothing was written.*Run again"):
            write()
    assert lake.version(T) == 0
    left = [file.path for file in lake.storage.walk("raw/shared") if "/_delta_log/" not in file.path]
    assert len(left) == 1, "the changed rows of lost attempts have gone with their data files"


def test_whose_commit_it_was_when_the_answer_is_lost(lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may accept a commit and fail to say so: finding our own commit is success, not a conflict."""
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    lake.append(con, T, "SELECT 1 AS i", stamp=STAMP)
    commit_for_real = DeltaTable.create_write_transaction

    def commit_and_fail(self: DeltaTable, *arguments: object, **options: object) -> None:
        commit_for_real(self, *arguments, **options)  # pyright: ignore[reportArgumentType]
        raise CommitFailedError("the connection was reset")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit_and_fail)
    commit = lake.append(con, T, "SELECT 2 AS i", stamp=STAMP)
    assert (commit.version, commit.attempts) == (1, 1)
    assert rows(lake, T) == [(1,), (2,)]


@pytest.mark.parametrize("way", ["append", "overwrite", "merge"])
def test_two_that_create_the_same_table(lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    copy = writing_module.copy_rows
    foreign = iter([True])

    def copy_while_another_creates(*arguments: object, **named: object) -> object:
        written = copy(*arguments, **named)  # pyright: ignore[reportArgumentType]
        if next(foreign, False):
            with lake.connect(()) as session:
                lake.append(session.con, T, "SELECT 1::BIGINT AS i, 'theirs' AS who", stamp=STAMP)
        return written

    for module in ("operations", "rewriting"):
        monkeypatch.setattr(f"lakehouse.tables.{module}.copy_rows", copy_while_another_creates)
    mine = "SELECT 2 AS i, TIMESTAMP '2026-01-01' AS seen"
    if way == "append":
        commit = lake.append(con, T, mine, stamp=STAMP)
    elif way == "merge":
        commit = lake.merge(con, T, mine, key=["i"], stamp=STAMP)
    else:
        commit = lake.overwrite(con, T, mine, stamp=STAMP)
    assert commit.attempts == (1 if way == "overwrite" else 2)
    assert [row[0] for row in rows(lake, T, columns="i")] == ([2] if way == "overwrite" else [1, 2])
    assert len(lake.storage.files("raw/shared")) == 2


def test_replaced_with_other_partitions_while_another_appends(
    lake: Lake, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(con, T, "SELECT 1 AS i, 'a' AS p", stamp=STAMP)
    create = writing_module.create_table_with_add_actions
    foreign = iter([True])

    def create_after_another(*arguments: object, **options: object) -> None:
        if next(foreign, False):
            with lake.connect(()) as session:
                lake.append(session.con, T, "SELECT 2 AS i, 'b' AS p", stamp=STAMP)
        create(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("lakehouse.tables.writing.create_table_with_add_actions", create_after_another)
    commit = lake.overwrite(con, T, "SELECT 3 AS i, 'c' AS p", stamp=STAMP, partition_by=["p"])
    assert commit.version == lake.version(T) == 2
    assert rows(lake, T) == [(3, "c")]


def test_a_table_whose_log_is_broken(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append(con, T, "SELECT 1 AS i", stamp=STAMP)
    lake.storage.write(f"raw/shared/_delta_log/{0:020d}.json", b"not a log")
    with pytest.raises(TableError, match=r"raw\.shared, file .*: is damaged"):
        lake.append(con, T, "SELECT 1 AS i", stamp=STAMP)
