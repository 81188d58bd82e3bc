"""What a model has seen is never odd; what it has not seen is counted."""

from datetime import date

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import ModelError
from lakehouse.learning.familiarity import Seen, seen_in, unfamiliar
from lakehouse.learning.preparation import plan_columns
from lakehouse.learning.schema import FeatureSchema

SCHEMA = FeatureSchema.of({"n": "DOUBLE", "flag": "BOOLEAN", "day": "DATE", "word": "VARCHAR"})
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
        st.sampled_from([None, True, False]),
        st.one_of(st.none(), st.dates(min_value=date(1900, 1, 1), max_value=date(2200, 1, 1))),
        st.sampled_from([None, "", "a", "b's", "ü"]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect(config={"threads": 1})
    yield connection
    connection.close()


def fill(con, name, rows):
    con.execute(f"CREATE OR REPLACE TABLE {name} (n DOUBLE, flag BOOLEAN, day DATE, word VARCHAR)")
    con.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", [list(row) for row in rows])


@given(rows=ROWS)
def test_the_training_rows_are_familiar(con, rows):
    fill(con, "trained", rows)
    frame = SCHEMA.fetch(con, "trained")
    try:
        preparation = plan_columns(frame, SCHEMA)
    except ModelError:
        return
    seen = seen_in(frame, SCHEMA, preparation)
    assert [Seen.from_dict(one.as_dict()) for one in seen] == list(seen)
    assert unfamiliar(con, "trained", SCHEMA, seen, names={}) == []


def test_each_oddity_is_counted_with_its_most_frequent_values(con):
    fill(con, "trained", [(0.5, True, "2026-01-01", "a"), (2.5, False, "2026-02-01", "b"), (1.0, False, "2026-01-15", "a")])
    frame = SCHEMA.fetch(con, "trained")
    seen = seen_in(frame, SCHEMA, plan_columns(frame, SCHEMA))
    fill(
        con,
        "asked",
        [(3.0, True, "2026-01-01", "c"), (3.0, None, "2025-12-31", "c"), (float("inf"), False, None, "d"), (1.0, True, "2026-02-01", "")],
    )
    found = {(one.column, one.kind): (one.rows, one.examples) for one in unfamiliar(con, "asked", SCHEMA, seen, names={"word": "Word"})}
    assert found == {
        ("n", "missing_value"): (1, ()),
        ("n", "out_of_range"): (2, ("3",)),
        ("flag", "missing_value"): (1, ()),
        ("day", "missing_value"): (1, ()),
        ("day", "out_of_range"): (1, ("2025-12-31 00:00:00",)),
        ("Word", "missing_value"): (1, ()),
        ("Word", "unseen_value"): (3, ("c", "d")),
    }
