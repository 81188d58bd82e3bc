"""Tiers: every row is in exactly one place that counts, at every instant and in every version."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from lakehouse.errors import ConcurrentWrite, TableError
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.tiers import counted_version, move_down, move_up, point_down, settle, spanning_sql

T = "raw.orders"
STAMP = Stamp("maintenance", "test")
Tiers = list[Lake]


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    made = [Lake(tmp_path / name, memory_limit="300MB", threads=2) for name in ("hot", "warm", "cold")]
    with made[0].connect(()) as session:
        made[0].append(session.con, T, "SELECT i AS id, 'text ' || i AS text FROM range(10) t(i)", stamp=Stamp(T, "r"))
    return made


def add(lake: Lake, *numbers: int) -> None:
    with lake.connect(()) as session:
        values = ", ".join(f"({number}::BIGINT, 'new')" for number in numbers)
        lake.append(session.con, T, f"SELECT * FROM (VALUES {values}) AS new(id, text)", stamp=Stamp(T, "r"))


def everywhere(tiers: Tiers, *, version: int | None = None) -> list[int]:
    con = tiers[0].open_connection()
    try:
        return [
            row[0] for row in con.execute(f"SELECT id FROM ({spanning_sql(tiers, T, con=con, version=version)}) ORDER BY id").fetchall()
        ]
    finally:
        con.close()


def ids(lake: Lake) -> list[int]:
    with lake.connect([T]) as session:
        return [row[0] for row in session.con.execute(f"SELECT id FROM {T} ORDER BY id").fetchall()]


def test_rows_move_down_and_back(tiers: Tiers) -> None:
    hot, warm, _ = tiers
    done = move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    assert (done.rows, done.version, done.lower_version) == (4, 1, 0)
    assert (ids(hot), ids(warm), everywhere(tiers)) == ([4, 5, 6, 7, 8, 9], [0, 1, 2, 3], list(range(10)))
    assert hot.history(T)[0].operation == "archive"
    assert warm.history(T)[0].stamp.inputs == {T: 0}
    assert move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm").rows == 0
    assert move_up(hot, warm, T, "id < 2", stamp=STAMP, tier="warm").rows == 2
    assert (ids(hot), ids(warm), everywhere(tiers)) == ([0, 1, 4, 5, 6, 7, 8, 9], [2, 3], list(range(10)))


def test_each_version_leads_to_what_had_moved_by_then(tiers: Tiers) -> None:
    hot, warm, _ = tiers
    move_down(hot, warm, T, "id < 2", stamp=STAMP, tier="warm")
    add(hot, 10)
    move_down(hot, warm, T, "id < 5", stamp=STAMP, tier="warm")
    move_up(hot, warm, T, "true", stamp=STAMP, tier="warm")
    assert [everywhere(tiers, version=version) for version in range(5)] == [list(range(10)), list(range(10)), *[list(range(11))] * 3]
    assert ids(warm) == []


def test_three_tiers(tiers: Tiers) -> None:
    hot, warm, cold = tiers
    move_down(hot, warm, T, "id < 6", stamp=STAMP, tier="warm")
    settle(hot, warm, T, stamp=STAMP)
    move_down(warm, cold, T, "id < 3", stamp=STAMP, tier="cold")
    # Not announced above yet: the rows count where they were.
    assert everywhere(tiers) == list(range(10))
    point_down(hot, warm, T, stamp=STAMP, tier="warm")
    assert hot.content_version(T) == 1
    assert (everywhere(tiers), everywhere(tiers[:2])) == (list(range(10)), list(range(3, 10)))
    assert (ids(hot), ids(warm), ids(cold)) == ([6, 7, 8, 9], [3, 4, 5], [0, 1, 2])
    move_up(hot, warm, T, "id = 5", stamp=STAMP, tier="warm")
    assert (everywhere(tiers), ids(hot)) == (list(range(10)), [5, 6, 7, 8, 9])
    settle(hot, warm, T, stamp=STAMP)
    move_up(warm, cold, T, "id = 0", stamp=STAMP, tier="cold")
    point_down(hot, warm, T, stamp=STAMP, tier="warm")
    assert (everywhere(tiers), ids(warm), ids(cold)) == (list(range(10)), [0, 3, 4], [1, 2])
    assert [everywhere(tiers, version=version) for version in range(hot.version(T) + 1)] == [list(range(10))] * (hot.version(T) + 1)


def test_a_restore_that_undoes_a_move_counts_no_row_twice(tiers: Tiers) -> None:
    hot, warm, _ = tiers
    move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    hot.restore(T, 0, stamp=STAMP)
    assert counted_version(hot, T) is None
    assert everywhere(tiers) == list(range(10))
    move_down(hot, warm, T, "id < 2", stamp=STAMP, tier="warm")
    assert (ids(hot), ids(warm), everywhere(tiers)) == (list(range(2, 10)), [0, 1], list(range(10)))


def test_a_row_that_comes_in_between_is_not_lost(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    hot, warm, _ = tiers
    acts = iter([lambda: add(hot, -1, 100)])
    monkeypatch.setattr("lakehouse.tables.tiers.reached", lambda point: next(acts, lambda: None)())
    assert move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm").rows == 5
    assert (ids(warm), everywhere(tiers)) == ([-1, 0, 1, 2, 3], [-1, *range(10), 100])
    acts = iter([lambda: add(hot, 101)])
    assert move_up(hot, warm, T, "id < 1", stamp=STAMP, tier="warm").rows == 2
    assert (ids(warm), everywhere(tiers)) == ([1, 2, 3], [-1, *range(10), 100, 101])


def test_it_gives_up_where_others_never_pause(tiers: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    hot, warm, _ = tiers
    numbers = iter(range(100, 200))
    monkeypatch.setattr("lakehouse.tables.tiers.reached", lambda point: add(hot, next(numbers)))
    with pytest.raises(ConcurrentWrite):
        move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    assert everywhere(tiers) == [*range(10), *range(100, 105)]


def test_an_archive_that_is_gone_is_an_error_and_no_silence(tiers: Tiers, tmp_path: Path) -> None:
    hot, warm, _ = tiers
    move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    elsewhere = Lake(tmp_path / "elsewhere")
    with pytest.raises(TableError, match="is not there, and rows have moved to it"):
        move_down(hot, elsewhere, T, "id < 5", stamp=STAMP, tier="warm")
    with pytest.raises(TableError, match="does not exist"):
        everywhere([hot, elsewhere])


_SCRIPT = """
import sys
from lakehouse.tables import Lake, Stamp
from lakehouse.tables import tiers
hot, warm = Lake(sys.argv[1]), Lake(sys.argv[2])
getattr(tiers, sys.argv[3])(hot, warm, "raw.orders", "id < 4", stamp=Stamp("maintenance", "test"), tier="warm")
"""


@pytest.mark.parametrize("point", ["mid_archive", "before_commit:2", "after_commit:2", "after_commit"])
@pytest.mark.parametrize("what", ["move_down", "move_up"])
def test_killed_in_between_every_row_counts_once(tiers: Tiers, what: str, point: str) -> None:
    hot, warm, _ = tiers
    if what == "move_up":
        move_down(hot, warm, T, "id < 6", stamp=STAMP, tier="warm")
    command = [sys.executable, "-c", _SCRIPT, hot.uri, warm.uri, what]
    assert subprocess.run(command, env={**os.environ, "LAKEHOUSE_TEST_CRASH_AT": point}, check=False).returncode == -9
    assert everywhere(tiers) == list(range(10))
    {"move_down": move_down, "move_up": move_up}[what](hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    assert everywhere(tiers) == sorted(ids(hot) + ids(warm)) == list(range(10))
    assert (0 in ids(warm)) is (what == "move_down")


def test_maintenance_of_both_sides_moves_nothing(tiers: Tiers, con: duckdb.DuckDBPyConnection) -> None:
    hot, warm, _ = tiers
    for number in range(3):
        move_down(hot, warm, T, f"id = {number}", stamp=STAMP, tier="warm")
    for lake in (hot, warm):
        lake.compact(T, stamp=STAMP, cluster_by=["id"])
    assert everywhere(tiers) == list(range(10))
    move_down(hot, warm, T, "id = 5", stamp=STAMP, tier="warm")
    assert (ids(warm), everywhere(tiers)) == ([0, 1, 2, 5], list(range(10)))


def test_what_is_erased_below_stays_erased(tiers: Tiers, con: duckdb.DuckDBPyConnection) -> None:
    hot, warm, _ = tiers
    move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    settle(hot, warm, T, stamp=STAMP)
    warm.delete(con, T, "id = 2", stamp=Stamp("erasure", "r"))
    assert everywhere(tiers) == [0, 1, *range(3, 10)]
    move_down(hot, warm, T, "id < 6", stamp=STAMP, tier="warm")
    assert (ids(warm), everywhere(tiers)) == ([0, 1, 3, 4, 5], [0, 1, *range(3, 10)])
    assert settle(hot, warm, T, stamp=STAMP) == warm.version(T)


def test_settling_what_is_settled_commits_nothing(tiers: Tiers) -> None:
    hot, warm, _ = tiers
    move_down(hot, warm, T, "id < 4", stamp=STAMP, tier="warm")
    add(warm, 50)  # Not a move: whoever did it meant it.
    assert 50 in everywhere(tiers)
    hot.restore(T, 0, stamp=STAMP)
    move_down(hot, warm, T, "id < 2", stamp=STAMP, tier="warm")
    assert everywhere(tiers) == list(range(10))
    before = warm.version(T)
    for _ in range(2):
        settle(hot, warm, T, stamp=STAMP)
    assert warm.version(T) == before
