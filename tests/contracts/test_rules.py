"""The rules' SQL says what Python says, and a reason tells what was found and what was expected, never a secret."""

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Column, DatasetContract, Must, StatisticalRule, parse_dataset, row_rules, typed_select, unique_rules
from lakehouse.contracts.rules import column_rules
from lakehouse.sql import quote_identifier, quote_literal

CON = duckdb.connect()
CON.execute("SET TimeZone = 'UTC'")


def verdicts(column: Column, values: list[Any]) -> list[set[str]]:
    """The rules each value breaks."""
    rules = column_rules(column)
    checks = ", ".join(f"coalesce({rule.valid_sql}, true)" for rule in rules)
    rows = ", ".join(f"({n}, {quote_literal(value)})" for n, value in enumerate(values))
    typed = f"SELECT n, CAST(v AS {column.sql_type}) AS {quote_identifier(column.name)} FROM (VALUES {rows}) t(n, v)"
    result = CON.execute(f"SELECT {checks} FROM ({typed}) ORDER BY n").fetchall()
    return [{rule.id for rule, valid in zip(rules, row, strict=True) if not valid} for row in result]


BOUNDS = st.integers(-50, 50)


@settings(deadline=None, max_examples=40)
@given(low=BOUNDS, high=BOUNDS, values=st.lists(st.none() | st.integers(-60, 60), min_size=1, max_size=20), required=st.booleans())
def test_bounds_agree_with_python(low: int, high: int, values: list[int | None], required: bool) -> None:
    column = Column("x", "x", "integer", "BIGINT", required=required, options={"minimum": low, "exclusiveMaximum": high, "multipleOf": 3})

    def broken(value: int | None) -> set[str]:
        if value is None:
            return {"x.required"} if required else set()
        tests = {"x.minimum": value >= low, "x.exclusiveMaximum": value < high, "x.multipleOf": value % 3 == 0}
        return {name for name, valid in tests.items() if not valid}

    assert verdicts(column, values) == [broken(value) for value in values]


WORDS = st.text(alphabet="abAB01' é\\%", max_size=6)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.none() | WORDS, min_size=1, max_size=20),
    allowed=st.lists(WORDS, min_size=1, max_size=4),
    pattern=st.sampled_from(["^a", "[0-9]+$", "^(ab|'é)*$", r"^\w"]),
)
def test_words_agree_with_python(values: list[str | None], allowed: list[str], pattern: str) -> None:
    options = {"minLength": 2, "maxLength": 4, "pattern": pattern}
    column = Column("it's", "it's", "string", "VARCHAR", options=options, allowed=tuple(allowed))

    def broken(value: str | None) -> set[str]:
        if value is None:
            return set()
        tests = {
            "it's.minLength": len(value) >= 2,
            "it's.maxLength": len(value) <= 4,
            "it's.pattern": re.search(pattern, value, re.ASCII) is not None,
            "it's.enum": value in allowed,
        }
        return {name for name, valid in tests.items() if not valid}

    assert verdicts(column, values) == [broken(value) for value in values]


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"format": "email"}, ["a@b.org"], ["a@b", "a b@c.org"]),
        ({"format": "ipv4"}, ["10.0.0.1", "255.255.255.255"], ["256.1.1.1", "1.2.3"]),
        ({"format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
    ],
)
def test_known_formats_of_text(options: dict[str, Any], good: list[str], bad: list[str]) -> None:
    column = Column("x", "x", "string", "VARCHAR", options=options)
    assert verdicts(column, good + bad) == [set()] * len(good) + [{"x.format"}] * len(bad)


def test_dates_are_bounded_by_dates() -> None:
    column = Column("d", "d", "date", "DATE", options={"minimum": "2024-01-01", "maximum": "2024-12-31"})
    assert verdicts(column, ["2023-12-31", "2024-01-01", "2025-01-01"]) == [{"d.minimum"}, set(), {"d.maximum"}]


def judge(contract: DatasetContract, rows: list[dict[str, str | None]]) -> list[list[str]]:
    """The reasons of each row, as ingestion would list them."""
    sources = [column.source for column in contract.columns]
    CON.execute(f"CREATE OR REPLACE TABLE arrived ({', '.join(f'{quote_identifier(name)} VARCHAR' for name in sources)}, _row INT)")
    marks = ", ".join("?" for _ in sources)
    for n, row in enumerate(rows):
        CON.execute(f"INSERT INTO arrived VALUES ({marks}, {n})", [row.get(name) for name in sources])
    texts = ", ".join(f"{quote_identifier(name)} AS {quote_identifier('text ' + name)}" for name in sources)
    typed = f"SELECT {typed_select(contract.columns, text=lambda one: quote_identifier(one.source))}, {texts}, _row FROM arrived"
    rules = [*row_rules(contract, text=lambda one: quote_identifier("text " + one.source)), *unique_rules(contract, order=["_row"])]
    reasons = ", ".join(f"CASE WHEN NOT coalesce({rule.valid_sql}, true) THEN {rule.describe_sql} END" for rule in rules)
    return [[one for one in row[0] if one] for row in CON.execute(f"SELECT [{reasons}] FROM ({typed}) ORDER BY _row").fetchall()]


def test_a_bad_row_tells_every_reason(small: str) -> None:
    row = "sex = 'male' OR age < 99"
    custom = f'[{{property: lakehouse.row, value: "{row}"}}]'
    rule = f"{{name: women_have_phones, type: sql, query: SELECT 0, mustBe: 0, customProperties: {custom}}}"
    contract = parse_dataset(small + f"    quality:\n      - {rule}\n", path=Path("people.yaml"))

    reasons = judge(
        contract,
        [
            {"person_id": "a", "age": "20", "sex": "male", "phone": "123"},
            {"person_id": "b", "age": "140", "sex": "other"},
            {"person_id": " ", "age": "abc", "phone": "not-a-number"},
            {"person_id": "a"},
        ],
    )

    assert reasons == [
        [],
        [
            "age is 140: expected 15 to 110",
            "sex is other: expected one of female, male, no",
            "age is 140, sex is other: expected sex = 'male' OR age < 99",
        ],
        [
            "person_id is missing: a value is required",
            "age is abc: expected a whole number that fits INTEGER",
            "phone is (protected): expected to match ^[0-9]+$",
        ],
        ["person_id is a: this key was already in an earlier row"],
    ]


def test_a_value_of_the_wrong_type_in_a_required_column_is_one_reason(small: str) -> None:
    contract = parse_dataset(small.replace("name: age,", "name: age, required: true,"), path=Path("people.yaml"))

    assert judge(contract, [{"person_id": "a", "age": "old"}, {"person_id": "b"}]) == [
        ["age is old: expected a whole number that fits INTEGER"],
        ["age is missing: a value is required"],
    ]


def measured(contract: DatasetContract, sql_rows: str) -> dict[str, float | None]:
    """What the batch checks measure over typed rows."""

    def one(rule: StatisticalRule) -> float | None:
        source = f"({sql_rows}) t" if rule.metric != "sql" else None
        query = f"SELECT {rule.measure_sql} FROM {source}" if source else f"WITH people AS ({sql_rows}) {rule.measure_sql}"
        row = CON.execute(query).fetchone()
        return None if row is None or row[0] is None else float(row[0])

    return {rule.id: one(rule) for rule in contract.statistical_rules if rule.measure_sql}


def test_library_metrics_are_measured(small: str) -> None:
    contract = parse_dataset(
        small
        + """\
        quality:
          - {name: nulls, metric: nullValues, mustBe: 0}
          - {name: share, metric: nullValues, unit: percent, mustBeLessThan: 40}
          - {name: missing, metric: missingValues, arguments: {missingValues: ["-"]}, mustBe: 0}
          - {name: invalid, metric: invalidValues, arguments: {validValues: ["1", "2"], pattern: '^[0-9]$'}, mustBe: 0}
          - {name: duplicates, metric: duplicateValues, mustBe: 0}
    quality:
      - {name: rows, metric: rowCount, mustBeGreaterThan: 3}
      - {name: pairs, metric: duplicateValues, arguments: {properties: [person_id, age]}, mustBe: 0}
      - {name: query, type: sql, query: 'SELECT max(age) FROM {object}', mustBeLessOrEqualTo: 99}
""",
        path=Path("people.yaml"),
    )
    values = "('a', 1, 'male', '1'), ('a', 1, 'male', '1'), ('b', 7, 'male', '-'), ('c', 9, 'male', NULL)"
    rows = f"SELECT * FROM (VALUES {values}) v(person_id, age, sex, phone)"

    found = measured(contract, rows)

    assert found == {"nulls": 1, "share": 25, "missing": 2, "invalid": 1, "duplicates": 1, "rows": 4, "pairs": 1, "query": 9}
    held = {
        rule.id for rule in contract.statistical_rules if rule.must and (number := found[rule.id]) is not None and rule.must.holds(number)
    }
    assert held == {"share", "rows", "query"}
    empty = measured(contract, rows + " WHERE false")
    assert empty["share"] is None
    assert empty["rows"] == 0


@pytest.mark.parametrize(
    ("must", "holds", "fails"),
    [
        (Must("equal", 1), 1, 2),
        (Must("not_equal", 1), 2, 1),
        (Must("greater", 1), 2, 1),
        (Must("at_least", 1), 1, 0),
        (Must("less", 1), 0, 1),
        (Must("at_most", 1), 1, 2),
        (Must("between", (1, 2)), 2, 3),
        (Must("not_between", (1, 2)), 3, 2),
    ],
)
def test_conditions_hold_and_fail(must: Must, holds: float, fails: float) -> None:
    assert must.holds(holds)
    assert not must.holds(fails)
    assert str(must)
