"""Vacuum and orphans: what is kept stays readable to the row, what is in use stays, what is gone says so."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.errors import RetentionTooShort, TableNotFound, VersionGone
from lakehouse.tables import Lake
from lakehouse.tables.ranges import joined, spoken, without
from tests.tables.reading import rows

T = "raw.orders"
HOUR = timedelta(hours=1)


@pytest.fixture
def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=2)


@pytest.fixture
def versions(lake, con, stamp) -> list[list]:
    """Five versions, each of which replaces the one before."""
    made = []
    for number in range(5):
        lake.overwrite(con, T, f"SELECT {number} AS id FROM range({number + 1})", stamp=stamp)
        made.append(rows(lake, T))
    return made


def data(lake: Lake) -> list[str]:
    return [name for name in lake.storage.files("raw/orders") if name.endswith(".parquet")]


def test_only_what_is_kept_stays(lake, versions, later) -> None:
    done = lake.vacuum(T, keep=[1], retention=HOUR, now=later)
    assert (done.files, done.gone, done.newly_gone, done.version, done.skipped) == (3, ((0, 0), (2, 3)), ((0, 0), (2, 3)), 5, False)
    assert len(data(lake)) == 2
    assert rows(lake, T) == versions[4]
    assert rows(lake, T, version=1) == versions[1]
    assert lake.history(T)[0].operation == "vacuum"
    assert lake.content_version(T) == 4


@pytest.mark.parametrize("version", [0, 2, 3])
def test_a_version_that_is_gone_says_which_are_there(lake, versions, later, stamp, version) -> None:
    lake.vacuum(T, keep=[1], retention=HOUR, now=later)
    for ask in (lambda: rows(lake, T, version=version), lambda: lake.restore(T, version, stamp=stamp), lambda: lake.detail(T, version)):
        with pytest.raises(VersionGone, match=r"expected one of the versions that are kept: 1, 4 to 5"):
            ask()


def test_what_vacuum_says_it_would_do_is_what_it_does(lake, versions, later) -> None:
    said = lake.vacuum(T, retention=HOUR, now=later, dry_run=True)
    assert said.skipped
    assert len(data(lake)) == 5
    done = lake.vacuum(T, retention=HOUR, now=later)
    assert (said.files, said.bytes, said.gone) == (done.files, done.bytes, done.gone)
    assert lake.vacuum(T, retention=HOUR, now=later).skipped


def test_versions_stay_for_the_retention_after_they_were_replaced(lake, versions, later) -> None:
    assert lake.vacuum(T, retention=timedelta(hours=3), now=later).files == 0
    assert [rows(lake, T, version=number) for number in range(5)] == versions


def test_too_short_a_retention_is_refused_unless_forced(lake, versions) -> None:
    now = datetime.now(UTC)
    with pytest.raises(RetentionTooShort, match="at least 1:00:00"):
        lake.vacuum(T, retention=timedelta(minutes=59), now=now)
    assert lake.vacuum(T, retention=timedelta(0), now=now + timedelta(seconds=1), force=True).files == 4
    with pytest.raises(RetentionTooShort):
        lake.remove_orphans(T, older_than=timedelta(0), now=now)


def test_a_table_that_only_grew_loses_nothing(lake, con, stamp, later) -> None:
    for number in range(3):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)
    assert lake.vacuum(T, retention=HOUR, now=later).skipped
    assert rows(lake, T, version=0) == [(0,)]


def test_a_compacted_version_is_read_from_the_one_with_its_rows(lake, con, stamp, later) -> None:
    for number in range(3):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)
    lake.compact(T, stamp=stamp)
    done = lake.vacuum(T, keep=[2], retention=HOUR, now=later)
    assert (done.files, done.gone) == (3, ((0, 2),))
    with lake.connect([T], as_of={T: 2}) as session:
        assert session.con.execute(f"SELECT id FROM {T} ORDER BY id").fetchall() == [(0,), (1,), (2,)]
        assert session.versions == {T: 4}
    with pytest.raises(VersionGone):
        rows(lake, T, version=1)
    lake.append(con, T, "SELECT 9 AS id", stamp=stamp)
    assert lake.restore(T, 2, stamp=stamp).version == 6
    assert rows(lake, T) == [(0,), (1,), (2,)]


def test_a_restored_version_keeps_its_files(lake, con, stamp, versions, later) -> None:
    lake.restore(T, 1, stamp=stamp)
    done = lake.vacuum(T, retention=HOUR, now=later)
    assert done.gone == ((0, 0), (2, 4))
    assert rows(lake, T) == rows(lake, T, version=1) == versions[1]


def test_a_restore_that_comes_first_keeps_what_it_restored(lake, stamp, versions, later, monkeypatch) -> None:
    """Between the plan and its commit somebody restores a version that was to go."""
    from lakehouse.tables import vacuum

    acts = iter([lambda: lake.restore(T, 2, stamp=stamp)])
    real = vacuum.gone_versions

    def meanwhile(*arguments):
        next(acts, lambda: None)()
        return real(*arguments)

    monkeypatch.setattr(vacuum, "gone_versions", meanwhile)
    done = lake.vacuum(T, retention=HOUR, now=later)
    assert done.gone == ((0, 1), (3, 4))
    assert rows(lake, T) == versions[2]


def test_it_never_takes_what_is_not_yet_committed(lake, con, stamp, versions, later) -> None:
    place = Path(lake.storage.address("raw/orders/part-under-way.parquet"))
    con.execute(f"COPY (SELECT 1 AS id) TO '{place}'")
    lake.vacuum(T, retention=timedelta(0), now=later, force=True)
    assert lake.remove_orphans(T, now=later).files == 0
    assert place.exists()


def test_orphans_go_once_no_writer_can_be_behind_them(lake, con, versions, later) -> None:
    folder = Path(lake.storage.address("raw/orders"))
    left = [
        folder / "part-x.parquet",
        folder / "tmp_part-y.parquet",
        folder / "_delta_log" / "_commit_1.json.tmp",
        folder / "a=1" / "z.parquet",
    ]
    kept = [
        folder / "deletion_vector_1.bin",
        folder / "_delta_log" / "note.json",
        folder / ".hidden.parquet",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
    tomorrow = later + timedelta(days=1)
    said = lake.remove_orphans(T, now=tomorrow, dry_run=True)
    assert (said.files, said.bytes) == (4, 40)
    assert all(path.exists() for path in left)
    assert lake.remove_orphans(T, now=tomorrow) == said
    assert [path.exists() for path in (*left, *kept)] == [False] * 4 + [True] * 3
    assert [rows(lake, T, version=number) for number in range(5)] == versions


def test_a_log_whose_beginning_is_gone(lake, con, versions, later) -> None:
    lake.checkpoint(T)
    for version in range(4):
        Path(lake.storage.address(f"raw/orders/_delta_log/{version:020d}.json")).unlink()
    fresh = Lake(lake.uri)
    assert fresh.vacuum(T, retention=HOUR, now=later).files == 0
    assert rows(fresh, T) == versions[4]


def test_no_table(lake, later) -> None:
    with pytest.raises(TableNotFound):
        lake.vacuum("raw.nothing", retention=HOUR, now=later)
    with pytest.raises(TableNotFound):
        lake.remove_orphans("raw.nothing", now=later)


@pytest.mark.parametrize(
    ("runs", "said"), [([], "0 to 9"), ([(0, 3), (9, 9)], "4 to 8"), ([(1, 1), (2, 5), (7, 7)], "0, 6, 8 to 9"), ([(0, 9)], "none")]
)
def test_versions_that_are_left(runs: Sequence[tuple[int, int]], said: str) -> None:
    assert spoken(without(joined(runs), newest=9)) == said


_SCRIPT = """
import sys
from datetime import UTC, datetime, timedelta
from lakehouse.tables import Lake, Stamp
lake = Lake(sys.argv[1])
later = datetime.now(UTC) + timedelta(hours=2)
if sys.argv[2] == "vacuum":
    lake.vacuum("raw.orders", keep=[1], retention=timedelta(hours=1), now=later)
elif sys.argv[2] == "compact":
    lake.compact("raw.orders", stamp=Stamp("maintenance", "test"))
else:
    lake.checkpoint("raw.orders")
"""


def run(lake: Lake, what: str, *, crash_at: str = "") -> int:
    environment = {**os.environ, "LAKEHOUSE_TEST_CRASH_AT": crash_at}
    return subprocess.run([sys.executable, "-c", _SCRIPT, lake.uri, what], env=environment, check=False).returncode


def test_killed_while_it_deletes_it_is_done_over(lake, versions, later) -> None:
    assert run(lake, "vacuum", crash_at="mid_vacuum") == -9
    # Announced before the first file went: nobody is given rows of a version that is half there.
    assert len(data(lake)) == 5
    with pytest.raises(VersionGone):
        rows(lake, T, version=3)
    assert run(lake, "vacuum") == 0
    assert len(data(lake)) == 2
    assert (rows(lake, T), rows(lake, T, version=1)) == (versions[4], versions[1])


@pytest.mark.parametrize("crash_at", ["mid_compaction", "before_commit", "after_commit"])
def test_killed_while_it_compacts_no_row_moves(lake, con, stamp, crash_at, later) -> None:
    for number in range(4):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)
    assert run(lake, "compact", crash_at=crash_at) == -9
    assert rows(lake, T) == [(0,), (1,), (2,), (3,)]
    lake.compact(T, stamp=stamp)
    assert (lake.detail(T).files, lake.version(T)) == (1, 4)
    left = lake.remove_orphans(T, now=later + timedelta(days=1)).files
    assert left == (0 if crash_at == "after_commit" else 1)
    assert rows(lake, T) == rows(lake, T, version=3) == [(0,), (1,), (2,), (3,)]


def test_killed_while_it_checkpoints_the_table_opens(lake, versions) -> None:
    assert run(lake, "checkpoint", crash_at="mid_checkpoint") == -9
    assert rows(lake, T) == versions[4]
    assert lake.checkpoint(T).version == 4
    assert rows(lake, T) == versions[4]
