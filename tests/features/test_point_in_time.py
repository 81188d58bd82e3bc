"""The point-in-time join against a brute-force oracle: nothing of the future, in event time or in known time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import FeatureError
from lakehouse.features import FeatureView, JoinedView, output_names, point_in_time_sql

DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    entity: int | None
    at: int
    known: int
    value: int | None


rows = st.lists(
    st.builds(
        Row,
        entity=st.one_of(st.none(), st.integers(0, 2)),
        at=st.integers(0, 6),
        known=st.integers(0, 8),
        value=st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=14,
)


def day(number: int) -> datetime:
    return DAY_0 + timedelta(days=number)


def load(con: duckdb.DuckDBPyConnection, name: str, columns: str, values: list[tuple]) -> None:
    con.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")
    if values:
        con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(values[0]))})", values)


def oracle(asked: Row, history: list[Row], *, ttl_days: int | None, uses_known: bool) -> int | None:
    """The value by looking at every row."""
    fair = [
        row
        for row in history
        if row.entity is not None
        and row.entity == asked.entity
        and row.at <= asked.at
        and (not uses_known or row.known <= asked.known)
        and (ttl_days is None or row.at >= asked.at - ttl_days)
    ]
    best = max(fair, key=lambda row: (row.at, row.known if uses_known else 0, -1 if row.value is None else row.value), default=None)
    return best.value if best else None


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@settings(max_examples=150, deadline=None)
@given(
    spine=rows, histories=st.tuples(rows, rows), ttl_days=st.one_of(st.none(), st.integers(1, 4)), uses_known=st.booleans(), data=st.data()
)
def test_every_label_gets_the_newest_value_that_was_true_and_known(con, spine, histories, ttl_days, uses_known, data):
    load(
        con,
        "spine",
        "n INTEGER, entity INTEGER, event TIMESTAMP, known TIMESTAMPTZ",
        [(n, r.entity, day(r.at).replace(tzinfo=None), day(r.known)) for n, r in enumerate(spine)],
    )
    views = []
    for number, history in enumerate(histories):
        shuffled = data.draw(st.permutations(history))
        load(
            con,
            f"view_of_{number}",
            "entity INTEGER, event TIMESTAMPTZ, known TIMESTAMPTZ, value INTEGER",
            [(r.entity, day(r.at), day(r.known), r.value) for r in shuffled],
        )
        known = "known" if uses_known else None
        view = FeatureView(f"v{number}", f"features.v{number}", ("entity",), "event", known, ttl_days * 86400.0 if ttl_days else None)
        views.append(JoinedView(view, f"view_of_{number}", ("entity", "event", "known", "value"), ("value",)))
    sql = point_in_time_sql(
        "spine", views, spine_columns=("n", "entity", "event", "known"), event_timestamp="event", known_timestamp="known"
    )
    found = con.execute(f"SELECT n, v0__value, v1__value FROM ({sql}) ORDER BY n").fetchall()
    wanted = [
        (n, *(oracle(asked, history, ttl_days=ttl_days, uses_known=uses_known) for history in histories)) for n, asked in enumerate(spine)
    ]
    assert found == wanted


def test_a_view_without_time_joins_on_its_entity_and_multiplies_no_row(con):
    load(con, "labels", "id INTEGER, event DATE", [(1, day(1)), (1, day(2)), (2, day(1)), (3, day(1))])
    load(
        con,
        "customers",
        "id INTEGER, colour VARCHAR, _ingested_at TIMESTAMPTZ",
        [(1, "red", day(0)), (1, "blue", day(3)), (2, "green", day(0))],
    )
    view = JoinedView(FeatureView("c", "features.c", ("id",)), "customers", ("id", "colour", "_ingested_at"), ("colour",))
    sql = point_in_time_sql("labels", [view], spine_columns=("id",), event_timestamp=None)
    assert sorted(con.execute(sql).fetchall(), key=str) == [(1, "blue"), (1, "blue"), (2, "green"), (3, None)]


def test_many_entities_each_with_their_own_key(con):
    load(con, "orders", "person INTEGER, shop VARCHAR, event TIMESTAMP", [(1, "a", day(5).replace(tzinfo=None))])
    load(
        con,
        "people",
        "person INTEGER, event TIMESTAMP, age INTEGER",
        [(1, day(1).replace(tzinfo=None), 30), (1, day(9).replace(tzinfo=None), 31)],
    )
    load(con, "shops", "shop VARCHAR, size INTEGER", [("a", 7)])
    views = [
        JoinedView(FeatureView("p", "features.p", ("person",), "event"), "people", ("person", "event", "age"), ("age",)),
        JoinedView(FeatureView("s", "features.s", ("shop",)), "shops", ("shop", "size"), ("size",)),
    ]
    sql = point_in_time_sql("orders", views, spine_columns=("person", "shop", "event"), event_timestamp="event")
    assert con.execute(f"SELECT person, shop, age, size FROM ({sql})").fetchall() == [(1, "a", 30, 7)]


@pytest.mark.parametrize("kept", [("id", "seen"), ("id", "seen", "f0", "t0")])
def test_columns_may_have_any_name(con, kept):
    others = "e0 INTEGER, f0 INTEGER, t0 INTEGER"
    load(con, "named", f"id INTEGER, seen TIMESTAMPTZ, {others}", [(1, day(9), 1, 1, 1), (2, day(9), 1, 1, 1)])
    history = [
        (1, day(1), day(1), 7, 5, 9, 10),
        (1, day(1), day(5), 7, 5, 1, 20),
        (2, day(1), day(12), 7, 5, 9, 40),
        (2, day(1), day(3), 7, 5, 1, 30),
    ]
    load(con, "numbered", f"id INTEGER, seen TIMESTAMPTZ, known TIMESTAMPTZ, {others}, x INTEGER", history)
    view = FeatureView("n", "features.n", ("id",), "seen", "known")
    joined = JoinedView(view, "numbered", ("id", "seen", "known", "e0", "f0", "t0", "x"), ("x",))
    sql = point_in_time_sql("named", [joined], spine_columns=kept, event_timestamp="seen")
    assert con.execute(f"SELECT id, x FROM ({sql}) ORDER BY id").fetchall() == [(1, 20), (2, 30)]


def test_a_join_that_could_see_the_future_is_refused():
    view = JoinedView(FeatureView("p", "features.p", ("person",), "event"), "people", ("person", "event", "age"), ("age",))
    with pytest.raises(FeatureError, match="future"):
        point_in_time_sql("labels", [view], spine_columns=("person",), event_timestamp=None)
    with pytest.raises(FeatureError, match="Add person"):
        point_in_time_sql("labels", [view], spine_columns=("id", "event"), event_timestamp="event")


def test_equal_names_are_told_apart_by_their_view():
    a = JoinedView(FeatureView("a", "features.a", ("id",)), "a", ("id", "x", "y"), ("x", "y"))
    b = JoinedView(FeatureView("b", "features.b", ("id",)), "b", ("id", "x", "key"), ("x", "key"))
    assert output_names([a, b], taken=["Key"]) == {("a", "x"): "a__x", ("a", "y"): "y", ("b", "x"): "b__x", ("b", "key"): "b__key"}


def test_a_view_without_event_time_is_known_from_its_arrival_on(con):
    load(
        con,
        "asked",
        "id INTEGER, event TIMESTAMP, seen TIMESTAMPTZ",
        [(1, day(1).replace(tzinfo=None), day(2)), (1, day(9).replace(tzinfo=None), day(9))],
    )
    load(con, "profiles", "id INTEGER, known TIMESTAMPTZ, colour VARCHAR", [(1, day(2), "red"), (1, day(5), "blue")])
    view = JoinedView(FeatureView("p", "features.p", ("id",), None, "known"), "profiles", ("id", "known", "colour"), ("colour",))
    sql = point_in_time_sql("asked", [view], spine_columns=("id", "event"), event_timestamp="event", known_timestamp="seen")
    assert [row[2] for row in con.execute(f"SELECT * FROM ({sql}) ORDER BY event").fetchall()] == ["red", "blue"]
    timeless = point_in_time_sql("(SELECT DISTINCT id FROM asked)", [view], spine_columns=("id",), event_timestamp=None)
    assert con.execute(timeless).fetchall() == [(1, "blue")]
