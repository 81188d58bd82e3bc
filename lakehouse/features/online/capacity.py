"""How much the online store takes, when that is said aloud, and what it lets go of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.errors import StorageError
from lakehouse.features.online.rows import NEVER, Packed, microseconds
from lakehouse.features.online.state import ViewState
from lakehouse.features.online.store import LaneSize, OnlineStore

ALARM_SHARE = 0.8
_MB = 1_000_000
_SECOND_US = 1_000_000
# Whoever fills a lane for longer than this has died.
_ABANDONED = timedelta(hours=6)
_CHUNK = 5_000


class OnlineStoreFull(StorageError):
    """The online store takes all that it may."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What the store takes, beside what it may.

    Attributes:
        limit_bytes: the lower of the setting and what the store itself can take; None where there is none.
        lanes: every lane, by name.
    """

    used_bytes: int
    limit_bytes: int | None
    lanes: Mapping[str, LaneSize]

    @property
    def share(self) -> float | None:
        """Of the limit that is used."""
        return None if self.limit_bytes is None else self.used_bytes / self.limit_bytes

    @property
    def is_alarming(self) -> bool:
        """Whether the limit is near: what is evicted or given more room now makes no serving fail."""
        return self.share is not None and self.share >= ALARM_SHARE


@dataclass(frozen=True, slots=True)
class Evicted:
    """What was let go of.

    Attributes:
        rows: of entities whose features are too old to be served.
        pushed: rows that came by themselves and are too old, or that the table has by now.
        lanes: that no view is served from.
        views: that nothing has confirmed for so long that none of their rows is served; they are filled anew next time.
    """

    rows: int
    pushed: int
    lanes: int
    views: tuple[str, ...]
    bytes_freed: int


def occupancy(store: OnlineStore, limit_bytes: int | None = None) -> Occupancy:
    """What the store takes.

    Raises:
        StorageError: it can't be reached.
    """
    return Occupancy(store.size_bytes(), _limit(store, limit_bytes), store.lanes())


def _limit(store: OnlineStore, limit_bytes: int | None) -> int | None:
    limits = [limit for limit in (limit_bytes, store.capacity_bytes()) if limit is not None]
    return min(limits, default=None)


def require_room(store: OnlineStore, limit_bytes: int | None, *, now_us: int) -> None:
    """Let a writer go on.

    Raises:
        OnlineStoreFull: the store is at its limit.
        StorageError: it can't be reached.
    """
    limit = _limit(store, limit_bytes)
    if limit is None or (used := store.size_bytes()) < limit:
        return
    raise OnlineStoreFull(
        f"online store {store.address}",
        "is full",
        expected=f"less than {limit / _MB:,.0f} MB",
        found=f"{used / _MB:,.0f} MB",
        fix="Evict what is not served (lakehouse features materialize --evict), say online: false for a view, or raise LAKEHOUSE_ONLINE_LIMIT_MB",
    )


def evict(store: OnlineStore, *, now: datetime, ttl_s: float) -> Evicted:
    """Let go of everything that would not be served at this instant or later.

    Args:
        store: the store.
        now: the instant.
        ttl_s: for how long what was confirmed is served.

    Raises:
        StorageError: the store can't be reached.
    """
    now_us, before = microseconds(now), store.size_bytes()
    oldest_us = now_us - int(ttl_s * _SECOND_US)
    rows = pushed = 0
    stale: list[str] = []
    for name, text in store.states().items():
        state = ViewState.of(text)
        if state is None or state.synced_us < oldest_us:
            # Its state goes first: rows without one are looked for by nobody.
            if store.replace_state(name, None, expected=text):
                stale.append(name)
                for lane in (state.lane, state.pushed) if state is not None else ():
                    store.drop(lane)
            continue
        pushed += _remove(store, state.pushed, _outrun(store, state, oldest_us))
        if state.ttl_s is not None:
            born_us = now_us - int(state.ttl_s * _SECOND_US)
            rows += _remove(store, state.lane, _older(store, state.lane, born_us))
    # First the lanes, then who is served from them: a view may have been given others since.
    listed = list(store.lanes())
    kept = {lane for state in map(ViewState.of, store.states().values()) if state is not None for lane in (state.lane, state.pushed)}
    lanes = [lane for lane in listed if lane not in kept and _is_abandoned(lane, now_us)]
    for lane in lanes:
        store.drop(lane)
    if rows or pushed or lanes or stale:
        store.shrink()
    return Evicted(rows, pushed, len(lanes), tuple(stale), max(0, before - store.size_bytes()))


def _older(store: OnlineStore, lane: str, born_us: int) -> Iterator[tuple[bytes, bytes]]:
    for key, value in store.scan(lane):
        packed = Packed.of(value)
        if packed.payload and NEVER < packed.event_us < born_us:
            yield key, value


def _outrun(store: OnlineStore, state: ViewState, oldest_us: int) -> Iterator[tuple[bytes, bytes]]:
    """Pushed rows that are too old, or no newer than the table's."""
    for key, value in store.scan(state.pushed):
        (table,), pushed = store.read("", [state.lane], [key]).values[0], Packed.of(value)
        of_table = Packed.of(table) if table else None
        is_there = (
            of_table is not None and of_table.payload and (of_table.event_us, of_table.known_us) >= (pushed.event_us, pushed.known_us)
        )
        if pushed.written_us < oldest_us or is_there:
            yield key, value


def _remove(store: OnlineStore, lane: str, rows: Iterator[tuple[bytes, bytes]]) -> int:
    removed, chunk = 0, list[tuple[bytes, bytes]]()
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            removed += store.remove(lane, chunk)
            chunk = []
    return removed + (store.remove(lane, chunk) if chunk else 0)


def _is_abandoned(lane: str, now_us: int) -> bool:
    """Whether a lane that no state names was given up; its name says when it was begun."""
    begun = lane.rpartition("/")[2].partition("-")[0]
    return not begun.isdecimal() or int(begun) < now_us - int(_ABANDONED.total_seconds()) * _SECOND_US
