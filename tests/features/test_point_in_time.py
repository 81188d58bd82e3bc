"""The point-in-time join against a brute-force oracle: nothing of the future, in event time or in known time."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from lakehouse.errors import FeatureError
from lakehouse.features import FeatureView, JoinedView, default_literals, newest_sql, output_names, point_in_time_sql
from tests.examples import examples

DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)


SOURCES = ("orders", "crm", "clicks")


@dataclass(frozen=True)
class Row:
    entity: int | None
    at: int
    known: int
    value: int | None
    source: str | None = None
    batch: int = 0
    line: int = 0


def values() -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.integers(0, 3))


# Few instants, so that ties are the rule; a row is often known after it was true, and then corrected.
rows = st.lists(
    st.builds(
        Row,
        entity=st.one_of(st.none(), st.integers(0, 2)),
        at=st.integers(0, 6),
        known=st.integers(0, 8),
        value=values(),
        source=st.one_of(st.none(), st.sampled_from([*SOURCES, "unheard of"])),
        batch=st.integers(0, 2),
        line=st.integers(0, 3),
    ),
    max_size=14,
)


@dataclass(frozen=True)
class Kind:
    """How a view is declared."""

    uses_event: bool
    uses_known: bool
    ttl_days: int | None
    priority: tuple[str, ...]
    default: int | None


kinds = st.builds(
    Kind,
    uses_event=st.sampled_from([True, True, True, False]),
    uses_known=st.booleans(),
    ttl_days=st.one_of(st.none(), st.integers(1, 4)),
    priority=st.one_of(st.just(()), st.permutations(SOURCES).map(tuple)),
    default=st.one_of(st.none(), st.just(7)),
)


def day(number: int) -> datetime:
    return DAY_0 + timedelta(days=number)


def load(con: duckdb.DuckDBPyConnection, name: str, columns: str, values: list[tuple]) -> None:
    con.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")
    if values:
        con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(values[0]))})", values)


def oracle(asked: Row, history: list[Row], kind: Kind) -> int | None:
    """The value by looking at every row."""
    fair = [
        row
        for row in history
        if row.entity is not None
        and row.entity == asked.entity
        and (not kind.uses_event or row.at <= asked.at)
        and (not kind.uses_known or row.known <= asked.known)
        and (not kind.uses_event or kind.ttl_days is None or row.at >= asked.at - kind.ttl_days)
    ]

    def worth(row: Row) -> tuple[int, ...]:
        trust = [-kind.priority.index(row.source) if row.source in kind.priority else -len(kind.priority)]
        known = [row.known] if kind.uses_known else []
        decisive = [row.at, *trust, *known] if kind.uses_event else [*known, *trust]
        return (*decisive, row.batch, row.line, -1 if row.value is None else row.value)

    best = max(fair, key=worth, default=None)
    value = best.value if best else None
    return kind.default if value is None else value


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def check_a_history(con: duckdb.DuckDBPyConnection, spine: list[Row], views: list[tuple[Kind, list[Row]]]) -> None:
    """Every row of the spine gets from every view what the oracle finds; `newest_sql` finds the same at one instant."""
    load(
        con,
        "spine",
        "n INTEGER, entity INTEGER, event TIMESTAMP, known TIMESTAMPTZ",
        [(n, r.entity, day(r.at).replace(tzinfo=None), day(r.known)) for n, r in enumerate(spine)],
    )
    joined: list[JoinedView] = []
    for number, (kind, history) in enumerate(views):
        columns = ("entity", "event", "known", "value", "_source", "_batch", "_row")
        load(
            con,
            f"view_of_{number}",
            "entity INTEGER, event TIMESTAMPTZ, known TIMESTAMPTZ, value INTEGER, _source VARCHAR, _batch BIGINT, _row BIGINT",
            [(r.entity, day(r.at), day(r.known), r.value, r.source, r.batch, r.line) for r in history],
        )
        view = FeatureView(
            name=f"v{number}",
            table=f"features.v{number}",
            entity=("entity",),
            event_timestamp="event" if kind.uses_event else None,
            known_timestamp="known" if kind.uses_known else None,
            ttl_s=kind.ttl_days * 86400.0 if kind.ttl_days else None,
            defaults={} if kind.default is None else {"value": kind.default},
            source_priority=kind.priority,
        )
        joined.append(JoinedView(view, f"view_of_{number}", columns, ("value",), default_literals(view, {"value": "INTEGER"})))
    sql = point_in_time_sql(
        "spine", joined, spine_columns=("n", "entity", "event", "known"), event_timestamp="event", known_timestamp="known"
    )
    found = con.execute(f"SELECT n, v0__value, v1__value FROM ({sql}) ORDER BY n").fetchall()
    assert found == [(n, *(oracle(asked, history, kind) for kind, history in views)) for n, asked in enumerate(spine)]
    for (kind, history), one in zip(views, joined, strict=True):
        newest = con.execute(f"SELECT __e0, __f0 FROM ({newest_sql(one, at=day(4))}) ORDER BY 1").fetchall()
        ageless = replace(kind, ttl_days=None)
        fair = [r for r in history if (r.at <= 4 or not kind.uses_event) and (r.known <= 4 or not kind.uses_known)]
        there = sorted({r.entity for r in fair if r.entity is not None})
        assert newest == [(entity, oracle(Row(entity, 4, 4, None), fair, ageless)) for entity in there]


histories = st.tuples(st.tuples(kinds, rows), st.tuples(kinds, rows)).map(list)


@examples(25, many=80)
@given(spine=rows, views=histories)
def test_every_label_gets_the_newest_value_that_was_true_and_known(con, spine, views):
    check_a_history(con, spine, views)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=2000)
@seed(20261121)
@given(spine=rows, views=histories)
def test_two_thousand_histories_leak_nothing_of_the_future(con, spine, views):
    check_a_history(con, spine, views)


@examples(8, many=30)
@given(history=rows, kind=kinds, data=st.data())
def test_the_order_of_arrival_in_files_decides_nothing(con, history, kind, data):
    spine = [Row(entity, at, at, None) for entity in range(3) for at in range(7)]
    check_a_history(con, spine, [(kind, history), (kind, data.draw(st.permutations(history)))])


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


def test_a_default_has_the_type_of_its_feature(con):
    types = {"id": "INTEGER", "spent": "DECIMAL(9,2)", "plan": "VARCHAR", "seen": "DATE"}
    view = FeatureView("c", "features.c", ("id",), defaults={"spent": 0, "plan": "none", "seen": "2026-01-01"})
    load(con, "spending", "id INTEGER, spent DECIMAL(9,2), plan VARCHAR, seen DATE", [(1, 2.5, None, None)])
    joined = JoinedView(view, "spending", tuple(types), ("spent", "plan", "seen"), default_literals(view, types))
    sql = point_in_time_sql("(SELECT unnest([1, 2]) AS id)", [joined], spine_columns=("id",), event_timestamp=None)
    found = con.execute(f"SELECT * FROM ({sql}) ORDER BY id")
    assert [str(column[1]) for column in found.description or []] == ["INTEGER", "DECIMAL(9,2)", "VARCHAR", "DATE"]
    assert [tuple(map(str, row)) for row in found.fetchall()] == [("1", "2.50", "none", "2026-01-01"), ("2", "0.00", "none", "2026-01-01")]
    with pytest.raises(FeatureError, match="is no value of its type"):
        default_literals(FeatureView("c", "features.c", ("id",), defaults={"spent": "much"}), types)
    with pytest.raises(FeatureError, match="is for a feature that is not there"):
        default_literals(FeatureView("c", "features.c", ("id",), defaults={"spend": 1}), types)
