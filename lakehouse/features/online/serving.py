"""What the online store answers: the features of entities now, and single rows that are pushed into it."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from lakehouse.errors import FeatureError, ServingBlocked, ViewNotOnline
from lakehouse.features.online.rows import NEVER, Layout, Packed, as_payload, encoded, instant_of, is_servable, key_of, microseconds, pack
from lakehouse.features.online.state import ViewState
from lakehouse.features.online.store import OnlineStore

_SECOND_US = 1_000_000
_AHEAD_US = 60 * _SECOND_US
# The lane of a view's rows is another one after each time that it was filled anew.
_LOOKS = 5


class Origin(StrEnum):
    """Where the features of an entity are from."""

    TABLE = "table"
    PUSHED = "pushed"
    NONE = "none"


class Served(NamedTuple):
    """The features of one entity at one instant; a tuple, because one is made for every row that is served.

    Attributes:
        values: by feature; defaults, or None, where there is no row that may be served.
        event_time: from when they were true; None for what does not change, and where there is no row.
        written_at: when the row came to the store.
    """

    values: Mapping[str, Any]
    origin: Origin
    event_time: datetime | None = None
    written_at: datetime | None = None


class _Found(NamedTuple):
    """A value of the store, and its features as Python has them; none where the table has no row."""

    packed: Packed
    features: Mapping[str, Any]

    @classmethod
    def of(cls, value: bytes | None, layout: Layout) -> "_Found | None":
        if value is None:
            return None
        packed = Packed.of(value)
        return cls(packed, layout.features_in(packed.payload) if packed.payload else {})


class _Row(NamedTuple):
    """A row as it is kept in the process: what table and push say of an entity."""

    state: ViewState
    table: _Found | None
    pushed: _Found | None
    read_us: int


class OnlineFeatures:
    """Reads and pushes features; may be shared by threads.

    A process keeps what it has read for a short time, up to a number of entities: so long may a newer row, or a block, go unnoticed.

    Args:
        store: the online store.
        ttl_s: for how long what was confirmed is served: a row of the table was confirmed when its view was last materialized, a pushed
            one when it was pushed.
        cache_rows: entities to keep in this process.
        cache_ttl_s: for how long.
    """

    def __init__(self, store: OnlineStore, *, ttl_s: float = 86_400, cache_rows: int = 10_000, cache_ttl_s: float = 5.0) -> None:
        self.store = store
        self._ttl_us = int(ttl_s * _SECOND_US)
        self._cache_rows = cache_rows if cache_ttl_s > 0 else 0
        self._cache_us = int(cache_ttl_s * _SECOND_US)
        self._cache: OrderedDict[tuple[str, bytes], _Row] = OrderedDict()
        self._states: dict[str, tuple[str, ViewState, int]] = {}
        self._lock = threading.Lock()

    @property
    def cached_rows(self) -> int:
        """Entities that this process keeps."""
        return len(self._cache)

    def get(
        self, view: str, entities: Sequence[Mapping[str, Any]], *, now: datetime, features: Sequence[str] | None = None
    ) -> list[Served]:
        """The features of entities, in their order.

        Args:
            view: name of the view.
            entities: each the values of the entity's columns, by name.
            now: the instant; no row that became true later is served, nor one that is older than the view's ttl.
            features: which, in this order; default all.

        Raises:
            ViewNotOnline: the store does not have the view.
            FeatureError: it is asked for what it does not have.
            ServingBlocked: what the store has of it is not what training sees.
            StorageError: the store can't be reached.
        """
        now_us = microseconds(now)
        rows, state = self._rows(view, entities, now_us)
        chosen = None if features is None else self._chosen(view, state, features)
        return [self._served(row, chosen, now_us) for row in rows]

    def state(self, view: str, *, now: datetime) -> ViewState:
        """What the store has of a view that is served, known for as long as rows are kept.

        Raises:
            ViewNotOnline: the store does not have the view.
            ServingBlocked: what the store has of it is not what training sees.
            StorageError: the store can't be reached.
        """
        return self._state(view, microseconds(now))

    def keeps(self, view: str, entities: Sequence[Mapping[str, Any]], *, now: datetime) -> bool:
        """Whether the process has all that `get` would answer, so that the store is not asked.

        Raises:
            FeatureError: an entity is none of the view.
        """
        now_us = microseconds(now)
        known = self._states.get(view)
        if known is None or not now_us - self._cache_us <= known[2] <= now_us or known[1].blocked is not None:
            return False
        keys = [key_of(view, known[1].entity, entity) for entity in entities]
        return len(self._kept(view, known[1], keys, now_us)) == len(set(keys))

    def _state(self, view: str, now_us: int) -> ViewState:
        known = self._states.get(view)
        state = known[1] if known is not None and now_us - self._cache_us <= known[2] <= now_us else None
        if state is None or state.blocked is not None:
            state = self._look(view, self.store.read(view, (), ()).state, now_us)
        self._require_served(view, state)
        return state

    def _kept(self, view: str, state: ViewState, keys: Sequence[bytes], now_us: int) -> dict[bytes, _Row]:
        found: dict[bytes, _Row] = {}
        with self._lock:
            for key in keys:
                row = self._cache.get((view, key))
                if row is not None and now_us - self._cache_us <= row.read_us <= now_us and row.state.lane == state.lane:
                    self._cache.move_to_end((view, key))
                    found[key] = row
        return found

    def _rows(self, view: str, entities: Sequence[Mapping[str, Any]], now_us: int) -> tuple[list[_Row], ViewState]:
        state = self._state(view, now_us)
        keys = [key_of(view, state.entity, entity) for entity in entities]
        found = self._kept(view, state, keys, now_us) if self._cache_rows else {}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            state, read = self._read(view, state, missing, now_us, is_served=True)
            found |= read
            self._keep(view, read)
        return [found[key] for key in keys], state

    def arrays(self, view: str, entities: Sequence[Mapping[str, Any]], *, now: datetime) -> list[list[Any]]:
        """What `get` would say, as the store has it, past what this process keeps and whether or not the view is served: to compare.

        Raises:
            FeatureError: the view is not online, or is asked for what it does not have.
            StorageError: the store can't be reached.
        """
        now_us = microseconds(now)
        state = self._look(view, self.store.read(view, (), ()).state, now_us)
        keys = [key_of(view, state.entity, entity) for entity in entities]
        _, read = self._read(view, state, list(dict.fromkeys(keys)), now_us, is_served=False)
        rows = [read[key] for key in keys]
        best = [(row.state, self._best(row, now_us)[0]) for row in rows]
        return [list(state.defaults) if found is None else json.loads(found.packed.payload) for state, found in best]

    def _read(
        self, view: str, state: ViewState, keys: Sequence[bytes], now_us: int, *, is_served: bool
    ) -> tuple[ViewState, dict[bytes, _Row]]:
        """Rows with the state that they belong to: where that is another one than was thought, they are looked for again."""
        for _ in range(_LOOKS):
            answer = self.store.read(view, (state.lane, state.pushed), keys)
            newest = self._look(view, answer.state, now_us)
            if is_served:
                self._require_served(view, newest)
            if (newest.lane, newest.pushed) == (state.lane, state.pushed):
                table, pushed = answer.values
                layout = _layout(newest)
                return newest, {
                    key: _Row(newest, _Found.of(ours, layout), _Found.of(theirs, layout), now_us)
                    for key, ours, theirs in zip(keys, table, pushed, strict=True)
                }
            state = newest
        raise FeatureError(f"feature view {view}", "is being replaced again and again", fix="Ask again")

    def _look(self, view: str, text: str | None, now_us: int) -> ViewState:
        known = self._states.get(view)
        state = known[1] if known is not None and known[0] == text else ViewState.of(text)
        if state is None or text is None:
            self._states.pop(view, None)
            raise ViewNotOnline(
                f"feature view {view}",
                "is not in the online store",
                expected=f"one of {', '.join(self.store.states()) or 'none'}",
                fix=f"Run `lakehouse features materialize {view}`",
            )
        self._states[view] = (text, state, now_us)
        return state

    @staticmethod
    def _require_served(view: str, state: ViewState) -> None:
        if state.blocked is not None:
            raise ServingBlocked(
                f"feature view {view}",
                "is not served",
                expected="the same features online and offline",
                found=state.blocked,
                fix=f"Run `lakehouse features materialize {view} --full`, then `lakehouse features parity {view}`",
            )

    def _keep(self, view: str, rows: Mapping[bytes, _Row]) -> None:
        if not self._cache_rows:
            return
        with self._lock:
            for key, row in rows.items():
                self._cache[(view, key)] = row
                self._cache.move_to_end((view, key))
            while len(self._cache) > self._cache_rows:
                self._cache.popitem(last=False)

    @staticmethod
    def _chosen(view: str, state: ViewState, features: Sequence[str]) -> Sequence[str]:
        names = _layout(state).names
        unknown = [name for name in features if name not in names]
        if unknown:
            raise FeatureError(f"feature view {view}", f"has no feature {', '.join(unknown)}", expected=", ".join(names))
        return features

    def _served(self, row: _Row, chosen: Sequence[str] | None, now_us: int) -> Served:
        found, origin = self._best(row, now_us)
        values = _layout(row.state).features_of(row.state.defaults) if found is None else found.features
        given = values if chosen is None else {name: values[name] for name in chosen}
        if found is None:
            return Served(given, origin)
        packed = found.packed
        return Served(given, origin, instant_of(packed.event_us) if row.state.has_event else None, instant_of(packed.written_us))

    def _best(self, row: _Row, now_us: int) -> tuple[_Found | None, Origin]:
        state = row.state
        table = row.table
        if table is not None and (not table.packed.payload or state.synced_us < now_us - self._ttl_us or table.packed.event_us > now_us):
            # What is from after now was written by a clock that was ahead.
            table = None
        pushed = row.pushed
        if pushed is not None and (pushed.packed.written_us < now_us - self._ttl_us or pushed.packed.event_us > now_us):
            pushed = None
        if table is not None and pushed is not None:
            if _instants(pushed.packed, state) > _instants(table.packed, state):
                table = None
            else:
                pushed = None
        best, origin = (pushed, Origin.PUSHED) if pushed is not None else (table, Origin.TABLE)
        oldest_us = now_us - state.ttl_s * _SECOND_US if state.has_event and state.ttl_s is not None else None
        if best is None or (oldest_us is not None and best.packed.event_us < oldest_us):
            return None, Origin.NONE
        return best, origin

    def push(self, view: str, row: Mapping[str, Any], *, event_time: datetime | None = None, now: datetime) -> bool:
        """Put one entity's features into the store before its table has them.

        They are served until a row of the table is as new, for as long as the ttl lasts. A row that is older than one that was pushed
        before changes nothing, and neither does the same one again.

        Args:
            view: name of the view.
            row: the entity's columns and every feature, by name.
            event_time: from when they are true; default `now`.
            now: when they were known.

        Returns:
            Whether the store took it: False where it has a newer one.

        Raises:
            FeatureError: the view is not online, or the row is not one of it.
            StorageError: the store can't be reached.
        """
        now_us = microseconds(now)
        state = self._look(view, self.store.read(view, (), ()).state, now_us)
        key = key_of(view, state.entity, row)
        names = [feature.name for feature in state.features]
        missing = [name for name in names if name not in row]
        unknown = [name for name in row if name not in {*names, *(column.name for column in state.entity)}]
        if missing or unknown:
            raise FeatureError(
                f"feature view {view}",
                "is given a row that is not one of it",
                expected=", ".join(names),
                found=f"without {', '.join(missing)}" if missing else f"with {', '.join(unknown)}",
                fix="Give every feature; None is a value",
            )
        values = [encoded(view, feature, row[feature.name]) for feature in state.features]
        values = [default if value is None else value for value, default in zip(values, state.defaults, strict=True)]
        event_us = now_us if event_time is None else self._event_us(view, event_time, now_us)
        value = pack(rank=(event_us, now_us), event_us=event_us, known_us=now_us, written_us=now_us, payload=as_payload(values))
        written = self.store.put(state.pushed, [(key, value)])
        with self._lock:
            self._cache.pop((view, key), None)
        return bool(written)

    @staticmethod
    def _event_us(view: str, event_time: datetime, now_us: int) -> int:
        """From when a pushed row is true: a clock that is a little ahead is forgiven, for a row from the future would keep out all others."""
        event_us = microseconds(event_time)
        if event_us > now_us + _AHEAD_US or not is_servable(event_time):
            raise FeatureError(
                f"feature view {view}",
                "is given a row from another time",
                expected=f"an event time from year 1 to {instant_of(now_us)}",
                found=str(event_time),
                fix="Set the clock of whoever sends it",
            )
        return min(event_us, now_us)


def _instants(packed: Packed, state: ViewState) -> tuple[int, int]:
    """From when a row was true, and known: of two rows for an entity the later one is served."""
    if packed.event_us == NEVER:
        # What has no time of its own is as new as the last look at its table.
        return state.synced_us, state.synced_us
    return packed.event_us, packed.known_us if state.has_known else packed.event_us


@lru_cache(maxsize=1_000)
def _layout(state: ViewState) -> Layout:
    return Layout(state.features)
