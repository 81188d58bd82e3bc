"""A file's text becomes exactly the value it says, or no value at all; never another value."""

import itertools
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Column, cast_sql, text_sql
from lakehouse.contracts.types import logical_type_of, sql_type_of
from lakehouse.errors import ContractError

CON = duckdb.connect()
CON.execute("SET TimeZone = 'UTC'")


def cast(column: Column, texts: Iterable[str | None]) -> list[Any]:
    listed = list(texts)
    rows = CON.execute(
        f"SELECT {cast_sql(column, 't')} FROM (SELECT unnest(?::VARCHAR[]) AS t, unnest(?::INT[]) AS n) ORDER BY n",
        [listed, list(range(len(listed)))],
    )
    return [value for (value,) in rows.fetchall()]


def column(logical: str, sql_type: str, **more: Any) -> Column:
    return Column("c", "c", logical, sql_type, **more)


CASES: dict[str, tuple[Column, dict[str | None, Any]]] = {
    "integer": (
        column("integer", "INTEGER"),
        {"7": 7, " 7 ": 7, "+7": 7, "-0": 0, "3.0": 3, "3.": 3, "1e5": 100000, "007": 7, "": None, None: None}
        | dict.fromkeys(["3.5", "1e-1", "0x1F", "0b1", "1_000", "1,000", "99999999999", "abc", "٣", ".5", "--1"]),
    ),
    "big integer": (
        column("integer", "BIGINT"),
        {"9223372036854775807": 2**63 - 1, "9223372036854775808": None, "9007199254740993": 9007199254740993},
    ),
    "wide integer": (column("integer", "DECIMAL(20,0)"), {"18446744073709551615": Decimal(2**64 - 1), "1.5": None, "1.0": Decimal(1)}),
    "number": (
        column("number", "DOUBLE"),
        {"1.5": 1.5, "-1e3": -1000.0, ".5": 0.5, " 2 ": 2.0} | dict.fromkeys(["nan", "inf", "-Infinity", "1e400", "1_0", "1,5", "x", ""]),
    ),
    "decimal": (column("number", "DECIMAL(6,2)"), {"12.345": Decimal("12.35"), "9999.99": Decimal("9999.99"), "10000": None, "nan": None}),
    "decimal comma": (
        column("number", "DOUBLE", decimal=","),
        {"1,5": 1.5, "1.234,5": 1234.5, "1.234.567": 1234567.0, "12": 12.0, "1.5": None, "1,2,3": None},
    ),
    "boolean": (
        column("boolean", "BOOLEAN"),
        dict.fromkeys(["true", "TRUE", "T", "yes", "Y", "1", " Yes "], True)
        | dict.fromkeys(["false", "F", "No", "n", "0"], False)
        | dict.fromkeys(["2", "maybe", "on", ""]),
    ),
    "date": (
        column("date", "DATE"),
        {
            "2024-02-29": date(2024, 2, 29),
            "2024-2-9": date(2024, 2, 9),
            " 2024/02/09 ": date(2024, 2, 9),
            "2024-01-02T00:00:00Z": date(2024, 1, 2),
        }
        | dict.fromkeys(["2024-02-30", "2024-01-02 10:00", "24-01-02", "01/02/2024", "infinity", "epoch", "2024-01-02 (BC)", "20240102"]),
    ),
    "date with formats": (
        column("date", "DATE", formats=("%d/%m/%Y", "%d %b %Y")),
        {
            "31/12/2024": date(2024, 12, 31),
            "1/2/2024": date(2024, 2, 1),
            "3 Jan 2024": date(2024, 1, 3),
            "2024-01-02": date(2024, 1, 2),
            "31/12/24": None,
            "31/13/2024": None,
        },
    ),
    "timestamp": (
        column("timestamp", "TIMESTAMP"),
        {
            "2024-01-02 10:00": datetime(2024, 1, 2, 10),
            "2024-01-02T10:00:00.5": datetime(2024, 1, 2, 10, 0, 0, 500000),
            "2024-01-02T10:00:00Z": datetime(2024, 1, 2, 10),
            "2024-01-02T10:00:00+02:00": datetime(2024, 1, 2, 8),
            "2024-01-02T10:00:00-05": datetime(2024, 1, 2, 15),
            "2024-01-02": datetime(2024, 1, 2),
        }
        | dict.fromkeys(["2024-01-02 25:00", "12-11-10 10:00", "infinity", "2024-01-02 10:00 Europe/Paris", "10:00"]),
    ),
    "timestamp with formats": (
        column("timestamp", "TIMESTAMP", formats=("%m/%d/%Y %I:%M %p",)),
        {"01/02/2024 3:05 PM": datetime(2024, 1, 2, 15, 5), "2024-01-02 03:05": datetime(2024, 1, 2, 3, 5), "13/02/2024 3:05 PM": None},
    ),
    "instant": (
        column("timestamp", "TIMESTAMPTZ"),
        {
            "2024-01-02T10:00:00+02:00": datetime(2024, 1, 2, 8, tzinfo=UTC),
            "2024-01-02 10:00": datetime(2024, 1, 2, 10, tzinfo=UTC),
            "x": None,
        },
    ),
    "local instant": (
        column("timestamp", "TIMESTAMPTZ", timezone="Africa/Maputo"),
        {
            "2024-01-02 10:00": datetime(2024, 1, 2, 8, tzinfo=UTC),
            "2024-01-02T10:00:00Z": datetime(2024, 1, 2, 10, tzinfo=UTC),
            "290309-12-22 (BC)": None,
            "290000-01-01": None,
        },
    ),
    "odd spellings of whole numbers": (
        column("integer", "INTEGER"),
        {"1.5": None, "1_0": None, "0x1": None, ".5": None, "1e2": 100, "1.e3": 1000, "1.5e4": None, "007": 7, "-7": -7, "+7": 7, " 7": 7},
    ),
    "time": (column("time", "VARCHAR"), {"9:05": "09:05:00", "09:05:07.5": "09:05:07.5", "25:00": None}),
    "JSON": (column("array", "VARCHAR"), {'[1, {"a": 2}]': '[1, {"a": 2}]', "[1": None, "": None}),
    "text": (column("string", "VARCHAR"), {" a b\t": "a b", "": None, "  ": None, "0012": "0012", "NULL": "NULL", "\u00a0é": "\u00a0é"}),
    "untrimmed text": (column("string", "VARCHAR", trim=False), {" a ": " a ", "": None}),
    "null tokens": (column("integer", "INTEGER", null_values=("NA", "-99")), {"NA": None, "-99": None, " -99 ": None, "-98": -98}),
    "a null token that is a truth value": (column("boolean", "BOOLEAN", null_values=("N",)), {"N": None, "no": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_text_becomes_the_value_it_says(case: str) -> None:
    tried, expected = CASES[case]

    assert dict(zip(expected, cast(tried, expected), strict=True)) == expected


TYPED = [
    column("integer", "INTEGER"),
    column("integer", "BIGINT"),
    column("number", "DOUBLE"),
    column("number", "DECIMAL(12,2)"),
    column("boolean", "BOOLEAN"),
    column("date", "DATE", formats=("%d/%m/%Y",)),
    column("timestamp", "TIMESTAMP"),
    column("timestamp", "TIMESTAMPTZ"),
    column("time", "VARCHAR"),
    column("string", "VARCHAR"),
    column("string", "VARCHAR", null_values=("NA",)),
]
ODD_TEXTS = st.one_of(
    st.text(max_size=12),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.times().map(str),
    st.sampled_from(["true", "No", "NA", "1e5", "3.0", " 4 ", "+2", "0x10"]),
)


@settings(deadline=None, max_examples=15)
@given(texts=st.lists(ODD_TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=30))
def test_a_value_written_out_reads_back_as_itself(texts: list[str]) -> None:
    # One row per text, all types at once: whatever a cast accepts is a fixed point of writing and reading.
    usable = [text for text in texts if not any(0xD800 <= ord(character) <= 0xDFFF for character in text)]
    for one in TYPED:
        values = f"SELECT {cast_sql(one, 't')} AS v FROM (SELECT unnest(?::VARCHAR[]) AS t)"
        again = f"SELECT v, {cast_sql(one, 'CAST(v AS VARCHAR)')} AS w FROM ({values})"
        changed = CON.execute(f"SELECT v, w FROM ({again}) WHERE v IS NOT NULL AND v IS DISTINCT FROM w", [usable]).fetchall()
        assert changed == []


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(-(2**65), 2**65), min_size=1))
def test_an_integer_that_does_not_fit_is_no_value(values: list[int]) -> None:
    for sql_type, bits in (("SMALLINT", 16), ("INTEGER", 32), ("BIGINT", 64)):
        expected = [value if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None for value in values]
        assert cast(column("integer", sql_type), map(str, values)) == expected


def test_the_text_behind_a_value_is_null_only_where_it_means_no_value() -> None:
    tried = column("integer", "INTEGER", null_values=("NA",))
    texts = ["", " ", "NA", "abc", " 7"]
    rows = CON.execute(f"SELECT {text_sql(tried, 't')} FROM (SELECT unnest(?::VARCHAR[]) AS t)", [texts]).fetchall()

    assert [value for (value,) in rows] == [None, None, None, "abc", "7"]


@pytest.mark.parametrize(
    ("physical", "logical", "expected"),
    [
        ("varchar(20)", "string", "VARCHAR"),
        ("character varying(20)", "string", "VARCHAR"),
        ("double precision", "number", "DOUBLE"),
        ("NUMERIC(12, 2)", "number", "DECIMAL(12,2)"),
        ("decimal", "number", "DECIMAL(18,3)"),
        ("timestamp with time zone", "timestamp", "TIMESTAMPTZ"),
        ("timestamp without time zone", "timestamp", "TIMESTAMP"),
        ("TIMESTAMP(6)", "timestamp", "TIMESTAMP"),
        ("INTEGER[]", "array", "VARCHAR"),
        ("STRUCT<a: int>", "object", "VARCHAR"),
        ("time", "time", "VARCHAR"),
        ("UINTEGER", "integer", "BIGINT"),
        (None, "integer", "BIGINT"),
    ],
)
def test_physical_types_of_many_databases_are_known(physical: str | None, logical: str, expected: str) -> None:
    assert sql_type_of(logical, physical, {}) == expected
    if physical:
        assert logical_type_of(physical) in {logical, "object"}


def test_formats_of_numbers_choose_a_type_that_delta_can_store() -> None:
    kinds = {name: sql_type_of("integer", None, {"format": name}) for name in ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")}
    assert list(kinds.values()) == ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "SMALLINT", "INTEGER", "BIGINT", "DECIMAL(20,0)"]
    assert sql_type_of("timestamp", None, {"timezone": True}) == "TIMESTAMPTZ"


@pytest.mark.parametrize(
    ("logical", "physical"),
    [("integer", "VARCHAR"), ("date", "TIMESTAMP"), ("number", "DECIMAL(40,2)"), ("integer", "DECIMAL(4,2)"), ("string", "BLURB")],
)
def test_a_type_that_does_not_hold_is_refused(logical: str, physical: str) -> None:
    with pytest.raises(ContractError):
        sql_type_of(logical, physical, {})


def test_every_logical_type_of_the_standard_has_a_type() -> None:
    logical = ("string", "date", "timestamp", "time", "number", "integer", "object", "array", "boolean", "map", "vector")
    assert len(list(itertools.starmap(sql_type_of, ((name, None, {}) for name in logical)))) == 11
