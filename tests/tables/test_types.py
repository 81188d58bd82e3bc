"""Every DuckDB type comes back as it went, its bounds never hide a row, and other readers see the same."""

import json
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import SchemaMismatch
from lakehouse.tables import Lake, Stamp
from tests.tables.reading import rows

T = "raw.types"

SAME = [
    ("BOOLEAN", ["true", "false"]),
    ("TINYINT", ["-128", "127"]),
    ("SMALLINT", ["-32768", "32767"]),
    ("INTEGER", ["-2147483648", "2147483647"]),
    ("BIGINT", ["-9223372036854775808", "9223372036854775807"]),
    ("FLOAT", ["0.1", "-3.4e38", "'nan'", "'inf'", "'-inf'", "'-0.0'"]),
    ("DOUBLE", ["0.1", "1.7976931348623157e308", "5e-324", "'nan'", "'inf'"]),
    ("DECIMAL(4,1)", ["-999.9", "999.9"]),
    ("DECIMAL(18,3)", ["-999999999999999.999"]),
    ("DECIMAL(38,10)", ["9999999999999999999999999999.9999999999", "-0.0000000001"]),
    ("VARCHAR", ["''", "'ünïcödé 🦆'", "'it''s \"q\" \\ '", "repeat('z', 5000)", "chr(1)", "chr(0)"]),
    ("BLOB", ["''", "'\\x00\\xFF'"]),
    ("DATE", ["'0001-01-01'", "'9999-12-31'", "'1969-12-31'"]),
    ("TIMESTAMP", ["'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'", "'2026-01-01 00:00:00.000001'"]),
    ("TIMESTAMP WITH TIME ZONE", ["'1969-12-31 23:59:59.999999+00'", "'2026-06-01 12:00:00.123456+05:30'"]),
    ("INTEGER[]", ["[]", "[NULL]", "[1, NULL, 3]"]),
    ("INTEGER[][]", ["[[1], [], NULL]"]),
    ("STRUCT(a INTEGER, b VARCHAR)", ["{'a': 1, 'b': NULL}", "{'a': NULL, 'b': 'x'}"]),
    ("STRUCT(x STRUCT(y TIMESTAMP[]))[]", ["[{'x': {'y': ['2026-01-01 00:00:00']}}, NULL]"]),
    ("MAP(VARCHAR, INTEGER)", ["MAP {}", "MAP {'a': 1, 'b': NULL}"]),
    ("MAP(VARCHAR, STRUCT(a DECIMAL(10,2))[])", ["MAP {'a': [{'a': 1.25}]}"]),
]
CHANGED = [
    ("UTINYINT", ["0", "255"], "SMALLINT"),
    ("USMALLINT", ["65535"], "INTEGER"),
    ("UINTEGER", ["4294967295"], "BIGINT"),
    ("UBIGINT", ["18446744073709551615"], "DECIMAL(20,0)"),
    ("HUGEINT", ["-99999999999999999999999999999999999999"], "DECIMAL(38,0)"),
    ("UHUGEINT", ["99999999999999999999999999999999999999"], "DECIMAL(38,0)"),
    ("UUID", ["'7f7f7f7f-0000-4000-8000-000000000001'"], "VARCHAR"),
    ("TIME", ["'23:59:59.999999'"], "VARCHAR"),
    ("TIMETZ", ["'23:59:59+02'"], "VARCHAR"),
    ("INTERVAL", ["'1 day 2 hours'"], "VARCHAR"),
    ("JSON", ["'{\"a\": [1, null]}'"], "VARCHAR"),
    ("ENUM('a', 'b')", ["'a'"], "VARCHAR"),
    ("BIT", ["'0101'"], "VARCHAR"),
    ("TIMESTAMP_S", ["'2026-01-01 00:00:01'"], "TIMESTAMP"),
    ("TIMESTAMP_MS", ["'2026-01-01 00:00:01.123'"], "TIMESTAMP"),
    ("TIMESTAMP_NS", ["'2026-01-01 00:00:01.123456'"], "TIMESTAMP"),
    ("INTEGER[2]", ["[1, 2]"], "INTEGER[]"),
    ("UBIGINT[]", ["[1, 2]"], "DECIMAL(20,0)[]"),
    ("STRUCT(a UUID, b UINTEGER)", ["{'a': '7f7f7f7f-0000-4000-8000-000000000001', 'b': 1}"], "STRUCT(a VARCHAR, b BIGINT)"),
    ("UNION(n INTEGER, s VARCHAR)", ["union_value(n := 1)"], "VARCHAR"),
]
CASES = [(kind, values, kind) for kind, values in SAME] + CHANGED


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_each_type_comes_back(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, case: tuple[str, list[str], str]) -> None:
    kind, values, stored = case
    con.execute(f"CREATE TEMP TABLE source AS SELECT unnest(range({len(values)})) AS i, NULL::{kind} AS value")
    for i, value in enumerate(values):
        con.execute(f"UPDATE source SET value = CAST({value} AS {kind}) WHERE i = {i}")
    con.execute("INSERT INTO source VALUES (99, NULL)")
    lake.overwrite(con, T, "SELECT i, value FROM source", stamp=stamp)
    lake.append(con, T, f"SELECT i + 1000 AS i, value::{stored} AS value FROM source", stamp=stamp)
    lake.merge(con, T, f"SELECT i, value::{stored} AS value FROM source", key=["i"], stamp=stamp)
    assert con.sql(f"SELECT NULL::{stored}").types[0] == con.sql(f"SELECT NULL::{lake.schema(T)['value']}").types[0]
    with lake.connect([T]) as session:
        con.execute(f"CREATE TEMP VIEW back AS {lake.scan_sql(T, con=con)}")
        different = con.execute(
            f"SELECT s.i, s.value, b.value FROM source s JOIN back b ON b.i % 1000 = s.i WHERE s.value::{stored} IS DISTINCT FROM b.value"
        ).fetchall()
        assert different == []
        assert session.con.execute(f"SELECT count(*), count(value) FROM {T}").fetchall() == [(2 * len(values) + 2, 2 * len(values))]
    seen = DeltaTable(f"{lake.uri}/raw/types").scan(columns=["i"]).read_all()
    assert seen.num_rows == 2 * len(values) + 2


def test_other_readers_read_the_table(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    values = "range AS i, 'v' || range AS v, range::DECIMAL(10,2) AS d, [range] AS l, {'a': range} AS s"
    sql = f"SELECT {values}, DATE '2026-01-01' AS day FROM range(5)"
    lake.append(con, T, sql, stamp=stamp, partition_by=["day"])
    lake.delete(con, T, "i = 2", stamp=stamp)
    table = DeltaTable(f"{lake.uri}/raw/types").to_pyarrow_table()
    assert sorted(table.column("i").to_pylist()) == [0, 1, 3, 4]
    assert table.schema.names == ["i", "v", "d", "l", "s", "day"]
    assert {str(day) for day in table.column("day").to_pylist()} == {"2026-01-01"}


def test_a_table_that_another_engine_wrote(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    uri = f"{lake.uri}/raw/types"
    write_deltalake(uri, pa.table({"i": [1, 2], "p": ["x", "y"]}), partition_by=["p"])
    write_deltalake(uri, pa.table({"i": [3], "p": ["y"], "extra": ["new"]}), mode="append", schema_mode="merge")
    assert rows(lake, T) == [(1, "x", None), (2, "y", None), (3, "y", "new")]
    lake.merge(con, T, "SELECT 3::BIGINT AS i, 'z' AS p, 'moved' AS extra", key=["i"], stamp=stamp)
    write_deltalake(uri, pa.table({"i": [4], "p": ["y"], "extra": ["newer"]}), mode="append")
    assert rows(lake, T) == [(1, "x", None), (2, "y", None), (3, "z", "moved"), (4, "y", "newer")]
    assert [info.stamp is None for info in lake.history(T)] == [True, False, True, True]


def test_a_column_added_after_each_write_of_another_engine(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    lake.append(con, T, "SELECT 1::BIGINT AS i", stamp=stamp)
    write_deltalake(f"{lake.uri}/raw/types", pa.table({"i": [2], "more": ["x"]}), mode="append", schema_mode="merge")
    lake.append(con, T, "SELECT 3::BIGINT AS i, 'y' AS more", stamp=stamp)
    assert rows(lake, T) == [(1, None), (2, "x"), (3, "y")]


def test_bounds_never_exclude_a_value(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    """What a reader that skips files by bounds would do, for every type that carries bounds."""
    columns = ", ".join(f"CAST({values[-1]} AS {kind}) AS c{i}" for i, (kind, values) in enumerate(SAME))
    lake.overwrite(con, T, f"SELECT {columns}", stamp=stamp)
    (added,) = _adds(lake)
    statistics = json.loads(added["stats"])
    assert statistics["numRecords"] == 1
    nested = {f"c{i}" for i, (kind, _) in enumerate(SAME) if "[" in kind or ("(" in kind and not kind.startswith("DECIMAL"))}
    assert nested
    assert not nested & (set(statistics["nullCount"]) | set(statistics["minValues"]))
    kinds = {f"c{i}": kind for i, (kind, _) in enumerate(SAME)}
    for name, low in statistics["minValues"].items():
        high = statistics["maxValues"][name]
        query = f"SELECT {name} BETWEEN ?::{kinds[name]} AND ?::{kinds[name]} FROM ({lake.scan_sql(T, con=con)})"
        bounds = [str(bound).replace("Z", "+00") for bound in (low, high)] if kinds[name] == "TIMESTAMP WITH TIME ZONE" else [low, high]
        assert con.execute(query, bounds).fetchall() == [(True,)], name


def _adds(lake: Lake) -> list[dict[str, Any]]:
    lines = (lake.storage.read(f"raw/types/_delta_log/{0:020d}.json") or b"").splitlines()
    return [action["add"] for line in lines if "add" in (action := json.loads(line))]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80), st.floats(width=32), st.datetimes()),
        min_size=1,
        max_size=6,
    )
)
def test_any_text_number_and_time_survives(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp, values: list[tuple[Any, ...]]) -> None:
    con.execute("CREATE OR REPLACE TEMP TABLE source (t VARCHAR, f FLOAT, seen TIMESTAMP)")
    con.executemany("INSERT INTO source VALUES (?, ?, ?)", values)
    lake.overwrite(con, T, "SELECT * FROM source", stamp=stamp)
    back = f"SELECT * FROM ({lake.scan_sql(T, con=con)})"
    assert con.execute(f"(FROM source EXCEPT ALL {back}) UNION ALL ({back} EXCEPT ALL FROM source)").fetchall() == []
    # delta-rs skips files by the bounds that were written: asking for each value must find it.
    table = DeltaTable(f"{lake.uri}/raw/types")
    for _, _, seen in values:
        found = table.scan(
            columns=["seen"], predicate=f"seen = arrow_cast('{seen.isoformat()}', 'Timestamp(Microsecond, None)')"
        ).read_all()
        assert found.num_rows >= 1


def test_a_number_too_big_to_store_is_an_error(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    with pytest.raises(duckdb.ConversionException):
        lake.overwrite(con, T, "SELECT 170141183460469231731687303715884105727::HUGEINT AS h", stamp=stamp)
    with pytest.raises(SchemaMismatch, match="column v"):
        lake.overwrite(con, T, "SELECT 1::VARIANT AS v", stamp=stamp)
    assert not lake.exists(T)
