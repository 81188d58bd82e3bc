"""The store against the table: what differs is found, told, and not served until it is gone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse.errors import ServingBlocked
from lakehouse.features.online import OnlineFeatures, ViewState, check_parity, evict, materialize
from lakehouse.features.online.rows import Packed, pack
from tests.features.conftest import NOW, STAMP, TABLE, VIEW, days, rows_sql


def fill(lake, con, *rows):
    return lake.overwrite(con, TABLE, rows_sql(*rows), stamp=STAMP)


def spoil(store, number: bytes, payload: bytes, *, later: tuple[int, int] = (0, 0)) -> None:
    """Another value than the table's, as a fault of ours or of somebody's hand would leave it; or that of a later version or instant."""
    state = ViewState.of(store.states()["customers"])
    assert state is not None
    value = dict(store.scan(state.lane)).get(number)
    found = Packed.of(value) if value else Packed((state.version, state.as_of_us), 0, 0, state.synced_us, b"")
    store.remove(state.lane, [(number, value)] if value else [])
    rank = (found.rank[0] + later[0], found.rank[1] + later[1])
    event = found.event_us or state.as_of_us
    store.put(
        state.lane, [(number, pack(rank=rank, event_us=event, known_us=found.known_us, written_us=found.written_us, payload=payload))]
    )


@pytest.fixture
def features(lake, con, store) -> OnlineFeatures:
    fill(
        lake, con, *((number, number, number, number * 10, "basic") for number in range(40)), (50, 3, -3, 1, "later"), (51, -1, -1, 1, "p")
    )
    materialize(lake, store, VIEW, now=NOW)
    return OnlineFeatures(store, cache_rows=0)


def test_what_was_materialized_is_what_training_sees(lake, con, store, features):
    found = check_parity(lake, features, VIEW, now=NOW, sample=30)
    assert found is not None
    assert (found.passed, found.sampled, found.differences, found.skew, found.version) == (True, 30, (), 0.0, 0)
    # Neither time nor eviction makes a fault of it.
    evict(store, now=days(-0.5), ttl_s=86_400)
    for later in (0.5, 20):
        again = check_parity(lake, features, VIEW, now=days(-later), sample=100)
        assert again is not None
        assert again.passed, again.claim


def test_a_difference_blocks_the_view_until_it_is_gone(lake, con, store, features):
    spoil(store, b"7", b'[71.0,"basic"]')
    found = check_parity(lake, features, VIEW, now=NOW, sample=100)
    assert found is not None
    assert (found.passed, found.differing) == (False, 1)
    assert "spent of 7: online 71.0, offline 70.0" in found.claim
    assert found.skew_by_feature["spent"] == pytest.approx(1 / found.sampled)
    assert 0 < found.shift_by_feature["spent"] < 0.01
    with pytest.raises(ServingBlocked, match="materialize customers --full"):
        features.get("customers", [{"id": 1}], now=NOW)
    # What is written meanwhile makes nothing better of it.
    lake.append(con, TABLE, rows_sql((1, 0, 0, 11, None)), stamp=STAMP)
    materialize(lake, store, VIEW, now=NOW)
    with pytest.raises(ServingBlocked):
        features.get("customers", [{"id": 1}], now=NOW)
    materialize(lake, store, VIEW, now=NOW, full=True)
    repaired = check_parity(lake, features, VIEW, now=NOW, sample=100)
    assert repaired is not None
    assert repaired.passed, repaired.claim
    assert features.get("customers", [{"id": 7}], now=NOW)[0].values["spent"] == 70.0


@pytest.mark.parametrize("fault", ["missing", "extra"])
def test_rows_that_are_missing_or_too_many_are_differences(lake, con, store, features, fault):
    spoil(store, b"7" if fault == "missing" else b"777", b"" if fault == "missing" else b'[1.0,"p"]')
    found = check_parity(lake, features, VIEW, now=NOW, sample=200)
    assert found is not None
    assert (found.passed, found.differing) == (False, 1)


@pytest.mark.parametrize("later", [(1, 0), (0, 1)], ids=["of a later version", "of a later instant"])
def test_what_a_process_is_about_to_bring_is_no_difference(lake, con, store, features, later):
    spoil(store, b"7", b'[71.0,"basic"]', later=later)
    spoil(store, b"777", b'[1.0,"new"]', later=later)
    found = check_parity(lake, features, VIEW, now=NOW, sample=200)
    assert found is not None
    assert found.passed, found.claim


class Meanwhile:
    """A store of which somebody else makes use just before or after it is first read."""

    def __init__(self, store, action, *, is_before: bool) -> None:
        self._store, self._action, self._is_before = store, action, is_before

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _act(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()

    def read(self, view, lanes, keys):
        if keys and self._is_before:
            self._act()
        found = self._store.read(view, lanes, keys)
        if keys:
            self._act()
        return found


def test_a_view_that_is_materialized_meanwhile_is_compared_again(lake, con, store, features):
    """Its rows lay in another lane when the store was asked: they are not missing."""
    other = OnlineFeatures(Meanwhile(store, lambda: materialize(lake, store, VIEW, now=NOW, full=True), is_before=True), cache_rows=0)
    found = check_parity(lake, other, VIEW, now=NOW, sample=100)
    assert found is not None
    assert found.passed, found.claim
    assert features.get("customers", [{"id": 7}], now=NOW)[0].values["spent"] == 70.0


def test_rows_that_came_after_the_comparison_are_not_served_because_of_it(lake, con, store, features):
    def spoiled() -> None:
        lake.append(con, TABLE, rows_sql((1, 0, 0, 11, None)), stamp=STAMP)
        materialize(lake, store, VIEW, now=NOW)
        spoil(store, b"7", b'[71.0,"basic"]')
        found = check_parity(lake, features, VIEW, now=NOW, sample=100)
        assert found is not None
        assert not found.passed

    found = check_parity(lake, OnlineFeatures(Meanwhile(store, spoiled, is_before=False), cache_rows=0), VIEW, now=NOW, sample=100)
    assert found is not None
    assert (found.passed, found.version) == (False, 1)
    with pytest.raises(ServingBlocked):
        features.get("customers", [{"id": 1}], now=NOW)


def test_skew_tells_how_far_serving_is_from_training(lake, con, store, features):
    lake.merge(
        con, TABLE, rows_sql(*((number, number, number, number * 10 + 1000, "basic") for number in range(10))), key=["id"], stamp=STAMP
    )
    features.push("customers", {"id": 20, "spent": 1.0, "plan": "pushed"}, now=NOW)
    found = check_parity(lake, features, VIEW, now=NOW, sample=1000)
    assert found is not None
    assert found.passed, found.claim
    assert (found.version, found.newest_version, found.sampled) == (0, 1, 42)
    assert {name: round(share * 42) for name, share in found.skew_by_feature.items()} == {"spent": 11, "plan": 1}
    assert found.shift_by_feature["spent"] > 0.3
    assert found.skew == pytest.approx(12 / 84)


def test_nobody_can_say_of_a_version_that_is_gone(lake, con, store, features):
    assert check_parity(lake, features, replace(VIEW, name="other"), now=NOW) is None
    state = store.states()["customers"]
    store.replace_state("customers", state.replace('"version":0', '"version":99'), expected=state)
    found = check_parity(lake, features, VIEW, now=NOW + timedelta(seconds=1))
    assert found is not None
    assert not found.passed
    assert "can't be read" in found.claim


def test_the_same_entities_are_drawn_whatever_the_order_of_rows(lake, con, store, features):
    spoil(store, b"9", b'[1.0,"x"]')

    def sees_it(seed: int) -> bool:
        found = check_parity(lake, features, VIEW, now=NOW, sample=20, seed=seed)
        assert found is not None
        return not found.passed

    first = [sees_it(seed) for seed in range(5)]
    lake.overwrite(con, TABLE, f"SELECT * FROM ({lake.scan_sql(TABLE, con=con)}) ORDER BY spent DESC", stamp=STAMP)
    assert (set(first), [sees_it(seed) for seed in range(5)]) == ({True, False}, first)
