"""What a profile says of relations whose answers are known."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Column, DatasetContract, Level, Rule, Severity
from lakehouse.errors import ContractError
from lakehouse.quality.profile import Freshness, Profile, Subject, as_of, build_profile, promised
from lakehouse.quality.profile.page import html_page

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        yield connection


def profiled(con: duckdb.DuckDBPyConnection, sql: str, **known: object) -> Profile:
    profile = build_profile(con, f"({sql})", Subject("t", **known), now=NOW)  # pyright: ignore[reportArgumentType]
    assert html_page(profile).endswith("</html>\n")
    return profile


def values(rows: str, columns: str) -> str:
    return f"SELECT * FROM (VALUES {rows}) AS v({columns})"


# ---- columns


def test_numbers_are_counted_exactly(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, "SELECT CASE WHEN range < 10 THEN NULL WHEN range = 999 THEN 100000 ELSE range END AS n FROM range(1000)")
    column = profile.column("n")
    assert (column.missing, column.values, column.distinct, column.distinct_exact) == (10, 990, 990, True)
    assert column.numbers is not None
    assert (column.numbers.minimum, column.numbers.maximum) == ("10", "100000")
    assert (column.numbers.outliers_iqr, column.numbers.outliers_z) == (1, 1)
    assert column.numbers.histogram is not None
    assert sum(column.numbers.histogram.counts) + column.numbers.histogram.below + column.numbers.histogram.above == 990
    assert any("far outside" in one.finding for one in profile.advice)


def test_nan_and_infinity_are_counted_and_left_out(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, values("(1.0::DOUBLE), (2.0), ('nan'), ('inf'), ('-inf'), (NULL)", "x"))
    numbers = profile.column("x").numbers
    assert numbers is not None
    assert (numbers.not_finite, numbers.mean, numbers.minimum, numbers.maximum) == (3, 1.5, "1.0", "2.0")
    assert profile.dimension("validity") == pytest.approx(2 / 5)


def test_the_largest_numbers_break_nothing(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, values("(1e308::DOUBLE), (-1e308), (1e-308), (0.0)", "x"))
    numbers = profile.column("x").numbers
    assert numbers is not None
    assert numbers.histogram is not None
    assert sum(numbers.histogram.counts) == 4


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a WHERE false",
        "SELECT 1 AS a",
        "SELECT NULL::VARCHAR AS a, NULL::DOUBLE AS b, NULL::DATE AS c, NULL::INTEGER[] AS d, NULL::BOOLEAN AS e FROM range(30)",
        "SELECT 'nan'::DOUBLE AS a, 'infinity'::DATE AS b, '-infinity'::TIMESTAMP AS c FROM range(5)",
        "SELECT {'a': range, 'b': [range]} AS s, [range] AS l, MAP {'k': range} AS m, 'x'::BLOB AS b, INTERVAL 1 DAY AS i, uuid() AS u, "
        "TIME '01:00' AS t, [1, 2]::INTEGER[2] AS fixed, '{}'::JSON AS j, union_value(n := range) AS un, '1'::BIT AS bit FROM range(40)",
        "SELECT range::HUGEINT AS h, range::UBIGINT AS u, range::DECIMAL(38, 10) AS d, range::FLOAT AS f, range::TINYINT AS t FROM range(100)",
        "SELECT DATE '0001-01-01' AS a, DATE '290000-01-01' AS b, now() AS c, TIMESTAMP_NS '2020-01-01' AS d FROM range(30)",
        "SELECT repeat('x', 3000000) || range AS huge FROM range(5)",
        "SELECT chr(0) || 'a' AS a, E'\\x1b[31m' AS b, '<script>alert(1)</script>' AS c FROM range(30)",
    ],
    ids=["empty", "one row", "all null", "not finite", "nested", "wide numbers", "far years", "huge text", "control characters"],
)
def test_any_relation_has_a_profile(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    profile = profiled(con, sql)
    assert 0 <= profile.score <= 1
    assert "<script" not in html_page(profile)
    assert "\x1b" not in html_page(profile)


def test_names_may_be_anything(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, """SELECT range AS "a b", 1 AS "x""y", range AS "v0", 'z' AS "SELECT", 2 AS "ü<&>", 3 AS "x1" FROM range(30)""")
    assert [one.name for one in profile.columns] == ["a b", 'x"y', "v0", "SELECT", "ü<&>", "x1"]
    assert profile.column("v0").distinct == 30
    assert "ü&lt;&amp;&gt;" in html_page(profile)


def test_texts_are_described(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(
        con,
        "SELECT ['Yes', 'No', 'yes '][range % 3 + 1] AS answer, 'AB-' || (1000 + range) AS code, (range * 1.5)::VARCHAR AS amount, "
        "CASE WHEN range % 10 = 0 THEN 'N/A' ELSE 'w' || range % 7 END AS gap FROM range(300)",
    )
    answer, code = profile.column("answer").texts, profile.column("code").texts
    assert answer is not None
    assert code is not None
    assert answer.variants == pytest.approx(1 / 3)
    assert answer.blank_edges == 100
    assert [one.label for one in code.patterns] == ["A+-9+"]
    assert {one.label: one.rows for one in profile.column("answer").top} == {"Yes": 100, "No": 100, "yes ": 100}
    topics = " ".join(one.finding for one in profile.advice)
    assert "answer says the same in several ways" in topics
    assert "amount holds numbers" in topics
    assert "'N/A'" in topics
    assert profile.dimension("consistency") == pytest.approx(1 - 100 / 1200)


def test_provenance_is_no_column(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, "SELECT 1 AS a, range AS _row, 'f' AS _file FROM range(30)")
    assert [one.name for one in profile.columns] == ["a"]
    assert profile.duplicates.rows == 29


@settings(max_examples=15)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-5, 5).map(float)), max_size=60))
def test_every_row_is_counted_once(numbers: list[float | None]) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (x DOUBLE)")
        if numbers:
            connection.executemany("INSERT INTO t VALUES (?)", [[number] for number in numbers])
        column = build_profile(connection, "t", Subject("t"), now=NOW).column("x")
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    assert column.missing == sum(number is None for number in numbers)
    assert column.numbers is not None
    assert column.numbers.not_finite == column.values - len(finite)
    if column.numbers.histogram is not None:
        assert sum(column.numbers.histogram.counts) + column.numbers.histogram.below + column.numbers.histogram.above == len(finite)
    assert sum(one.rows for one in column.top) <= column.values
    if column.top_is_all:
        assert sum(one.rows for one in column.top) == column.values


# ---- many rows, many columns


def test_what_a_sample_misses_is_counted_all_the_same(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE TABLE t AS SELECT range AS id, hash(range) % 150000 AS many, range % 7 AS few, "
        "CASE WHEN range = 77 THEN 'rare' ELSE 'usual' END AS word FROM range(300000)"
    )
    profile = build_profile(con, "t", Subject("t"), now=NOW)
    assert profile.sample_rows < 30_000
    assert profile.column("id").distinct == 300_000
    assert profile.column("id").distinct_exact
    assert profile.column("few").distinct == 7
    assert profile.column("word").distinct == 2
    assert profile.column("word").top[0].rows == 299_999
    exact = con.execute("SELECT count(DISTINCT many) FROM t").fetchall()[0][0]
    assert not profile.column("many").distinct_exact
    assert profile.column("many").distinct == pytest.approx(exact, rel=0.02)
    assert profile.duplicates.key is not None
    assert profile.duplicates.key.columns == ("id",)


def test_a_misleading_sample_costs_no_rows(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE t AS SELECT CASE WHEN range % 100 = 0 THEN range ELSE -1 END AS x FROM range(200000)")
    column = build_profile(con, "t", Subject("t"), now=NOW, sample_rows=1000).column("x")
    assert column.distinct == 2001
    assert column.top[0].label == "-1"
    assert column.top[0].rows == 198_000


def test_hundreds_of_columns_have_a_profile_and_thousands_a_small_page(con: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"(range * {n + 1}) % 97 AS column_number_{n:04d}" for n in range(150))
    con.execute(f"CREATE TABLE t AS SELECT {columns} FROM range(300)")
    profile = build_profile(con, "t", Subject("t"), now=NOW)
    assert len(profile.columns) == 150
    assert len(html_page(replace(profile, columns=profile.columns * 14)).encode()) < 1_000_000


# ---- rows


def test_repeated_rows_and_keys(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(con, "SELECT range % 50 AS a, range % 50 + 1 AS b FROM range(60)")
    assert (profile.duplicates.rows, profile.duplicates.key) == (10, None)
    assert profile.dimension("uniqueness") == pytest.approx(50 / 60)
    declared = DatasetContract("t", "1.0.0", (Column("a", "a", "integer", "BIGINT"),), primary_key=("a",))
    keyed = profiled(con, "SELECT range % 50 AS a, range AS b FROM range(60)", contract=declared)
    assert keyed.duplicates.key is not None
    assert keyed.duplicates.key.distinct == 50
    assert keyed.duplicates.rows == 0
    assert any("10 rows have the a of another row" in one.finding for one in keyed.advice)


def test_what_goes_with_what(con: duckdb.DuckDBPyConnection) -> None:
    profile = profiled(
        con,
        "SELECT range AS x, -range * range AS falls, range % 4 AS g, 'g' || range % 4 AS letter, hash(range) % 1000 AS noise, "
        "10 * (range % 4) + hash(range * 7) % 3 AS level FROM range(400)",
    )
    found = {(one.left, one.right): one for one in profile.associations}
    assert found["x", "falls"].value == -1
    assert found["x", "falls"].linear is not None
    assert -1 < found["x", "falls"].linear < -0.9
    assert found["letter", "level"].measure == "eta"
    assert found["letter", "level"].value > 0.99
    assert not any("noise" in pair and abs(one.value) > 0.25 for pair, one in found.items())


def test_a_target_is_suggested_and_described(con: duckdb.DuckDBPyConnection) -> None:
    sql = (
        "SELECT range AS id, range % 70 AS tenure, hash(range) % 50 AS noise, CASE WHEN range % 70 < 20 THEN 'yes' ELSE 'no' END AS copy, "
        "CASE WHEN range % 70 < 20 THEN 'yes' ELSE 'no' END AS churned FROM range(700)"
    )
    profile = profiled(con, sql)
    assert profile.targets[0].column == "churned"
    assert any("outcome" in reason for reason in profile.targets[0].reasons)
    target = profiled(con, sql, target="CHURNED").target
    assert target is not None
    assert target.column == "churned"
    assert {one.label: one.rows for one in target.balance} == {"no": 500, "yes": 200}
    assert any(one.startswith("copy: ") for one in target.suspects)
    with pytest.raises(ContractError, match="is not a column"):
        profiled(con, sql, target="nothing")


# ---- the contract


def rule(name: str, sql: str, level: Level, *columns: str) -> Rule:
    return Rule(name, level, Severity.WARNING, columns, sql, "''", name)


def test_the_contract_judges_validity_and_consistency(con: duckdb.DuckDBPyConnection) -> None:
    contract = DatasetContract(
        "t",
        "1.0.0",
        (Column("a", "a", "integer", "BIGINT"), Column("b", "b", "integer", "BIGINT")),
        rules=(rule("a.maximum", "a < 8", Level.SEMANTIC, "a"), rule("order", "a <= b", Level.BUSINESS, "a", "b")),
    )
    profile = profiled(con, "SELECT range AS a, 5::BIGINT AS b FROM range(10)", contract=contract, rows_read=20, rows_accepted=10)
    assert profile.dimension("validity") == pytest.approx(10 / 20 * 8 / 10)
    assert profile.dimension("consistency") == pytest.approx(6 / 10)


def test_timeliness_is_judged_when_it_is_read(con: duckdb.DuckDBPyConnection) -> None:
    contract = DatasetContract("t", "1.0.0", (), document={"slaProperties": [{"property": "frequency", "value": 2, "unit": "days"}]})
    promise = promised(contract)
    assert promise.promise_s == 2 * 86400
    freshness = Freshness(NOW, promise.promise_s, promise.promise)
    profile = profiled(con, "SELECT 1 AS a", freshness=freshness)
    assert profile.dimension("timeliness") == 1
    later = as_of(profile, NOW + timedelta(days=8))
    assert later.dimension("timeliness") == pytest.approx(0.25)
    assert later.score < profile.score


def test_nothing_of_a_hidden_column_is_shown(con: duckdb.DuckDBPyConnection) -> None:
    contract = DatasetContract(
        "t",
        "1.0.0",
        (
            Column("born", "born", "date", "DATE", classification="confidential"),
            Column("who", "who", "string", "VARCHAR", protection="pseudonym"),
            Column("salary", "salary", "number", "BIGINT", classification="restricted"),
        ),
    )
    profile = profiled(
        con,
        "SELECT DATE '1961-04-12' AS born, 'secret-person' AS who, 987654 + range % 2 AS salary, 'anna' || range || '@example.org' AS address "
        "FROM range(60)",
        contract=contract,
        target="salary",
    )
    page = html_page(profile) + repr(profile)
    for secret in ("1961", "secret-person", "987,654", "987654", "anna"):
        assert secret not in page, secret
    assert profile.column("who").distinct == 1
    assert profile.column("address").hidden == "looks like personal data (email)"
    assert any("address" in one.finding and one.weight == "high" for one in profile.advice)
