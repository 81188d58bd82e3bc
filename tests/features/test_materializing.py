"""From a table to the online store: what has changed, whole rows, the newest ones, however often and by however many."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from lakehouse.crashpoints import VARIABLE
from lakehouse.errors import FeatureError, TableNotFound
from lakehouse.features import FeatureView, JoinedView, newest_sql
from lakehouse.features.online import OnlineFeatures, OnlineStoreFull, Origin, ViewState, evict, materialize, occupancy
from lakehouse.features.online.rows import Packed, Typed, key_of, key_sql
from lakehouse.features.online.sqlite_store import SqliteStore
from lakehouse.tables import Lake
from tests.examples import examples
from tests.features.conftest import NOW, STAMP, TABLE, VIEW, days, rows_sql


def served(store, *ids, now=NOW, view=VIEW, **options):
    found = OnlineFeatures(store, cache_rows=0, **options).get(view.name, [{"id": one} for one in ids], now=now)
    return [(one.values["spent"], one.values["plan"], str(one.origin)) for one in found]


def fill(lake, con, *rows):
    return lake.overwrite(con, TABLE, rows_sql(*rows), stamp=STAMP)


def test_every_entity_has_its_newest_row(lake, con, store):
    fill(
        lake,
        con,
        (1, 9, 9, 10, "basic"),
        (1, 5, 5, 20, None),
        (2, 40, 40, 30, "gold"),
        (3, -5, -5, 99, "later"),
        (4, 8, -1, 7, "unknown yet"),
    )
    done = materialize(lake, store, VIEW, now=NOW)
    assert (done.is_whole, done.entities, done.written, done.version) == (True, 2, 2, 0)
    # The second is older than the ttl; the others are not true, or not known, yet.
    assert served(store, 1, 2, 3, 4, 5) == [(20.0, "none", "table"), *[(None, "none", "none")] * 4]
    assert served(store, 2, now=days(20)) == [(30.0, "gold", "table")]


def test_only_what_has_changed_is_written(lake, con, store):
    fill(lake, con, *((number, 9, 9, number, "basic") for number in range(100)))
    materialize(lake, store, VIEW, now=NOW)
    again = materialize(lake, store, VIEW, now=NOW)
    assert (again.is_unchanged, again.since, again.written) == (True, 0, 0)
    lake.append(con, TABLE, rows_sql((7, 2, 2, 70, "gold"), (8, 20, 2, 80, "late"), (100, 2, 2, 1, "new")), stamp=STAMP)
    done = materialize(lake, store, VIEW, now=NOW)
    assert (done.is_whole, done.entities, done.removed, done.version) == (False, 3, 0, 1)
    # What came late is older than what is there, and changes nothing.
    assert served(store, 7, 8, 100, 9) == [(70.0, "gold", "table"), (8.0, "basic", "table"), (1.0, "new", "table"), (9.0, "basic", "table")]
    lake.merge(con, TABLE, rows_sql((7, 2, 2, 71, "gold")), key=["id", "at"], stamp=STAMP)
    lake.delete(con, TABLE, "id = 9", stamp=STAMP)
    lake.compact(TABLE, stamp=STAMP)
    done = materialize(lake, store, VIEW, now=NOW)
    assert (done.is_whole, done.entities, done.removed) == (False, 2, 1)
    assert served(store, 7, 9) == [(71.0, "gold", "table"), (None, "none", "none")]


def test_what_is_read_grows_with_what_has_changed(lake, con, store):
    """Of six files those are read that reach to when something changed, and of them those that may have the entity."""
    fill(lake, con)
    for month in range(6):
        rows = [(number, 100 - month, 100 - month, month, "x") for number in range(50 + month, 100)]
        lake.append(con, TABLE, rows_sql(*rows), stamp=STAMP)
    view = replace(VIEW, ttl_s=None)
    materialize(lake, store, view, now=NOW)

    def update(*, now=NOW):
        done = materialize(lake, store, view, now=now)
        assert not done.is_whole
        return done.files_read

    assert update() == 0
    # As new as anything: the others can't have a newer row.
    lake.append(con, TABLE, rows_sql((70, 1, 1, 50, "new")), stamp=STAMP)
    assert update() == 1
    # Late, after the third: what is younger is looked at too.
    lake.append(con, TABLE, rows_sql((80, 97.5, 1, 60, "late")), stamp=STAMP)
    assert update() == 4
    # So old that any file may have a newer row, but few have such numbers.
    lake.append(con, TABLE, rows_sql((50, 200, 200, 1, "long ago"), (51, -3, -3, 9, "to come")), stamp=STAMP)
    assert update() == 3
    lake.delete(con, TABLE, "id = 60 AND spent = 5", stamp=STAMP)
    lake.delete(con, TABLE, "id = 61", stamp=STAMP)
    assert update() >= 1
    found = [(50.0, "new", "table"), (5.0, "x", "table"), (0.0, "x", "table"), (4.0, "x", "table"), (None, "none", "none")]
    assert served(store, 70, 80, 50, 60, 61, view=view) == found
    assert update(now=days(-4)) == 1
    assert served(store, 51, now=days(-4), view=view) == [(9.0, "to come", "table")]


def test_time_alone_brings_rows_in(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, "basic"), (1, -2, -2, 20, "gold"), (2, 3, -4, 30, "gold"))
    materialize(lake, store, VIEW, now=NOW)
    assert served(store, 1, 2) == [(10.0, "basic", "table"), (None, "none", "none")]
    done = materialize(lake, store, VIEW, now=days(-3))
    assert (done.entities, done.is_whole) == (1, False)
    assert served(store, 1, 2, now=days(-3)) == [(20.0, "gold", "table"), (None, "none", "none")]
    materialize(lake, store, VIEW, now=days(-5))
    assert served(store, 2, now=days(-5)) == [(30.0, "gold", "table")]
    assert materialize(lake, store, VIEW, now=days(-6)).is_unchanged


@pytest.mark.parametrize("change", ["column", "default", "new table", "gone back", "asked for"])
def test_a_view_that_cannot_be_updated_is_filled_anew(lake, con, store, change):
    fill(lake, con, (1, 9, 9, 10, None), (2, 9, 9, 20, None))
    materialize(lake, store, VIEW, now=NOW)
    view, columns = VIEW, rows_sql((1, 8, 8, 11, None))
    before = set(store.lanes())
    if change == "column":
        lake.overwrite(con, TABLE, f"SELECT *, 5 AS visits FROM ({columns})", stamp=STAMP)
    elif change == "default":
        view = replace(VIEW, defaults={"plan": "free"})
        lake.overwrite(con, TABLE, columns, stamp=STAMP)
    elif change in {"new table", "gone back"}:
        if change == "gone back":
            fill(lake, con, (1, 7, 7, 10, None))
            materialize(lake, store, VIEW, now=NOW)
        lake.storage.delete([one.path for one in lake.storage.walk(TABLE.replace(".", "/"))])
        lake = Lake(lake.uri)
        lake.overwrite(con, TABLE, columns, stamp=STAMP)
    else:
        lake.overwrite(con, TABLE, columns, stamp=STAMP)
    done = materialize(lake, store, view, now=NOW, full=change == "asked for")
    assert done.is_whole
    assert served(store, 1, 2)[0][0] == 11.0
    assert served(store, 2)[0][2] == "none"
    assert len(store.lanes()) == 1
    assert not before & set(store.lanes())


def test_after_vacuum_everything_is_written(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, None))
    materialize(lake, store, VIEW, now=NOW)
    fill(lake, con, (1, 8, 8, 11, None))
    fill(lake, con, (1, 7, 7, 12, None))
    lake.vacuum(TABLE, keep=[], retention=timedelta(0), now=datetime.now(UTC) + timedelta(days=9), stamp=STAMP, force=True)
    assert materialize(lake, store, VIEW, now=NOW).is_whole
    assert served(store, 1) == [(12.0, "none", "table")]


def test_an_older_reader_changes_nothing(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, None), (2, 9, 9, 20, None))
    materialize(lake, store, VIEW, now=NOW)
    state = ViewState.of(store.states()["customers"])
    assert state is not None
    before = dict(store.scan(state.lane))
    fill(lake, con, (1, 9, 9, 11, None))
    materialize(lake, store, VIEW, now=NOW)
    # Somebody was held up with what the table said before.
    assert store.put(state.lane, before.items()) == 0
    assert served(store, 1, 2) == [(11.0, "none", "table"), (None, "none", "none")]


def test_what_is_pushed_is_served_until_the_table_has_it(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store)
    assert features.push("customers", {"id": 1, "spent": 50, "plan": None}, event_time=days(1), now=NOW)
    assert not features.push("customers", {"id": 1, "spent": 40, "plan": None}, event_time=days(2), now=NOW)
    assert not features.push("customers", {"id": "1", "spent": 50.0, "plan": None}, event_time=days(1), now=NOW)
    assert features.push("customers", {"id": 2, "spent": None, "plan": "gold"}, now=NOW)
    assert served(store, 1, 2) == [(50.0, "none", "pushed"), (None, "gold", "pushed")]
    assert served(store, 1, 2, now=days(-1.5), ttl_s=2 * 86400) == [(50.0, "none", "pushed"), (None, "gold", "pushed")]
    # A day later nothing has confirmed it.
    materialize(lake, store, VIEW, now=days(-1.5))
    assert served(store, 1, 2, now=days(-1.5)) == [(10.0, "basic", "table"), (None, "none", "none")]
    lake.append(con, TABLE, rows_sql((1, 1, 0, 51, "gold")), stamp=STAMP)
    materialize(lake, store, VIEW, now=NOW)
    assert served(store, 1) == [(51.0, "gold", "table")]
    lake.delete(con, TABLE, "id = 1", stamp=STAMP)
    materialize(lake, store, VIEW, now=NOW)
    assert served(store, 1) == [(None, "none", "none")]


def test_who_is_removed_from_the_table_is_removed_with_what_was_pushed(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, "basic"), (2, 9, 9, 20, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store)
    for number in (1, 2, 3):
        features.push("customers", {"id": number, "spent": 1.0, "plan": "p"}, now=NOW)
    fill(lake, con, (2, 9, 9, 20, "basic"))
    materialize(lake, store, VIEW, now=NOW, full=True)
    assert [origin for _, _, origin in served(store, 1, 2, 3)] == ["none", "pushed", "pushed"]


def test_a_row_that_is_none_of_the_view_is_not_pushed(lake, con, store):
    features = OnlineFeatures(store)
    row = {"id": 1, "spent": 1.0, "plan": "p"}
    with pytest.raises(FeatureError, match="is not in the online store"):
        features.push("customers", row, now=NOW)
    fill(lake, con, (1, 9, 9, 10, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    for wrong, message in [
        ({"spent": "much"}, "of another type"),
        ({"spent": True}, "of another type"),
        ({"visits": 3}, "with visits"),
        ({"id": None}, "without id"),
        ({"id": "one"}, "can't be"),
    ]:
        with pytest.raises(FeatureError, match=message):
            features.push("customers", row | wrong, now=NOW)
    with pytest.raises(FeatureError, match="without plan"):
        features.push("customers", {"id": 1, "spent": 1.0}, now=NOW)
    with pytest.raises(FeatureError, match="has no feature wealth"):
        features.get("customers", [{"id": 1}], now=NOW, features=["wealth"])
    with pytest.raises(FeatureError, match="without id"):
        features.get("customers", [{}], now=NOW)


def test_what_nothing_confirms_is_served_for_a_day(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    assert served(store, 1, now=days(-0.9)) == [(10.0, "basic", "table")]
    assert served(store, 1, now=days(-1.1)) == [(None, "none", "none")]
    materialize(lake, store, VIEW, now=days(-1))
    assert served(store, 1, now=days(-1.1)) == [(10.0, "basic", "table")]
    assert served(store, 1, now=days(-1.1), ttl_s=3600) == [(None, "none", "none")]


def test_a_process_keeps_few_rows_for_a_short_time(lake, con, store):
    fill(lake, con, *((number, 9, 9, number, None) for number in range(20)))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store, cache_rows=10, cache_ttl_s=5)

    def spent(number, seconds):
        return features.get("customers", [{"id": number}], now=NOW + timedelta(seconds=seconds), features=["spent"])[0].values["spent"]

    assert [spent(number, 0) for number in range(20)] == [float(number) for number in range(20)]
    assert features.cached_rows == 10
    lake.append(con, TABLE, rows_sql((19, 1, 1, 99, None)), stamp=STAMP)
    materialize(lake, store, VIEW, now=NOW)
    assert (spent(19, 4), spent(19, 6)) == (19.0, 99.0)
    features.push("customers", {"id": 19, "spent": 100.0, "plan": None}, now=NOW + timedelta(seconds=7))
    assert spent(19, 8) == 100.0


def test_a_view_that_is_filled_anew_meanwhile_is_looked_for_again(lake, con, store):
    fill(lake, con, (1, 9, 9, 10, None))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store, cache_rows=0)
    assert features.get("customers", [{"id": 1}], now=NOW)[0].values["spent"] == 10.0
    fill(lake, con, (1, 8, 8, 11, None))
    materialize(lake, store, VIEW, now=NOW, full=True)
    assert features.get("customers", [{"id": 1}], now=NOW)[0].values["spent"] == 11.0


def test_versions_of_a_view_are_served_side_by_side(lake, con, store):
    older, newer = (replace(VIEW, name=f"customers_v{number}", table=f"features.customers_v{number}") for number in (1, 2))
    lake.overwrite(con, older.table, rows_sql((1, 9, 9, 10, None)), stamp=STAMP)
    lake.overwrite(con, newer.table, f"SELECT *, 'EUR' AS currency FROM ({rows_sql((1, 9, 9, 1000, None))})", stamp=STAMP)
    for view in (older, newer):
        materialize(lake, store, view, now=NOW)
    assert served(store, 1, view=older) == [(10.0, "none", "table")]
    assert OnlineFeatures(store).get(newer.name, [{"id": 1}], now=NOW)[0].values == {"spent": 1000.0, "plan": "none", "currency": "EUR"}


def test_eviction_lets_go_of_what_would_not_be_served(lake, con, store):
    fill(lake, con, (1, 29, 29, 10, None), (2, 3, 3, 20, None))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store)
    features.push("customers", {"id": 3, "spent": 1.0, "plan": None}, now=NOW)
    store.put("customers/1-abandoned", [(b"1", b"x")])
    first = evict(store, now=NOW, ttl_s=86_400)
    assert (first.rows, first.pushed, first.lanes, first.views) == (0, 0, 1, ())
    materialize(lake, store, VIEW, now=days(-2))
    second = evict(store, now=days(-2), ttl_s=86_400)
    assert (second.rows, second.pushed, second.lanes, second.views) == (1, 1, 0, ())
    assert [origin for _, _, origin in served(store, 1, 2, 3, now=days(-2))] == ["none", "table", "none"]
    last = evict(store, now=days(-9), ttl_s=86_400)
    assert (last.views, dict(store.lanes()), dict(store.states())) == (("customers",), {}, {})
    assert materialize(lake, store, VIEW, now=days(-9)).is_whole


@pytest.mark.parametrize("ttl_s", [90 * 86_400.0, None])
def test_a_longer_ttl_brings_back_what_was_evicted(lake, con, store, ttl_s):
    fill(lake, con, (1, 60, 60, 10, "basic"), (2, 3, 3, 20, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    assert evict(store, now=NOW, ttl_s=86_400).rows == 1
    longer = replace(VIEW, ttl_s=ttl_s)
    assert materialize(lake, store, longer, now=NOW).is_whole
    assert served(store, 1, 2) == [(10.0, "basic", "table"), (20.0, "basic", "table")]
    # A shorter one takes nothing that would have to come back.
    assert not materialize(lake, store, VIEW, now=NOW).is_whole


def test_eviction_keeps_the_lanes_of_a_view_that_is_served_since_it_began(lake, con, tmp_path):
    class Busy(SqliteStore):
        """Somebody materializes and pushes just before the lanes are listed."""

        def lanes(self):
            if not self.states():
                materialize(lake, self, VIEW, now=NOW)
                OnlineFeatures(self).push("customers", {"id": 1, "spent": 50.0, "plan": "p"}, now=NOW)
            return super().lanes()

    fill(lake, con, (1, 9, 9, 10, "basic"))
    store = Busy(tmp_path / "features.db")
    assert evict(store, now=NOW, ttl_s=86_400).lanes == 0
    assert served(store, 1) == [(50.0, "p", "pushed")]


def test_an_alarm_comes_before_the_store_is_full(lake, con, store):
    fill(lake, con, *((number, 9, 9, number, "x" * 50) for number in range(2000)))
    materialize(lake, store, VIEW, now=NOW)
    used = store.size_bytes()
    assert not occupancy(store, used * 2).is_alarming
    near = occupancy(store, int(used * 1.1))
    assert near.is_alarming
    assert near.share is not None
    assert 0.8 < near.share < 1
    with pytest.raises(OnlineStoreFull, match="LAKEHOUSE_ONLINE_LIMIT_MB"):
        materialize(lake, store, VIEW, now=NOW, full=True, limit_bytes=used)
    # What was served is still served, and nothing is left of the attempt.
    assert served(store, 7)[0][0] == 7.0
    assert len(store.lanes()) == 1


TYPES = (
    "SELECT 1::BIGINT AS id, true AS flag, 9007199254740993 AS big, 0.1::DOUBLE AS number, 'nan'::DOUBLE AS odd, 0.1::FLOAT AS single,"
    " 1.50::DECIMAL(9,2) AS price, DATE '2026-02-03' AS day, TIMESTAMP '2026-02-03 04:05:06.000007' AS local,"
    " TIMESTAMPTZ '2026-02-03 04:05:06Z' AS instant, 'Zo\u00eb \U0001f600 \" \n' AS text, '\\xAB'::BLOB AS bytes,"
    " [1, NULL, 3] AS list, {'a': 1, 'b': DATE '2026-01-01'} AS struct, NULL::INTEGER AS nothing"
)


def test_every_type_comes_back_as_it_was(lake, con, store):
    lake.overwrite(con, "features.types", TYPES, stamp=STAMP)
    view = FeatureView("types", "features.types", ("id",))
    materialize(lake, store, view, now=NOW)
    values = OnlineFeatures(store).get("types", [{"id": "1"}], now=NOW)[0].values
    with lake.connect(["features.types"]) as session:
        names = [name for name in values if name not in {"odd", "struct"}]
        row = session.con.execute(f"SELECT {', '.join(names)} FROM features.types").fetchone()
    assert row is not None
    assert [(name, type(values[name]), values[name]) for name in names] == [
        (name, type(one), one) for name, one in zip(names, row, strict=True)
    ]
    assert values["odd"] != values["odd"]
    assert values["struct"] == {"a": 1, "b": "2026-01-01"}
    # What is pushed is stored as what the table has.
    state = ViewState.of(store.states()["types"])
    assert state is not None
    features = OnlineFeatures(store, cache_rows=0)
    features.push("types", {"id": 1, **values}, now=NOW + timedelta(seconds=1))
    ours, theirs = (dict(store.scan(lane))[b"1"] for lane in (state.lane, state.pushed))
    assert Packed.of(ours).payload == Packed.of(theirs).payload


def test_keys_are_the_same_from_sql_and_from_python(lake, con, store):
    lake.overwrite(
        con,
        "features.pairs",
        "SELECT 'a:1' AS shop, 12 AS number, DATE '2026-01-02' AS day, TIMESTAMPTZ '2026-01-02 03:04:05.6Z' AS at, 1.50::DECIMAL(9,2) AS d,"
        " true AS yes, 1 AS x UNION ALL SELECT '1:a', 2, DATE '2026-01-02', TIMESTAMPTZ '2026-01-02 03:04:05.6Z', 1.50, true, 2"
        " UNION ALL SELECT NULL, 2, NULL, NULL, NULL, NULL, 3",
        stamp=STAMP,
    )
    entity = ("shop", "number", "day", "at", "d", "yes")
    view = FeatureView("pairs", "features.pairs", entity)
    assert materialize(lake, store, view, now=NOW).written == 2
    with lake.connect(["features.pairs"]) as session:
        rows = session.con.execute('SELECT shop, number, day, "at", d, yes, x FROM features.pairs WHERE shop IS NOT NULL').fetchall()
    features = OnlineFeatures(store)
    for *key, x in rows:
        typed = dict(zip(entity, key, strict=True))
        for asked in (typed, {name: str(value) for name, value in typed.items()}):
            assert features.get("pairs", [asked], now=NOW)[0].values == {"x": x}
    lake.overwrite(con, "features.lists", "SELECT [1] AS id, 2 AS x", stamp=STAMP)
    with pytest.raises(FeatureError, match="can't be the key of an online store"):
        materialize(lake, store, FeatureView("lists", "features.lists", ("id",)), now=NOW)


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT"])
def test_a_number_with_a_fraction_is_a_key_too(lake, con, store, kind):
    """What a program wrote as 42.0 is asked for as 42; and both zeros are one."""
    given = [42.0, 0.1, -2.5e-7, 1e16, 123456789.125, float("inf"), float("nan"), -0.0]
    values = ", ".join(f"(CAST('{number}' AS {kind}), {place})" for place, number in enumerate(given))
    lake.overwrite(con, "features.floats", f"SELECT * FROM (VALUES {values}) AS v(id, x)", stamp=STAMP)
    materialize(lake, store, FeatureView("floats", "features.floats", ("id",)), now=NOW)
    features = OnlineFeatures(store)
    for asked in (given, map(str, given), [42, "0.10", "-0.00000025", 10**16, "1.23456789125e8", "Infinity", "NaN", 0]):
        found = features.get("floats", [{"id": one} for one in asked], now=NOW)
        assert [one.values["x"] for one in found] == list(range(len(given)))
    with pytest.raises(FeatureError, match="can't be"):
        features.get("floats", [{"id": "many"}], now=NOW)


@examples(10, many=100)
@given(numbers=st.lists(st.floats(allow_nan=False), min_size=20, max_size=20))
def test_numbers_have_one_text_in_sql_and_in_python(numbers):
    column = (Typed("id", "DOUBLE"),)
    values = ", ".join(f"('{number!r}'::DOUBLE)" for number in numbers)
    found = duckdb.sql(f"SELECT {key_sql('v', column)} FROM (VALUES {values}) AS v(id)").fetchall()
    assert [key for (key,) in found] == [key_of("v", column, {"id": number}) for number in numbers]


def test_a_view_without_a_table_or_columns_is_named(lake, con, store):
    with pytest.raises(TableNotFound):
        materialize(lake, store, VIEW, now=NOW)
    lake.overwrite(con, TABLE, "SELECT 1 AS id, 2 AS spent", stamp=STAMP)
    with pytest.raises(FeatureError, match="has no column at, known"):
        materialize(lake, store, VIEW, now=NOW)


def test_an_empty_table_is_an_empty_view(lake, con, store):
    fill(lake, con)
    assert materialize(lake, store, VIEW, now=NOW).entities == 0
    assert served(store, 1) == [(None, "none", "none")]
    lake.append(con, TABLE, rows_sql((1, 1, 1, 5, None)), stamp=STAMP)
    materialize(lake, store, VIEW, now=NOW)
    assert served(store, 1) == [(5.0, "none", "table")]


step = st.one_of(
    st.tuples(
        st.just("append"), st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 6), st.integers(-2, 6), st.integers(0, 9)), max_size=4)
    ),
    st.tuples(st.just("delete"), st.integers(0, 3)),
    st.tuples(st.just("materialize"), st.booleans()),
    st.tuples(st.just("wait"), st.integers(1, 2)),
)


@examples(4, many=8)
@given(steps=st.lists(step, min_size=3, max_size=8))
def test_however_it_came_there_the_store_has_what_the_table_has(tmp_path_factory, steps):
    check_the_store(tmp_path_factory, steps)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=200)
@seed(4)
@given(steps=st.lists(step, min_size=1, max_size=14))
def test_two_hundred_histories_end_in_the_store_as_in_the_table(tmp_path_factory, steps):
    check_the_store(tmp_path_factory, steps)


def check_the_store(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("law")
    lake, store, now = Lake(folder / "tables", threads=1), SqliteStore(folder / "features.db"), NOW
    with lake.connect(()) as session:
        con = session.con
        lake.overwrite(con, TABLE, rows_sql(), stamp=STAMP)
        for kind, argument in [*steps, ("materialize", False)]:
            if kind == "append" and argument:
                lake.append(con, TABLE, rows_sql(*((one, at, known, spent, None) for one, at, known, spent in argument)), stamp=STAMP)
            elif kind == "delete":
                lake.delete(con, TABLE, f"id = {argument}", stamp=STAMP)
            elif kind == "wait":
                now += timedelta(days=argument)
            elif kind == "materialize":
                materialize(lake, store, VIEW, now=now, full=argument)
        joined = JoinedView(VIEW, f"({lake.scan_sql(TABLE, con=con)})", ("id", "at", "known", "spent", "plan"), ("spent",))
        wanted = dict(con.execute(f"SELECT __e0, __f0 FROM ({newest_sql(joined, at=now)})").fetchall())
    found = OnlineFeatures(store).get("customers", [{"id": one} for one in range(4)], now=now)
    store.close()
    assert [one.values["spent"] if one.origin is Origin.TABLE else None for one in found] == [wanted.get(one) for one in range(4)]


KILLED = """
import sys
from pathlib import Path
from lakehouse.features.online import materialize
from lakehouse.features.online.sqlite_store import SqliteStore
from lakehouse.tables import Lake
from tests.features.conftest import NOW, VIEW
materialize(Lake(sys.argv[1]), SqliteStore(Path(sys.argv[2])), VIEW, now=NOW, full=sys.argv[3:] == ["full"])
"""


def killed_at(point, lake, path, *arguments):
    environment = os.environ | {VARIABLE: point}
    ended = subprocess.run([sys.executable, "-c", KILLED, lake.uri, str(path), *arguments], env=environment, check=False)
    assert ended.returncode == -9


@pytest.mark.parametrize(
    "is_first", [pytest.param(True, id="everything", marks=pytest.mark.slow), pytest.param(False, id="what has changed")]
)
def test_killed_and_run_again_it_is_as_if_nothing_had_been(lake, con, tmp_path, is_first):
    path = tmp_path / "features.db"
    store = SqliteStore(path)
    fill(lake, con, (1, 9, 9, 10, None), (2, 9, 9, 20, None))
    if not is_first:
        materialize(lake, store, VIEW, now=NOW)
        lake.append(con, TABLE, rows_sql((1, 8, 8, 11, None)), stamp=STAMP)
        lake.delete(con, TABLE, "id = 2", stamp=STAMP)
    killed_at("mid_materialize", lake, path)
    if is_first:
        assert dict(store.states()) == {}
    done = materialize(lake, store, VIEW, now=NOW)
    assert done.is_whole == is_first
    assert served(store, 1, 2) == (
        [(10.0, "none", "table"), (20.0, "none", "table")] if is_first else [(11.0, "none", "table"), (None, "none", "none")]
    )
    evict(store, now=days(-0.9), ttl_s=86_400)
    assert len(store.lanes()) == 1


@pytest.mark.slow
def test_killed_after_the_lane_was_replaced_nobody_who_was_removed_comes_back(lake, con, tmp_path):
    path = tmp_path / "features.db"
    store = SqliteStore(path)
    fill(lake, con, (1, 9, 9, 10, "basic"), (2, 9, 9, 20, "basic"))
    materialize(lake, store, VIEW, now=NOW)
    features = OnlineFeatures(store)
    for number in (1, 2, 3):
        features.push("customers", {"id": number, "spent": 1.0, "plan": "p"}, now=NOW)
    fill(lake, con, (2, 9, 9, 20, "basic"))
    killed_at("view_replaced", lake, path, "full")
    for _ in range(2):
        assert [origin for _, _, origin in served(store, 1, 2, 3)] == ["none", "pushed", "pushed"]
        assert materialize(lake, store, VIEW, now=NOW).is_unchanged
    evict(store, now=days(-0.9), ttl_s=86_400)
    assert len(store.lanes()) == 2
