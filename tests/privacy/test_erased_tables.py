"""One subject leaves every version of a table; every other row of every version stays."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from lakehouse.crashpoints import VARIABLE
from lakehouse.privacy.erasure.rows import Manner
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.erasure.tables import ErasedTable, Work, erase_past, erase_table
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.names import TableName

WHO = "HH00000042"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
STAMP = Stamp(asset="test", run="r")
OWN = Manner(shares_columns=True)


def identifiers() -> Identifiers:
    return Identifiers.of({"household_id": [WHO]}, [WHO], main="household_id")


def rows(first: int, last: int, *, note: str = "''") -> str:
    return (
        f"SELECT format('HH{{:08d}}', i) AS household_id, i AS n, {note} AS note, "
        f"[format('HH{{:08d}}', i + 1)] AS others FROM range({first}, {last}) t(i)"
    )


def erase(
    lake: Lake, con: duckdb.DuckDBPyConnection, table: str, *, manner: Manner = OWN, dry_run: bool = False, hours: int = 2
) -> ErasedTable:
    scratch = Path(lake.uri).parent
    work = Work(lake.storage, con, identifiers(), "e1", datetime.now(UTC) + timedelta(hours=hours), scratch, dry_run)
    return erase_table(lake, TableName.parse(table), work, manner, stamp=STAMP)


def versions(lake: Lake, con: duckdb.DuckDBPyConnection, table: str, *, without: str | None = None) -> list[list[tuple[object, ...]]]:
    """Every version's rows in an order; without the subject's and what they are mentioned in, if asked for."""
    found: list[list[tuple[object, ...]]] = []
    where = f"WHERE household_id <> '{without}'" if without else ""
    masked = f"list_transform(others, lambda one: replace(one, '{without}', '[erased]'))" if without else "others"
    for version in range((lake.version(table) or 0) + 1):
        sql = lake.scan_sql(table, version=version, con=con)
        columns = f"household_id, n, replace(note, '{without or '-'}', '[erased]'), {masked}"
        found.append(con.execute(f"SELECT {columns} FROM ({sql}) {where} ORDER BY ALL").fetchall())
    return found


def grown(lake: Lake, con: duckdb.DuckDBPyConnection, table: str = "raw.people", *, commits: int = 32) -> None:
    """A table with appends, merges, deletes, an overwrite and checkpoints, in many versions of which the subject is."""
    lake.overwrite(con, table, rows(0, 100), stamp=STAMP)
    for number in range(1, commits):
        match number % 5:
            case 0:
                lake.merge(con, table, rows(40, 44, note=f"'merge {number}'"), key=["household_id", "n"], stamp=STAMP)
            case 1:
                lake.append(con, table, rows(1000 * number, 1000 * number + 20), stamp=STAMP)
            case 2:
                lake.append(con, table, rows(42, 43, note=f"'again {number}'"), stamp=STAMP)
            case 3:
                lake.delete(con, table, f"n % 17 = {number % 17}", stamp=STAMP)
            case _:
                lake.append(con, table, rows(7, 9, note=f"'is a friend of {WHO}.'"), stamp=STAMP)
    lake.overwrite(con, table, rows(0, 60), stamp=STAMP)


def leftovers(folder: Path, word: str = WHO) -> list[str]:
    """Files under a folder that hold the word, whatever form it has there."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if word.encode() in path.read_bytes() or word in str(path):
            found.append(str(path))
        elif path.suffix == ".parquet":
            with duckdb.connect() as con:
                relation = con.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning=false)")
                if any(word in str(row) for row in relation.fetchall()):
                    found.append(str(path))
    return found


def test_subject_leaves_every_version_and_nothing_else_changes(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con)
    before = versions(lake, con, "raw.people", without=WHO)
    checkpoints = sorted(path.name for path in Path(lake.uri).rglob("*.checkpoint.parquet"))
    assert checkpoints
    assert leftovers(Path(lake.uri))
    done = erase(lake, con, "raw.people")
    assert done.rows_now == 1
    assert done.rows_ever > 10
    assert done.masked > 2
    assert leftovers(Path(lake.uri)) == []
    after = versions(lake, con, "raw.people")
    assert len(after) == len(before) + 1
    assert after[:-1] == before
    assert after[-1] == before[-1]
    # The log is as fast to open as it was, and other readers agree.
    assert set(checkpoints) <= {path.name for path in Path(lake.uri).rglob("*.checkpoint.parquet")}
    for version in (0, 3, 20, 31):
        table = DeltaTable(lake.uri + "/raw/people", version=version).to_pyarrow_table()
        assert table.num_rows == len(before[version])
        assert sum(table.column("n").to_pylist()) == sum(int(str(row[1])) for row in before[version])
    assert not list(Path(lake.uri).rglob("_erasing.json"))


def test_the_changes_that_commits_tell_of_lose_the_subject_too(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con)
    lake.delete(con, "raw.people", f"household_id = '{WHO}'", stamp=STAMP)
    folder = Path(lake.uri, "raw", "people", "_change_data")
    before = leftovers(folder)
    assert before
    erase(lake, con, "raw.people")
    assert leftovers(Path(lake.uri)) == []
    assert len(list(folder.iterdir())) >= len(before) / 2
    # What they tell is still the difference of the versions, which have lost the same rows.
    newest = lake.version("raw.people") or 0
    for since, until in ((0, 20), (3, newest), (20, 31), (newest - 2, newest)):
        told = lake.changes("raw.people", since, until)
        assert told is not None
        kind = "sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END)"
        names = "household_id, n, note, others"
        net = con.execute(f"SELECT {names}, {kind} AS times FROM ({told.scan_sql(con)}) GROUP BY ALL HAVING times <> 0").fetchall()
        old, new = (lake.scan_sql("raw.people", version=version, con=con) for version in (since, until))
        sides = f"SELECT {names}, 1 AS sign FROM ({new}) UNION ALL SELECT {names}, -1 FROM ({old})"
        full = con.execute(f"SELECT {names}, sum(sign) AS times FROM ({sides}) GROUP BY ALL HAVING times <> 0").fetchall()
        assert sorted(map(repr, net)) == sorted(map(repr, full))


def test_erasing_again_finds_nothing_and_commits_nothing(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con, commits=12)
    erase(lake, con, "raw.people")
    version = lake.version("raw.people")
    again = erase(lake, con, "raw.people")
    assert not again.is_touched
    assert lake.version("raw.people") == version


def test_dry_run_counts_and_changes_nothing(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con, commits=12)
    before = {path: path.read_bytes() for path in Path(lake.uri).rglob("*") if path.is_file()}
    counted = erase(lake, con, "raw.people", dry_run=True)
    assert counted.rows_ever
    assert {path: path.read_bytes() for path in Path(lake.uri).rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_writing_goes_on_afterwards(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con, commits=30)
    erase(lake, con, "raw.people")
    lake.merge(con, "raw.people", rows(1, 3, note="'later'"), key=["household_id", "n"], stamp=STAMP)
    lake.append(con, "raw.people", rows(5000, 5010), stamp=STAMP)
    assert con.execute(f"SELECT count(*) FROM ({lake.scan_sql('raw.people', con=con)})").fetchall() == [(69,)]


@pytest.mark.parametrize("manner", [Manner(), Manner(whole_cells=False)])
def test_a_table_of_others_keeps_its_rows_where_the_subject_is_only_mentioned(
    lake: Lake, con: duckdb.DuckDBPyConnection, manner: Manner
) -> None:
    lake.overwrite(con, "monitoring.checks", f"SELECT 'seen: {WHO}' AS detail, 1 AS n UNION ALL SELECT '{WHO}', 2", stamp=STAMP)
    erase(lake, con, "monitoring.checks", manner=manner)
    left = con.execute(f"SELECT * FROM ({lake.scan_sql('monitoring.checks', con=con)}) ORDER BY n").fetchall()
    assert left == [("seen: [erased]", 1), ("[erased]", 2)][: 1 if manner.whole_cells else 2]
    assert leftovers(Path(lake.uri)) == []


def test_longer_identifiers_that_begin_or_end_alike_stay(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    values = [f"{WHO}1", f"X{WHO}", "HH0000004", WHO.lower(), ""]
    listed = ", ".join(f"('{value}', 1)" for value in [*values, WHO])
    lake.overwrite(con, "raw.people", f"SELECT * FROM (VALUES {listed}) AS v(household_id, n)", stamp=STAMP)
    erase(lake, con, "raw.people")
    assert {row[0] for row in con.execute(lake.scan_sql("raw.people", con=con)).fetchall()} == set(values)


def test_a_partition_of_the_subject_goes_whole(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.overwrite(con, "raw.people", rows(40, 45), partition_by=["household_id"], stamp=STAMP)
    lake.append(con, "raw.people", rows(40, 45), stamp=STAMP)
    erase(lake, con, "raw.people")
    assert leftovers(Path(lake.uri)) == []
    assert [len(version) for version in versions(lake, con, "raw.people")] == [4, 8, 8]


def test_an_emptied_table_is_left(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.overwrite(con, "raw.people", rows(42, 43), stamp=STAMP)
    erase(lake, con, "raw.people")
    assert versions(lake, con, "raw.people") == [[], []]


def test_what_commits_say_of_themselves_is_masked(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    stamp = Stamp(asset="test", run="r", source={"files": [{"file": f"export_{WHO}.csv"}]})
    lake.overwrite(con, "raw.people", rows(1, 3), stamp=stamp)
    erase(lake, con, "raw.people")
    assert leftovers(Path(lake.uri)) == []
    newest = lake.history("raw.people")[-1].stamp
    assert newest is not None
    assert newest.source == {"files": [{"file": "export_[erased].csv"}]}


@pytest.mark.slow
def test_a_log_that_begins_with_a_checkpoint(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con, commits=40)
    log = Path(lake.uri) / "raw/people/_delta_log"
    for version in range(25):
        (log / f"{version:020d}.json").unlink()
    expected = [DeltaTable(lake.uri + "/raw/people", version=v).to_pyarrow_table().num_rows for v in range(25, 41)]
    counts = [
        sum(
            str(one) == WHO for one in DeltaTable(lake.uri + "/raw/people", version=v).to_pyarrow_table().column("household_id").to_pylist()
        )
        for v in range(25, 41)
    ]
    erase(lake, con, "raw.people")
    assert leftovers(Path(lake.uri)) == []
    after = [DeltaTable(lake.uri + "/raw/people", version=v).to_pyarrow_table().num_rows for v in range(25, 41)]
    assert after == [rows - theirs for rows, theirs in zip(expected, counts, strict=True)]


def test_a_file_that_no_version_has_goes_when_no_writer_can_need_it(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.overwrite(con, "raw.people", rows(0, 3), stamp=STAMP)
    orphan = Path(lake.uri) / "raw/people/part-orphan.parquet"
    con.execute(f"COPY ({rows(40, 44)}) TO '{orphan}' (FORMAT parquet)")
    work = Work(lake.storage, con, identifiers(), "e1", datetime.now(UTC), Path(lake.uri).parent)
    done = erase_table(lake, TableName.parse("raw.people"), work, OWN, stamp=STAMP)
    assert done.waiting == ("part-orphan.parquet",)
    assert orphan.exists()
    assert erase(lake, con, "raw.people").waiting == ()
    assert not orphan.exists()


@pytest.mark.slow
def test_the_past_alone_can_be_rewritten(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    grown(lake, con, commits=30)
    before = versions(lake, con, "raw.people", without=WHO)
    work = Work(lake.storage, con, identifiers(), "e1", NOW + timedelta(days=9999), Path(lake.uri).parent)
    erase_past(work, "raw/people", OWN)
    assert leftovers(Path(lake.uri)) == []
    assert versions(lake, con, "raw.people") == before


DRIVER = """
import sys
from pathlib import Path
from lakehouse.tables import Lake
from tests.privacy.test_erased_tables import erase
lake = Lake(sys.argv[1], memory_limit="500MB", threads=1)
with lake.connect(()) as session:
    erase(lake, session.con, "raw.people", hours=0)
"""


def killed_at(lake: Lake, point: str) -> int:
    environment = {**os.environ, VARIABLE: point}
    return subprocess.run([sys.executable, "-c", DRIVER, lake.uri], env=environment, check=False, cwd=Path(__file__).parents[2]).returncode


@pytest.mark.parametrize("times", [(2, 12), pytest.param(tuple(range(2, 60, 3)), marks=pytest.mark.slow)])
def test_killed_anywhere_every_version_reads_and_the_next_run_ends_it(
    lake: Lake, con: duckdb.DuckDBPyConnection, times: Sequence[int]
) -> None:
    grown(lake, con, commits=9)
    before = versions(lake, con, "raw.people")
    clean = versions(lake, con, "raw.people", without=WHO)
    for time in times:
        assert killed_at(lake, f"mid_erase:{time}") in (-9, 0)
        # Each version is as it was or as it will be, row for row of all the others.
        now = versions(lake, con, "raw.people")
        assert versions(lake, con, "raw.people", without=WHO)[: len(clean)] == clean
        for version, found in enumerate(now[: len(before)]):
            assert len(clean[version]) <= len(found) <= len(before[version])
    # What a killed erasure left is known for its own, however young it is.
    assert erase(lake, con, "raw.people", hours=0).waiting == ()
    assert leftovers(Path(lake.uri)) == []
    assert versions(lake, con, "raw.people")[: len(clean)] == clean
