"""Who trains and who tests: a law of the rows, not of their order."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Split
from lakehouse.errors import ModelError
from lakehouse.features import ModelRows
from lakehouse.learning.splits import require_both_parts, split_sql
from tests.learning.conftest import model


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


ROWS = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 12), st.sampled_from(["a", "b", "b"])), min_size=12, max_size=60)


def split(con: duckdb.DuckDBPyConnection, rows: list[tuple[int, int, str]], order: str, **changes: object) -> list[tuple]:
    values = ", ".join(
        f"({number}, {entity}, {'NULL' if day is None else day}, '{label}')" for number, (entity, day, label) in enumerate(rows)
    )
    days = "DATE '2026-01-01' + CAST(day AS INTEGER) AS day" if changes.get("gap_days") else "day AS day"
    con.execute(
        f"CREATE OR REPLACE TABLE given AS SELECT * REPLACE ({days}) FROM (VALUES {values}) AS v(n, id, day, _label) ORDER BY {order}"
    )
    contract = model("m", split=Split(**changes))
    sql = split_sql("SELECT * FROM given", contract, ModelRows("", ("id",), "day", {}, (), changes.get("column")))
    return con.execute(f"SELECT n, id, day, _label, _split, _fold FROM ({sql}) ORDER BY n").fetchall()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_random_split_never_divides_an_entity_and_ignores_the_order_of_rows(con, rows):
    found = split(con, rows, "n", strategy="random")
    assert found == split(con, rows, "n DESC", strategy="random")
    assert len(found) == len(rows)
    parts: dict[int, set] = {}
    for _, entity, _, _, part, fold in found:
        parts.setdefault(entity, set()).add((part, fold))
        assert (fold is None) == (part == "test")
    assert all(len(one) == 1 for one in parts.values())


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_time_split_tests_on_the_newest_and_never_divides_an_instant(con, rows):
    found = split(con, rows, "n", strategy="time", test_fraction=0.25)
    assert found == split(con, rows, "n DESC", strategy="time", test_fraction=0.25)
    train = [(day, fold) for _, _, day, _, part, fold in found if part == "train"]
    test = [day for _, _, day, _, part, _ in found if part == "test"]
    assert test
    assert len(test) >= 0.25 * len(rows) or not train
    assert all(day < min(test) for day, _ in train)
    # A later fold holds nothing older than an earlier one: validating on it never trains on the future.
    for fold in {fold for _, fold in train}:
        assert all(before < day for before, earlier in train for day, later in train if earlier < fold <= later)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, gap=st.integers(1, 8))
def test_a_gap_keeps_the_days_before_the_test_rows_out_of_training(con, rows, gap):
    found = split(con, rows, "n", strategy="time", test_fraction=0.25, gap_days=gap)
    without = split(con, rows, "n", strategy="time", test_fraction=0.25)
    assert [row[0] for row in found if row[4] == "test"] == [row[0] for row in without if row[4] == "test"]
    first = min(row[2] for row in found if row[4] == "test")
    for _, _, day, _, part, fold in found:
        away = (first - day).days
        assert part == ("test" if away <= 0 else "gap" if away <= gap else "train")
        assert (fold is None) == (part != "train")


@pytest.mark.parametrize(("strategy", "column"), [("time", None), ("time", "day"), ("group", "day")])
def test_a_row_without_what_decides_takes_no_part(con, strategy, column):
    rows = [(entity, None if entity % 5 == 0 else entity % 7, "a" if entity % 3 else "b") for entity in range(60)]
    found = split(con, rows, "n", strategy=strategy, column=column)
    assert sorted(row[0] for row in found) == [number for number in range(60) if number % 5]


def test_a_random_split_keeps_the_shares_of_the_classes(con):
    rows = [(entity, 0, "a" if entity % 10 == 0 else "b") for entity in range(1000)]
    found = split(con, rows, "n", strategy="random", test_fraction=0.2)
    assert sum(1 for row in found if row[4] == "test" and row[3] == "a") == 20
    assert sum(1 for row in found if row[4] == "test" and row[3] == "b") == 180
    assert sorted({row[5] for row in found if row[5] is not None}) == [0, 1, 2, 3, 4]


def test_a_group_split_never_divides_a_group(con):
    rows = [(entity, entity % 7, "a" if entity % 3 else "b") for entity in range(100)]
    found = split(con, rows, "n", strategy="group", column="day")
    assert all(len({row[4] for row in found if row[2] == day}) == 1 for day in range(7))
    assert {row[4] for row in found} == {"train", "test"}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("SELECT 1 AS id, 'a' AS _label, 'train' AS _split WHERE false", "is empty"),
        ("SELECT range AS id, 'a' AS _label, if(range < 3, 'train', 'test') AS _split FROM range(6)", "too small"),
        ("SELECT range AS id, 'a' AS _label, if(range < 80, 'train', 'test') AS _split FROM range(99)", "one value"),
    ],
)
def test_a_training_set_that_teaches_nothing_is_refused(con, rows, problem):
    con.execute(f"CREATE OR REPLACE TABLE few AS {rows}")
    with pytest.raises(ModelError, match=problem):
        require_both_parts(con, "few", model("m"))
