"""Every way to write a table, what it leaves behind, and what it refuses."""

import json

import duckdb
import pytest
from deltalake import DeltaTable

from lakehouse.errors import ConcurrentWrite, ConstraintViolated, SchemaMismatch, TableError, TableNotFound
from lakehouse.tables import Lake, Stamp, TableName, Transaction
from tests.tables.reading import rows

T = "raw.people"


def test_create_then_overwrite_replaces_rows_columns_and_partitions(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    first = lake.overwrite(con, T, "SELECT 1 AS id, 'a' AS name", stamp=stamp)
    second = lake.overwrite(
        con, T, "SELECT DATE '2026-01-01' AS day, 2::BIGINT AS n, TIMESTAMP '2026-01-01' AS t", stamp=stamp, partition_by=["day"]
    )
    assert (first.version, first.previous_version, first.rows, first.files_added) == (0, None, 1, 1)
    assert (second.rows, second.files_removed, second.previous_version) == (1, 1, second.version - 1)
    assert lake.schema(T) == {"day": "DATE", "n": "BIGINT", "t": "TIMESTAMP"}
    assert lake.detail(T).partition_by == ("day",)
    assert rows(lake, T, version=0) == [(1, "a")]
    third = lake.overwrite(con, T, "SELECT 'x' AS only", stamp=stamp)
    assert lake.detail(T).partition_by == ()
    assert rows(lake, T) == [("x",)]
    assert third.version == lake.version(T)


def test_a_table_without_rows_has_its_columns(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    commit = lake.append(con, T, "SELECT 1 AS id, 'a' AS name WHERE false", stamp=stamp)
    assert (commit.version, commit.rows, commit.files_added, commit.skipped) == (0, 0, 0, False)
    assert lake.schema(T) == {"id": "INTEGER", "name": "VARCHAR"}
    assert rows(lake, T) == []
    assert lake.append(con, T, "SELECT 1 AS id WHERE false", stamp=stamp).skipped
    lake.append(con, T, "SELECT 1 AS id, 'a' AS name", stamp=stamp)
    lake.overwrite(con, T, f"SELECT * FROM ({lake.scan_sql(T, con=con)}) WHERE false", stamp=stamp)
    assert rows(lake, T) == []
    assert lake.detail(T).rows == 0
    assert not any("data_" in file.path for file in lake.storage.walk("raw/people"))


def test_append_matches_columns_by_name_and_adds_new_ones(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1::BIGINT AS id, 'a' AS name", stamp=stamp)
    lake.append(con, T, "SELECT 'b' AS NAME, 2::SMALLINT AS id", stamp=stamp)
    lake.append(con, T, "SELECT 3 AS id, TIMESTAMP '2026-01-01' AS seen, [1, 2] AS numbers", stamp=stamp)
    assert lake.schema(T) == {"id": "BIGINT", "name": "VARCHAR", "seen": "TIMESTAMP", "numbers": "INTEGER[]"}
    assert rows(lake, T, columns="id, name, year(seen), numbers") == [(1, "a", None, None), (2, "b", None, None), (3, None, 2026, [1, 2])]
    assert rows(lake, T, version=0) == [(1, "a")]
    lake.merge(con, T, "SELECT 1 AS id, 'c' AS name", key=["id"], stamp=stamp)
    lake.overwrite(con, T, f"SELECT * FROM ({lake.scan_sql(T, con=con)})", stamp=stamp)
    assert len(rows(lake, T)) == 3
    with pytest.raises(SchemaMismatch, match="column other: is not in the table"):
        lake.append(con, T, "SELECT 4 AS id, 1 AS other", stamp=stamp, evolve=False)


@pytest.mark.parametrize(
    "case",
    [
        ("1::BIGINT", "2::INTEGER", True),
        ("1::INTEGER", "2::BIGINT", False),
        ("1.0::DOUBLE", "2::INTEGER", True),
        ("1.0::DOUBLE", "2::BIGINT", False),
        ("1::DECIMAL(12,2)", "2::DECIMAL(10,2)", True),
        ("1::DECIMAL(12,3)", "2::DECIMAL(10,2)", True),
        ("1::DECIMAL(12,2)", "2::DECIMAL(12,1)", False),
        ("1::DECIMAL(12,2)", "2::INTEGER", True),
        ("'a'", "2", False),
        ("1", "'2'", False),
        ("TIMESTAMP '2026-01-01'", "DATE '2026-01-01'", True),
        ("TIMESTAMPTZ '2026-01-01'", "TIMESTAMP '2026-01-01'", False),
        ("[1::BIGINT]", "[2::INTEGER]", True),
        ("{'a': 1::BIGINT, 'b': 'x'}", "{'b': 'y', 'a': 1::INTEGER}", True),
        ("{'a': 1}", "{'b': 1}", False),
        ("MAP {'a': 1::BIGINT}", "MAP {'b': 1::INTEGER}", True),
        ("'a'", "'b'::ENUM('b')", True),
        ("'a'", "uuid()", True),
    ],
)
def test_only_what_fits_without_loss_goes_into_a_column(
    lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, case: tuple[str, str, bool]
) -> None:
    held, given, is_taken = case
    lake.overwrite(con, T, f"SELECT {held} AS value", stamp=stamp)
    before = lake.schema(T)
    if is_taken:
        lake.append(con, T, f"SELECT {given} AS value", stamp=stamp)
        assert len(rows(lake, T)) == 2
    else:
        with pytest.raises(SchemaMismatch) as raised:
            lake.append(con, T, f"SELECT {given} AS value", stamp=stamp)
        assert raised.value.expected == before["value"]
        assert "raw.people, column value" in str(raised.value)
        assert "Cast it to" in str(raised.value)
        assert lake.version(T) == 0
    assert lake.schema(T) == before


def test_a_refused_append_does_not_evolve_the_table(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.overwrite(con, T, "SELECT 1 AS id", stamp=stamp)
    with pytest.raises(SchemaMismatch, match="column id"):
        lake.append(con, T, "SELECT 'x' AS id, 1 AS extra", stamp=stamp)
    assert lake.schema(T) == {"id": "INTEGER"}


@pytest.mark.parametrize("name", ["two words", "a,b", "a=b", "a;b", "f(x)", "{a}", "tab\there", "line\nbreak"])
def test_a_name_that_delta_refuses_is_told(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, name: str) -> None:
    with pytest.raises(SchemaMismatch, match="name that a Delta table can't have"):
        lake.overwrite(con, T, f'SELECT 1 AS "{name}"', stamp=stamp)
    with pytest.raises(SchemaMismatch, match="name that a Delta table can't have"):
        lake.overwrite(con, T, f"SELECT {{'{name}': 1}} AS inside", stamp=stamp)
    assert not lake.exists(T)


def test_odd_but_lawful_names(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    sql = """SELECT 1 AS "größe", 2 AS "a.b", 3 AS "q""q", 4 AS "select", 5 AS "filename", 6 AS "UPPER", 7 AS "d'x" -- a comment"""
    lake.overwrite(con, T, sql, stamp=stamp)
    lake.merge(con, T, sql, key=["größe", 'q"q'], stamp=stamp)
    assert rows(lake, T) == [(1, 2, 3, 4, 5, 6, 7)]
    with pytest.raises(SchemaMismatch, match="twice"):
        lake.overwrite(con, T, 'SELECT 1 AS a, 2 AS "A"', stamp=stamp)


@pytest.mark.parametrize("sql", ["SELECT 1 AS a; SELECT 2 AS a", "DROP TABLE x", "", "CREATE TABLE y AS SELECT 1 AS a"])
def test_only_one_select_is_run(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, sql: str) -> None:
    with pytest.raises(TableError, match="is not one SELECT"):
        lake.overwrite(con, T, sql, stamp=stamp)


def test_merge_updates_inserts_and_keeps_what_it_does_not_name(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.merge(con, T, "SELECT range AS id, 'a' AS name, range * 10 AS points FROM range(4)", key=["id"], stamp=stamp)
    commit = lake.merge(con, T, "SELECT id, 'b' AS name FROM (VALUES (2::BIGINT), (9)) v(id)", key=["id"], stamp=stamp)
    assert commit.rows == 2
    assert rows(lake, T) == [(0, "a", 0), (1, "a", 10), (2, "b", 20), (3, "a", 30), (9, "b", None)]


def test_null_equals_null_in_a_key(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.merge(con, T, "SELECT NULL::INTEGER AS id, 'a' AS name", key=["id"], stamp=stamp)
    lake.merge(con, T, "SELECT NULL::INTEGER AS id, 'b' AS name", key=["id"], stamp=stamp)
    lake.delete_insert(con, T, "SELECT NULL::INTEGER AS id, 'c' AS name", key=["id"], stamp=stamp)
    assert rows(lake, T) == [(None, "c")]


def test_merge_refuses_a_key_that_comes_twice(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    with pytest.raises(ConstraintViolated, match="more than once"):
        lake.merge(con, T, "SELECT 1 AS id FROM range(2)", key=["id"], stamp=stamp)
    with pytest.raises(SchemaMismatch, match="key nope"):
        lake.merge(con, T, "SELECT 1 AS id", key=["nope"], stamp=stamp)
    assert not lake.exists(T)


def test_merge_rewrites_only_the_files_that_hold_a_key(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for start in range(0, 100, 10):
        lake.append(con, T, f"SELECT range AS id, 0 AS n FROM range({start}, {start + 10})", stamp=stamp)
    commit = lake.merge(con, T, "SELECT 55::BIGINT AS id, 1 AS n", key=["id"], stamp=stamp)
    assert (commit.files_removed, commit.files_added, lake.detail(T).files, lake.detail(T).rows) == (1, 1, 10, 100)


def test_delete_insert_takes_every_row_of_the_query(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1 AS id, 'a' AS name UNION ALL SELECT 2, 'b'", stamp=stamp)
    lake.delete_insert(con, T, "SELECT 1 AS id, 'x' AS name FROM range(2)", key=["id"], stamp=stamp)
    assert rows(lake, T) == [(1, "x"), (1, "x"), (2, "b")]


def test_delete_insert_only_deletes_for_rows_that_say_so(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1 AS id, 'a' AS name UNION ALL SELECT 2, 'b' UNION ALL SELECT 3, 'c'", stamp=stamp)
    given = "SELECT * FROM (VALUES (1, 'x'), (2, NULL), (4, NULL)) AS v(id, name)"
    commit = lake.delete_insert(con, T, given, key=["id"], stamp=stamp, gone="name IS NULL")
    assert (commit.rows, rows(lake, T)) == (1, [(1, "x"), (3, "c")])
    lake.delete_insert(con, T, "SELECT 1 AS id, NULL::VARCHAR AS name", key=["id"], stamp=stamp, gone="name IS NULL")
    assert rows(lake, T) == [(3, "c")]


def test_replace_where_and_delete(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT range AS id, range % 2 = 0 AS even FROM range(6)", stamp=stamp)
    lake.replace_where(con, T, "SELECT 100::BIGINT AS id, true AS even", where="even", stamp=stamp)
    assert rows(lake, T, columns="id") == [(1,), (3,), (5,), (100,)]
    with pytest.raises(ConstraintViolated, match="do not satisfy"):
        lake.replace_where(con, T, "SELECT 7::BIGINT AS id, false AS even", where="even", stamp=stamp)
    lake.replace_where(con, T, "SELECT 7::BIGINT AS id, true AS even WHERE false", where="even", stamp=stamp)
    commit = lake.delete(con, T, "id < 4", stamp=stamp)
    assert commit.rows == 2
    assert rows(lake, T, columns="id") == [(5,)]
    assert lake.delete(con, T, "id = 12345", stamp=stamp).skipped
    assert lake.delete(con, T, "id = 5", within={"id": (6, 9)}, stamp=stamp).skipped
    lake.delete(con, T, "true", stamp=stamp)
    assert rows(lake, T) == []
    with pytest.raises(TableNotFound, match=r"raw\.nobody"):
        lake.delete(con, "raw.nobody", "true", stamp=stamp)


PARTITION_VALUES = ["'a b/ü%=&?*[x]'", "NULL", "'x'", "'__x'", "'2026-01-01'"]


def test_partitions_of_odd_values_are_replaced_one_by_one(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    union = " UNION ALL ".join(f"SELECT {value}::VARCHAR AS p, {i} AS n" for i, value in enumerate(PARTITION_VALUES))
    lake.append(con, T, union, stamp=stamp, partition_by=["P"])
    assert {row[0] for row in rows(lake, T, columns="p")} == {"a b/ü%=&?*[x]", None, "x", "__x", "2026-01-01"}
    for i, value in enumerate(PARTITION_VALUES):
        commit = lake.replace_partitions(con, T, f"SELECT {value}::VARCHAR AS p, {i + 100} AS n", stamp=stamp)
        assert (commit.files_removed, commit.files_added) == (1, 1)
        lake.merge(con, T, f"SELECT {value}::VARCHAR AS p, {i + 100} AS n", key=["n"], stamp=stamp)
    assert sorted(row[0] for row in rows(lake, T, columns="n")) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize(
    "value",
    [
        "TIMESTAMP '2026-01-02 03:04:05.5'",
        "TIMESTAMP '2026-01-02'",
        "DATE '2026-01-02'",
        "true",
        "-7::TINYINT",
        "1.50::DECIMAL(10,2)",
        "9000000000",
    ],
)
def test_partitions_of_each_type_are_found_again(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, value: str) -> None:
    lake.append(con, T, f"SELECT {value} AS p, 1 AS n", stamp=stamp, partition_by=["p"])
    before = lake.schema(T)
    lake.replace_partitions(con, T, f"SELECT {value} AS p, 2 AS n", stamp=stamp)
    assert rows(lake, T, columns=f"n, p = {value}") == [(2, True)]
    assert lake.schema(T) == before
    with lake.connect([T]) as session:
        assert session.con.sql(f"SELECT p FROM {T}").types[0] == before["p"]


@pytest.mark.parametrize("value", ["1.5::DOUBLE", "'x'::BLOB", "TIMESTAMPTZ '2026-01-01'", "[1]"])
def test_what_can_not_partition(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, value: str) -> None:
    with pytest.raises(SchemaMismatch, match="can't partition"):
        lake.append(con, T, f"SELECT {value} AS p, 1 AS n", stamp=stamp, partition_by=["p"])
    with pytest.raises(SchemaMismatch, match="empty text"):
        lake.append(con, T, "SELECT '' AS p, 1 AS n", stamp=stamp, partition_by=["p"])
    with pytest.raises(SchemaMismatch, match="partition columns only"):
        lake.append(con, T, "SELECT 'x' AS p", stamp=stamp, partition_by=["p"])
    with pytest.raises(SchemaMismatch, match="no partitions to replace"):
        lake.replace_partitions(con, T, "SELECT 'x' AS p", stamp=stamp)
    assert not lake.exists(T)


def test_other_partitions_than_the_tables_are_refused(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 'x' AS p, 1 AS n", stamp=stamp, partition_by=["p"])
    with pytest.raises(SchemaMismatch, match="partitioned by other columns"):
        lake.append(con, T, "SELECT 'x' AS p, 1 AS n", stamp=stamp, partition_by=["n"])


def test_not_null_and_check_hold_for_every_write(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    from deltalake import Field, Schema
    from deltalake.schema import PrimitiveType

    DeltaTable.create(
        f"{lake.uri}/raw/people",
        Schema([Field("id", PrimitiveType("long"), nullable=False), Field("age", PrimitiveType("integer"), nullable=True)]),
    )
    DeltaTable(f"{lake.uri}/raw/people").alter.add_constraint({"adult": "age >= 18"})
    lake.append(con, T, "SELECT 1 AS id, 18 AS age", stamp=stamp)
    for write in (
        lambda sql: lake.append(con, T, sql, stamp=stamp),
        lambda sql: lake.overwrite(con, T, sql, stamp=stamp),
        lambda sql: lake.merge(con, T, sql, key=["age"], stamp=stamp),
        lambda sql: lake.delete_insert(con, T, sql, key=["age"], stamp=stamp),
        lambda sql: lake.replace_where(con, T, sql, where="true", stamp=stamp),
    ):
        with pytest.raises(ConstraintViolated, match=r"id IS NOT NULL \(1 of 1 rows\)"):
            write("SELECT NULL::BIGINT AS id, 20 AS age")
        with pytest.raises(ConstraintViolated, match=r"adult: age >= 18 \(1 of 1 rows\)"):
            write("SELECT 2::BIGINT AS id, 17 AS age")
    assert rows(lake, T) == [(1, 18)]
    lake.overwrite(con, T, "SELECT 5::BIGINT AS id, 50 AS age, 'new' AS more", stamp=stamp)
    with pytest.raises(ConstraintViolated):
        lake.append(con, T, "SELECT NULL::BIGINT AS id, 20 AS age", stamp=stamp)


def test_a_transaction_is_done_once(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    def batch(n: int) -> Transaction:
        return Transaction("ingest.people", n)

    sql = "SELECT range AS id FROM range(3)"
    assert lake.append(con, T, sql, stamp=stamp, transaction=batch(1)).version == 0
    assert lake.transaction(T, "ingest.people") == 1
    writes = (
        lambda: lake.append(con, T, sql, stamp=stamp, transaction=batch(1)),
        lambda: lake.append(con, T, sql, stamp=stamp, transaction=batch(0)),
        lambda: lake.overwrite(con, T, "SELECT 7 AS x", stamp=stamp, transaction=batch(1)),
        lambda: lake.merge(con, T, sql, key=["id"], stamp=stamp, transaction=batch(1)),
        lambda: lake.delete_insert(con, T, sql, key=["id"], stamp=stamp, transaction=batch(1)),
        lambda: lake.replace_where(con, T, sql, where="true", stamp=stamp, transaction=batch(1)),
        lambda: lake.delete(con, T, "true", stamp=stamp, transaction=batch(1)),
    )
    for write in writes:
        commit = write()
        assert (commit.skipped, commit.version, commit.rows) == (True, 0, 0)
    assert lake.append(con, T, sql, stamp=stamp, transaction=batch(2)).version == 1
    assert lake.append(con, T, sql, stamp=stamp, transaction=Transaction("another", 1)).version == 2
    assert len(rows(lake, T)) == 9
    empty = lake.append(con, T, f"{sql} WHERE false", stamp=stamp, transaction=batch(3))
    assert not empty.skipped
    assert lake.transaction(T, "ingest.people") == 3
    assert lake.transaction(T, "nobody") is None


def test_a_new_column_does_not_settle_the_transaction(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp, transaction=Transaction("s", 1))
    commit = lake.append(con, T, "SELECT 2 AS id, TIMESTAMP '2026-01-01' AS seen", stamp=stamp, transaction=Transaction("s", 2))
    assert not commit.skipped
    assert len(rows(lake, T)) == 2


def test_a_write_that_read_an_older_version_is_refused(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp, expect_version=-1)
    lake.append(con, T, "SELECT 2 AS id", stamp=stamp, expect_version=0)
    for write in (
        lambda: lake.append(con, T, "SELECT 3 AS id", stamp=stamp, expect_version=0),
        lambda: lake.overwrite(con, T, "SELECT 3 AS id", stamp=stamp, expect_version=-1),
        lambda: lake.merge(con, T, "SELECT 3 AS id", key="id", stamp=stamp, expect_version=0),
        lambda: lake.delete(con, T, "true", stamp=stamp, expect_version=0),
    ):
        with pytest.raises(ConcurrentWrite, match="changed by another writer"):
            write()
    assert rows(lake, T) == [(1,), (2,)]
    lake.append(con, T, "SELECT 4 AS id, TIMESTAMP '2026-01-01' AS seen", stamp=stamp, expect_version=1)


def test_the_stamp_is_in_the_commit_as_the_design_says(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT range AS id FROM range(5)", stamp=stamp)
    raw = DeltaTable(f"{lake.uri}/raw/people").history()[0]
    assert {key: raw[key] for key in ("lakehouse.asset", "lakehouse.run", "lakehouse.code", "lakehouse.operation", "lakehouse.rows")} == {
        "lakehouse.asset": "test",
        "lakehouse.run": "run-1",
        "lakehouse.code": "abc",
        "lakehouse.operation": "append",
        "lakehouse.rows": "5",
    }
    assert json.loads(raw["lakehouse.inputs"]) == {"raw.source": 4}
    assert json.loads(raw["lakehouse.source"]) == {"files": [{"path": "ä.csv", "rows": 3}]}
    (info,) = lake.history(T)
    assert (info.table, info.version, info.operation, info.rows, info.stamp) == (TableName("raw", "people"), 0, "append", 5, stamp)


@pytest.mark.parametrize("name", ["people", "Raw.people", "raw.", "raw.a.b", "raw.1a", "raw.a-b", "../x.y", "raw.a\n"])
def test_names_that_are_no_names(lake: Lake, name: str) -> None:
    with pytest.raises(TableError):
        lake.exists(name)
