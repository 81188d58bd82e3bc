"""Whether the online store has what training would see: entities are drawn, and both are asked.

Two questions. The store is compared with the very version of the table that it says it has: whatever differs is a fault, and the view is
not served until it is gone. And what is served is compared with the newest version at this instant: that difference is the skew which a
model meets that was trained on the one and predicts with the other; it is measured, and is a fault of nobody.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from lakehouse.errors import ConcurrentWrite, TableNotFound
from lakehouse.features.online.rows import EPOCH, Packed, Typed, key_sql, microseconds, payload_sql
from lakehouse.features.online.serving import OnlineFeatures
from lakehouse.features.online.state import Shape, ViewState
from lakehouse.features.online.store import OnlineStore
from lakehouse.features.point_in_time import JoinedView, default_literals, point_in_time_sql
from lakehouse.features.training_set import relation
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

_SHOWN = 20
_LOOKS = 5
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True, slots=True)
class Difference:
    """One feature of one entity that is not the same online and offline; None where there is none."""

    entity: str
    feature: str
    online: Any
    offline: Any


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found.

    Attributes:
        version: of the table, that the store has.
        newest_version: of the table.
        sampled: entities that were compared.
        differences: of the store from its version, at most some of them.
        differing: entities that differ.
        skew: share of the sampled features that are served otherwise than the newest version has them.
        skew_by_feature: the same for each feature that has any.
        shift_by_feature: for numbers, by how many standard deviations of the offline values the mean of the served ones is off.
        passed: nothing differs.
    """

    view: str
    table: str
    version: int
    newest_version: int
    sampled: int
    differing: int
    differences: tuple[Difference, ...]
    skew: float
    skew_by_feature: Mapping[str, float] = field(default_factory=dict[str, float])
    shift_by_feature: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def passed(self) -> bool:
        """Whether the store has what its version of the table has."""
        return self.differing == 0

    @property
    def claim(self) -> str:
        """What was found, in a line."""
        if self.passed:
            return f"{self.sampled:,} entities are the same online and in {self.table} version {self.version}; skew {self.skew:.2%}"
        first = self.differences[0]
        return (
            f"{self.differing:,} of {self.sampled:,} entities differ from {self.table} version {self.version},"
            f" such as {first.feature} of {first.entity}: online {first.online!r}, offline {first.offline!r}"
        )


def check_parity(
    lake: Lake, features: OnlineFeatures, view: FeatureView, *, now: datetime, sample: int = 200, seed: int = 0
) -> Parity | None:
    """Compare, and serve the view from now on, or no more.

    Args:
        lake: has the table.
        features: serves from the store.
        view: the view.
        now: the instant to look from.
        sample: entities of the table to draw; a fourth as many are drawn from the store, which may have some that the table lacks.
        seed: the same entities are drawn with the same number.

    Returns:
        None where the view is not in the store.

    Raises:
        TableNotFound: the view's table has not been built.
        StorageError: the store can't be reached.
        ConcurrentWrite: others materialized the view again and again meanwhile.
    """
    store = features.store
    for _ in range(_LOOKS):
        state = ViewState.of(store.states().get(view.name))
        if state is None:
            return None
        newest = lake.snapshot(view.table).version
        found = _compare(lake, store, view, state, now=now, sample=sample, seed=seed)
        if found is None:
            # Its version, or its shape, is not there any more: nobody can say that the store is right.
            difference = Difference("every entity", "every feature", f"version {state.version}", "can't be read any more")
            found = _Compared((), (difference,), 1)
        parity = _skew(lake, features, view, state, found, now=now, newest=newest)
        if _block(store, view.name, state, None if parity.passed else parity.claim):
            return parity
    raise ConcurrentWrite(f"feature view {view.name}", "is being materialized by others again and again", fix="Try again later")


@dataclass(frozen=True, slots=True)
class _Compared:
    entities: tuple[Mapping[str, Any], ...]
    differences: tuple[Difference, ...]
    differing: int


def _compare(
    lake: Lake, store: OnlineStore, view: FeatureView, state: ViewState, *, now: datetime, sample: int, seed: int
) -> _Compared | None:
    try:
        session = lake.connect((), as_of={view.table: state.version})
    except TableNotFound:
        return None
    now_us = microseconds(now)
    # Rows that have become true since the store was filled are not expected in it.
    is_due = state.next_us is not None and state.next_us <= now_us
    asked_us = state.as_of_us if is_due or now_us < state.as_of_us else now_us
    with session:
        con = session.con
        columns = lake.schema(view.table, state.version)
        if Shape.of(view, columns).digest != state.digest:
            return None
        # What has become too old since then is not expected either.
        ttl_s = None if view.ttl_s is None else view.ttl_s - (now_us - asked_us) / 1_000_000
        offline = _Offline(replace(view, ttl_s=ttl_s), state, columns)
        con.execute(f"CREATE TEMP TABLE __drawn AS {offline.drawn(sample, seed)}")
        rows = con.execute(offline.features_sql("__drawn", asked_us)).fetchall()
        of_store = [key for key, value in islice(store.scan(state.lane), max(1, sample // 4)) if _is_of(Packed.of(value), state)]
        known = offline.known(con, of_store)
    values = store.read(view.name, (state.lane,), [key for key, *_ in rows]).values[0]
    differences: list[Difference] = []
    differing = 0
    entities: list[Mapping[str, Any]] = []
    for (key, payload, *entity), value in zip(rows, values, strict=True):
        entities.append(dict(zip((column.name for column in state.entity), entity, strict=True)))
        packed = Packed.of(value) if value else None
        if packed is not None and packed.rank > (state.version, state.as_of_us):
            # Somebody is about to bring the view to a later version, or a later instant.
            continue
        is_there = packed is not None and packed.payload and _is_young(packed, state, now_us)
        online = json.loads(packed.payload) if packed is not None and is_there else list(state.defaults)
        expected = json.loads(payload)
        wrong = [place for place, one in enumerate(expected) if one != online[place]]
        differing += bool(wrong)
        differences += [Difference(key.decode(), state.features[place].name, online[place], expected[place]) for place in wrong]
    extra = [key for key in of_store if key not in known]
    differences += [Difference(key.decode(), "every feature", "is there", None) for key in extra]
    return _Compared(tuple(entities), tuple(differences[:_SHOWN]), differing + len(extra))


def _is_of(packed: Packed, state: ViewState) -> bool:
    """Whether a row of the store has features, and is not one that somebody is about to bring."""
    return bool(packed.payload) and packed.rank <= (state.version, state.as_of_us)


def _is_young(packed: Packed, state: ViewState, at_us: int) -> bool:
    return not state.has_event or state.ttl_s is None or packed.event_us >= at_us - state.ttl_s * 1_000_000


@dataclass(frozen=True, slots=True)
class _Offline:
    """The questions to a view's table."""

    view: FeatureView
    state: ViewState
    columns: Mapping[str, str]

    @property
    def _entity(self) -> str:
        return ", ".join(quote_identifier(column) for column in self.view.entity)

    def drawn(self, sample: int, seed: int) -> str:
        """Entities, the same for the same seed, in whatever order the table's files have them."""
        whole = " AND ".join(f"{quote_identifier(column)} IS NOT NULL" for column in self.view.entity)
        key = key_sql(self.view.name, self.state.entity)
        everyone = f"SELECT DISTINCT {self._entity} FROM {relation(self.view.table)} WHERE {whole}"
        return f"SELECT * FROM ({everyone}) ORDER BY md5({key}::VARCHAR || {quote_literal(str(seed))}) LIMIT {int(sample)}"

    def features_sql(self, spine: str, at_us: int) -> str:
        """Key, features as the store would have them, and entity, of each row of the spine."""
        names = tuple(feature.name for feature in self.state.features)
        joined = JoinedView(self.view, relation(self.view.table), tuple(self.columns), names, default_literals(self.view, self.columns))
        at = quote_literal(EPOCH + timedelta(microseconds=at_us))
        sql = point_in_time_sql(
            f"(SELECT {self._entity}, {at} AS __asked_at FROM {spine})",
            [joined],
            spine_columns=self.view.entity,
            event_timestamp="__asked_at",
        )
        return f"SELECT {key_sql(self.view.name, self.state.entity)}, {payload_sql(self.state.features)}, {self._entity} FROM ({sql})"

    def known(self, con: Any, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that an entity of the table has."""
        if not keys:
            return set()
        asked = ", ".join(f"from_hex('{key.hex()}')" for key in keys)
        key = key_sql(self.view.name, self.state.entity)
        found = con.execute(f"SELECT DISTINCT {key} AS k FROM {relation(self.view.table)} WHERE {key} IN ({asked})").fetchall()
        return {bytes(one) for (one,) in found}


def _skew(
    lake: Lake, features: OnlineFeatures, view: FeatureView, state: ViewState, found: _Compared, *, now: datetime, newest: int
) -> Parity:
    parity = Parity(view.name, view.table, state.version, newest, len(found.entities), found.differing, found.differences, skew=0.0)
    columns = lake.schema(view.table)
    if not found.entities or Shape.of(view, columns).digest != state.digest:
        return parity
    served = features.arrays(view.name, found.entities, now=now)
    with lake.connect([view.table]) as session:
        con = session.con
        keys = ", ".join(f"{quote_identifier(one.name)} {one.type}" for one in state.entity)
        con.execute(f"CREATE TEMP TABLE __drawn ({keys})")
        rows = [f"({', '.join(quote_literal(entity[one.name]) for one in state.entity)})" for entity in found.entities]
        con.execute(f"INSERT INTO __drawn VALUES {', '.join(rows)}")
        sql = _Offline(view, state, columns).features_sql("__drawn", microseconds(now))
        offline = {tuple(entity): json.loads(payload) for _, payload, *entity in con.execute(sql).fetchall()}
    pairs = [
        (one, offline[tuple(entity[column.name] for column in state.entity)]) for entity, one in zip(found.entities, served, strict=True)
    ]
    shares: dict[str, float] = {}
    shifts: dict[str, float] = {}
    for place, feature in enumerate(state.features):
        share = sum(online[place] != expected[place] for online, expected in pairs) / len(pairs)
        if share:
            shares[feature.name] = share
            shift = _shift(feature, [online[place] for online, _ in pairs], [expected[place] for _, expected in pairs])
            if shift is not None:
                shifts[feature.name] = shift
    total = sum(shares.values()) / len(state.features) if state.features else 0.0
    return replace(parity, skew=total, skew_by_feature=shares, shift_by_feature=shifts)


def _shift(feature: Typed, served: Sequence[Any], offline: Sequence[Any]) -> float | None:
    if not feature.type.startswith(_NUMBERS) or feature.type.endswith("]"):
        return None
    ours, theirs = ([float(one) for one in values if one is not None] for values in (served, offline))
    if not ours or len(theirs) < 2:
        return None
    mean = sum(theirs) / len(theirs)
    deviation = (sum((one - mean) ** 2 for one in theirs) / (len(theirs) - 1)) ** 0.5
    return abs(sum(ours) / len(ours) - mean) / deviation if deviation else None


def _block(store: OnlineStore, view: str, compared: ViewState, reason: str | None) -> bool:
    """Have the view served, or not; False where it has other rows by now than those that were compared, of which that says nothing."""
    while True:
        text = store.states().get(view)
        state = ViewState.of(text)
        if state is None or _rows_of(state) != _rows_of(compared):
            return False
        if state.blocked == reason or store.replace_state(view, replace(state, blocked=reason).as_text(), expected=text):
            return True


def _rows_of(state: ViewState) -> tuple[str, int, int]:
    return state.lane, state.version, state.as_of_us
