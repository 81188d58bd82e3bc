"""The difference of two versions: exact counts, whatever files they are in."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import SchemaMismatch, TableError
from lakehouse.tables import Lake, Stamp
from lakehouse.tables import diff as difference
from lakehouse.tables.diff import TableDiff, diff_snapshots

T = "analytics.people"
Diff = Callable[..., TableDiff]


@pytest.fixture
def diff(lake: Lake) -> Diff:
    def run(before: int, after: int, *key: str, limit: int = 10, out: Path | None = None) -> TableDiff:
        con = lake.open_connection()
        try:
            found = diff_snapshots(con, lake.snapshot(T, before), lake.snapshot(T, after), key=key, limit=limit, out=out)
            left = con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall()
            assert left == [(0,)]
            return found
        finally:
            con.close()

    return run


def counts(found: TableDiff) -> tuple[int, int, int]:
    return found.added, found.removed, found.changed


@pytest.fixture
def merged(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> Lake:
    """Two files; then one row of the second changes, one goes and one comes."""
    for start in (0, 10):
        lake.append(con, T, f"SELECT i AS id, i * 2 AS n, 'x' AS t FROM range({start}, {start + 10}) r(i)", stamp=stamp)
    lake.merge(con, T, "SELECT 12 AS id, -1 AS n, 'y' AS t UNION ALL SELECT 100, 1, 'z'", key=["id"], stamp=stamp)
    lake.delete(con, T, "id = 15", stamp=stamp)
    return lake


def test_rows_are_added_removed_and_changed_by_key(merged: Lake, diff: Diff) -> None:
    found = diff(1, 3, "id")
    assert counts(found) == (1, 1, 1)
    assert found.changed_columns == {"n": 1, "t": 1}
    assert found.samples.added == ({"id": 100, "n": 1, "t": "z"},)
    assert found.samples.removed == ({"id": 15, "n": 30, "t": "x"},)
    assert [(dict(row.before), dict(row.after)) for row in found.samples.changed] == [
        ({"id": 12, "n": 24, "t": "x"}, {"id": 12, "n": -1, "t": "y"})
    ]
    assert (found.rows_before, found.rows_after, found.files.in_both) == (20, 20, 1)
    back = diff(3, 1, "ID")
    assert (counts(back), back.key) == ((1, 1, 1), ("id",))


def test_without_a_key_a_changed_row_is_one_less_and_one_more(merged: Lake, diff: Diff) -> None:
    found = diff(1, 3)
    assert counts(found) == (2, 2, 0)
    assert found.changed_columns == {}


def test_equal_versions_and_added_files_are_known_from_the_log(merged: Lake, diff: Diff) -> None:
    assert diff(2, 2, "id").is_empty
    merged.storage.delete([f"analytics/people/{merged.snapshot(T, 0).files[0].path}"])
    found = diff(0, 1, "id", limit=3)
    assert counts(found) == (10, 0, 0)
    assert [row["id"] for row in found.samples.added] == [10, 11, 12]
    assert counts(diff(1, 0, limit=0)) == (0, 10, 0)


def test_columns_that_come_go_and_change_their_type(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, diff: Diff) -> None:
    lake.overwrite(con, T, "SELECT 1 AS id, 1 AS n, 'a' AS gone, 5::BIGINT AS m UNION ALL SELECT 2, 2, NULL, 6", stamp=stamp)
    lake.overwrite(con, T, "SELECT 1::BIGINT AS id, 'one' AS n, NULL AS new, 5::DOUBLE AS m UNION ALL SELECT 2, '2', 'b', 6", stamp=stamp)
    found = diff(0, 1, "id")
    assert (dict(found.schema.added), dict(found.schema.removed)) == ({"new": "VARCHAR"}, {"gone": "VARCHAR"})
    assert found.schema.retyped == {"id": ("INTEGER", "BIGINT"), "n": ("INTEGER", "VARCHAR"), "m": ("BIGINT", "DOUBLE")}
    assert (counts(found), found.changed_columns) == ((0, 0, 2), {"n": 1, "gone": 1, "new": 1})
    assert not found.is_empty


def test_every_row_that_differs_can_be_exported(merged: Lake, diff: Diff, tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    for name in ("changes.parquet", "odd 'name'.csv"):
        diff(1, 3, "id", limit=0, out=tmp_path / name)
        address = str(tmp_path / name).replace("'", "''")
        rows = con.execute(f"SELECT _change, id, n FROM '{address}' ORDER BY id, _change").fetchall()
        assert rows == [("changed_from", 12, 24), ("changed_to", 12, -1), ("removed", 15, 30), ("added", 100, 1)]
    with pytest.raises(TableError, match="is no file that rows can be written to"):
        diff(1, 3, out=tmp_path / "changes.xlsx")
    with pytest.raises(TableError, match="can't be written"):
        diff(1, 3, out=tmp_path / "missing" / "changes.csv")


def test_a_key_that_is_no_column_is_told(merged: Lake, diff: Diff) -> None:
    with pytest.raises(SchemaMismatch, match="is not in both versions"):
        diff(0, 1, "name")


def test_odd_values_are_equal_to_themselves(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, diff: Diff) -> None:
    sql = "SELECT NULL AS id, 'nan'::DOUBLE AS d, [1, NULL] AS l, {'a': NULL, 'b': 'x'} AS s, MAP {'k': 1} AS m, '\\x00'::BLOB AS b"
    lake.overwrite(con, T, f"{sql} UNION ALL {sql}", stamp=stamp)
    lake.overwrite(con, T, f"{sql} UNION ALL {sql} UNION ALL {sql}", stamp=stamp)
    assert counts(diff(0, 1, "id")) == (1, 0, 0)
    assert counts(diff(1, 0)) == (0, 1, 0)


ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.sampled_from(["a", "b", None])), max_size=7)


@given(before=ROWS, after=ROWS, is_large=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_law_of_counts(
    before: list[tuple[int | None, str | None]],
    after: list[tuple[int | None, str | None]],
    is_large: bool,
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    stamp: Stamp,
    diff: Diff,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal rows cancel out, repeated ones once each; the rest is paired by key, and the sums agree with the row counts."""
    monkeypatch.setattr(difference, "_DIGEST_ROWS", 0 if is_large else 20_000)
    for rows in (before, after):
        values = ", ".join(f"({'NULL' if n is None else n}::INTEGER, {'NULL' if t is None else repr(t)})" for n, t in rows)
        sql = f"SELECT * FROM (VALUES {values}) v(id, t)" if rows else "SELECT 1::INTEGER AS id, 'a' AS t WHERE false"
        lake.overwrite(con, T, sql, stamp=stamp)
    newest = lake.version(T) or 0
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    assert counts(diff(newest - 1, newest)) == (come.total(), gone.total(), 0)
    by_key = [Counter(row[0] for row in side.elements()) for side in (gone, come)]
    paired = (by_key[0] & by_key[1]).total()
    assert counts(diff(newest - 1, newest, "id")) == (come.total() - paired, gone.total() - paired, paired)
