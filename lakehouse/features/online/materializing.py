"""From a view's table to the online store: what has changed since the last time, or everything, in another lane.

Whoever does it twice, at once with others, or is killed on the way, leaves the store as whoever does it once. A row says which version of
the table it is from, and never replaces one of a later version. The view's state is written last, and only if it is what was read; until
then the next time begins where this one did. A view that can't be updated is filled anew in a lane of its own, and served from the old one
meanwhile.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, ErasedMeanwhile, StorageError, TableNotFound
from lakehouse.features.online.capacity import require_room
from lakehouse.features.online.newest import CHANGED_AT, effective, instants, newest_of_changed, rows_between
from lakehouse.features.online.rows import EPOCH, NEVER, Packed, key_sql, microseconds, pack, payload_sql
from lakehouse.features.online.state import Shape, ViewState
from lakehouse.features.online.store import OnlineStore
from lakehouse.features.point_in_time import JoinedView, default_literals, newest_sql
from lakehouse.features.training_set import relation
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, TableName

if TYPE_CHECKING:
    from lakehouse.tables import Session
    from lakehouse.tables.changes import Changes
    from lakehouse.tables.snapshot import Snapshot

_CHUNK = 20_000
_ATTEMPTS = 5
_CHANGED = "__lakehouse_changed"


@dataclass(frozen=True, slots=True)
class Materialized:
    """What became of a view in the online store.

    Attributes:
        version: of the table, that the store has now.
        since: the version that it had; None where everything was written.
        entities: that were looked at because something had changed; with a whole view, all.
        written: rows that the store took; the others it had already, or newer ones.
        removed: entities that the table has no row of any more.
        is_whole: everything was written, in a lane of its own.
        why: what made it so.
        files_read: of the table, to find the newest rows of what has changed; None where everything was written.
    """

    view: str
    table: str
    version: int
    since: int | None
    entities: int
    written: int
    removed: int
    is_whole: bool
    why: str
    files_read: int | None = None

    @property
    def is_unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return not self.is_whole and self.entities == 0


def materialize(
    lake: Lake, store: OnlineStore, view: FeatureView, *, now: datetime, full: bool = False, limit_bytes: int | None = None
) -> Materialized:
    """Bring a view in the online store to the newest version of its table.

    Args:
        lake: has the table.
        store: takes the rows.
        view: the view.
        now: rows that are true or known only later wait until then.
        full: write everything again, whatever the store has.
        limit_bytes: what the store may take.

    Raises:
        TableNotFound: the view's table has not been built.
        FeatureError: the view and its table don't fit together.
        StorageError: the store can't be reached, or is full.
        ConcurrentWrite: others changed the view again and again meanwhile.
    """
    why = "it was asked for" if full else None
    for _ in range(_ATTEMPTS):
        text = store.states().get(view.name)
        try:
            done = _attempt(_Turn(lake, store, view, microseconds(now), limit_bytes, text, ViewState.of(text)), why=why)
        except ErasedMeanwhile:
            # What was read before may have come into the lane: another one takes its place.
            why = "somebody was erased meanwhile"
            continue
        if done is not None:
            return done
    raise ConcurrentWrite(f"feature view {view.name}", "is being materialized by others again and again", fix="Try again later")


@dataclass(frozen=True, slots=True)
class _Turn:
    """One attempt: what it works on, and what the store said when it began."""

    lake: Lake
    store: OnlineStore
    view: FeatureView
    now_us: int
    limit_bytes: int | None
    text: str | None
    state: ViewState | None


@dataclass(frozen=True, slots=True)
class _Source:
    """A view over one version of its table, in a session."""

    session: "Session"
    shape: Shape
    joined: JoinedView
    identity: str
    snapshot: "Snapshot"

    @property
    def version(self) -> int:
        return self.snapshot.version


def _attempt(turn: _Turn, *, why: str | None) -> Materialized | None:
    """What was done; None if somebody else changed the view so that it has to be looked at again."""
    lake, view, state = turn.lake, turn.view, turn.state
    snapshot = lake.snapshot(view.table)
    with lake.connect((), as_of={view.table: snapshot.version}) as session:
        columns = {column.name: column.sql_type for column in snapshot.columns}
        shape = Shape.of(view, columns)
        features = tuple(one.name for one in shape.features)
        joined = JoinedView(view, relation(view.table), tuple(columns), features, default_literals(view, columns))
        source = _Source(session, shape, joined, str(snapshot.delta.metadata().id), snapshot)
        why = why or _why_whole(state, source, view.ttl_s)
        if state is None or why is not None:
            return _write_whole(turn, source, why or "it had not been materialized")
        if source.version < state.version:
            # Somebody may have got further meanwhile; else the table went back.
            is_newest = lake.version(view.table) == source.version
            return _write_whole(turn, source, f"{view.table} went back from version {state.version}") if is_newest else None
        changes = _changes(lake, state, source)
        if changes is None:
            return _write_whole(turn, source, f"the commits since version {state.version} don't tell what they changed")
        return _update(turn, source, state, changes)


def _why_whole(state: ViewState | None, source: _Source, ttl_s: float | None) -> str | None:
    if state is None:
        return "it had not been materialized"
    if state.has_event and state.ttl_s is not None and (ttl_s is None or ttl_s > state.ttl_s):
        # Eviction may have let go of what was too old then.
        return "its ttl is longer than it was"
    if state.digest != source.shape.digest:
        return "the view is declared in another way, or its columns have changed"
    return f"{state.table} was made anew" if state.identity != source.identity else None


def _changes(lake: Lake, state: ViewState, source: _Source) -> "Changes | None":
    try:
        return lake.changes(state.table, state.version, source.version)
    except TableNotFound:
        # Vacuum has removed the version that the store has.
        return None


def _write_whole(turn: _Turn, source: _Source, why: str) -> Materialized | None:
    store, view, state = turn.store, turn.view, turn.state
    as_of_us = turn.now_us
    lane = f"{view.name}/{turn.now_us}-{secrets.token_hex(4)}"
    counted = _Counted()
    sql = newest_sql(source.joined, at=_instant(as_of_us))
    try:
        written = store.put(lane, _packed(turn, source, f"SELECT {_columns(source)} FROM ({sql}) ORDER BY 1", as_of_us, counted))
        reached(Point.MID_MATERIALIZE)
        new = _new_state(turn, source, lane=lane, as_of_us=as_of_us)
        _require_nobody_erased(turn, source)
        if state is not None and state.pushed == new.pushed:
            # Before anybody is served from the new lane: who is killed afterwards leaves nothing that comes back.
            _forget_pushed_of_gone(store, state, lane)
        if not store.replace_state(view.name, new.as_text(), expected=turn.text):
            store.drop(lane)
            return None
    except (StorageError, ErasedMeanwhile):
        # Nobody will look for it; where the store is out of reach, eviction finds it later.
        _drop_if_reachable(store, lane)
        raise
    reached(Point.VIEW_REPLACED)
    if state is not None:
        store.drop(state.lane)
        if state.pushed != new.pushed:
            store.drop(state.pushed)
    return Materialized(view.name, view.table, source.version, None, counted.rows, written, 0, is_whole=True, why=why)


def _drop_if_reachable(store: OnlineStore, lane: str) -> None:
    try:
        store.drop(lane)
    except StorageError:
        return


def _forget_pushed_of_gone(store: OnlineStore, state: ViewState, lane: str) -> None:
    """Pushed rows of entities that the table had and has no more: whoever removed them did not want to see them again."""
    pushed = store.scan(state.pushed)
    while part := list(islice(pushed, _CHUNK)):
        before, after = store.read("", [state.lane, lane], [key for key, _ in part]).values
        gone = [row for row, old, new in zip(part, before, after, strict=True) if old and Packed.of(old).payload and not new]
        store.remove(state.pushed, gone)


def _update(turn: _Turn, source: _Source, state: ViewState, changes: "Changes") -> Materialized | None:
    store, view, con = turn.store, turn.view, source.session.con
    as_of_us = max(turn.now_us, state.as_of_us)
    parts = [f"FROM ({changes.scan_sql(con)})"] if changes.files else []
    if state.next_us is not None and state.next_us <= as_of_us:
        # Nothing was written, but time has passed.
        parts.append(rows_between(con, source.snapshot, view, _instant(state.as_of_us), _instant(as_of_us)))
    counted = _Counted()
    written = files_read = 0
    if parts:
        _note_changed(turn, source, parts, as_of_us)
        keys = ", ".join(f"{quote_identifier(column)} AS __e{place}" for place, column in enumerate(view.entity))
        same = ", ".join(f"__e{place}" for place in range(len(view.entity)))
        # An entity that has no row any more comes without features.
        found, files_read = newest_of_changed(con, source.snapshot, source.joined, _CHANGED, _instant(as_of_us))
        sql = f"SELECT * FROM (SELECT {keys} FROM {_CHANGED}) LEFT JOIN (SELECT true AS __is_there, * FROM ({found})) USING ({same})"
        rows = _packed(turn, source, f"SELECT {_columns(source, is_there='__is_there')} FROM ({sql})", as_of_us, counted)
        written = _put_changed(store, state, rows)
    reached(Point.MID_MATERIALIZE)
    _require_nobody_erased(turn, source)
    new = replace(
        _new_state(turn, source, lane=state.lane, as_of_us=as_of_us), pushed=state.pushed, synced_us=max(state.synced_us, turn.now_us)
    )
    if not _advance(store, view.name, turn.text, new):
        return None
    return Materialized(
        view.name,
        view.table,
        source.version,
        state.version,
        counted.rows,
        written,
        counted.gone,
        is_whole=False,
        why="what has changed",
        files_read=files_read,
    )


def _note_changed(turn: _Turn, source: _Source, parts: Sequence[str], as_of_us: int) -> None:
    """Make the table of entities of which a row has changed, or has become true or known, with when the newest of these was true."""
    view = turn.view
    columns = [*view.entity, *(column for column in (view.event_timestamp, view.known_timestamp) if column)]
    listed = ", ".join(map(quote_identifier, dict.fromkeys(columns)))
    entity = ", ".join(map(quote_identifier, view.entity))
    whole = " AND ".join(f"{quote_identifier(column)} IS NOT NULL" for column in view.entity)
    at = "NULL::TIMESTAMPTZ"
    if view.event_timestamp:
        is_seen = " AND ".join(f"{one} <= {quote_literal(_instant(as_of_us))}" for one in instants(view))
        at = f"max({instants(view)[0]}) FILTER ({is_seen})"
    rows = " UNION ALL ".join(f"SELECT {listed} {part}" for part in parts)
    source.session.con.execute(
        f"CREATE OR REPLACE TEMP TABLE {_CHANGED} AS SELECT {entity}, {at} AS {CHANGED_AT} FROM ({rows}) WHERE {whole} GROUP BY {entity}"
    )


def _put_changed(store: OnlineStore, state: ViewState, rows: Iterator[tuple[bytes, bytes]]) -> int:
    """Write rows of the table, and take away what had been pushed of entities that are gone."""
    gone: list[bytes] = []

    def noted() -> Iterator[tuple[bytes, bytes]]:
        for key, value in rows:
            if not Packed.of(value).payload:
                gone.append(key)
            yield key, value

    written = store.put(state.lane, noted())
    for start in range(0, len(gone), _CHUNK):
        part = gone[start : start + _CHUNK]
        (values,) = store.read("", [state.pushed], part).values
        store.remove(state.pushed, [(key, value) for key, value in zip(part, values, strict=True) if value is not None])
    return written


def _advance(store: OnlineStore, view: str, text: str | None, new: ViewState) -> bool:
    """Write the state, unless somebody else has got as far; False where the view has moved to another lane meanwhile."""
    while not store.replace_state(view, new.as_text(), expected=text):
        text = store.states().get(view)
        state = ViewState.of(text)
        if state is None or state.lane != new.lane:
            return False
        if (state.version, state.as_of_us) >= (new.version, new.as_of_us):
            return True
        new = replace(new, blocked=state.blocked)
    return True


def _new_state(turn: _Turn, source: _Source, *, lane: str, as_of_us: int) -> ViewState:
    view, con, shape = turn.view, source.session.con, source.shape
    later = None
    if view.event_timestamp or view.known_timestamp:
        rows = rows_between(con, source.snapshot, view, _instant(as_of_us), None)
        later = con.execute(f"SELECT epoch_us(min({effective(view)})) {rows}").fetchall()[0][0]
    defaults = ", ".join(
        f"{source.joined.defaults.get(one.name, f'CAST(NULL AS {one.type})')} AS {quote_identifier(one.name)}" for one in shape.features
    )
    payload = con.execute(f"SELECT {payload_sql(shape.features)} FROM (SELECT {defaults})").fetchall()[0][0] if shape.features else b"[]"
    return ViewState(
        lane=lane,
        pushed=f"{view.name}/pushed-{shape.digest}",
        digest=shape.digest,
        table=view.table,
        identity=source.identity,
        version=source.version,
        as_of_us=as_of_us,
        synced_us=turn.now_us,
        entity=shape.entity,
        features=shape.features,
        defaults=tuple(json.loads(payload)),
        has_event=view.event_timestamp is not None,
        has_known=view.known_timestamp is not None,
        ttl_s=view.ttl_s,
        next_us=later,
        blocked=turn.state.blocked if turn.state is not None else None,
    )


@dataclass(slots=True)
class _Counted:
    """Rows on their way."""

    rows: int = 0
    gone: int = 0


def _columns(source: _Source, *, is_there: str = "true") -> str:
    """The SELECT list of key, features and times; without features where the entity has no row."""
    view, shape = source.joined.view.name, source.shape
    key = key_sql(view, shape.entity, prefix="__e")
    return f"{key}, CASE WHEN {is_there} THEN {payload_sql(shape.features, prefix='__f')} END, epoch_us(__at), epoch_us(__known)"


def _packed(turn: _Turn, source: _Source, sql: str, as_of_us: int, counted: _Counted) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a query as the store takes them; looks now and then whether there is room for them."""
    rank = (source.version, as_of_us)
    cursor = source.session.con.execute(sql)
    while rows := cursor.fetchmany(_CHUNK):
        require_room(turn.store, turn.limit_bytes, now_us=turn.now_us)
        _require_nobody_erased(turn, source)
        for key, payload, event, known in rows:
            counted.rows += 1
            counted.gone += payload is None
            known_us = NEVER if known is None else known
            event_us = known_us if event is None else event
            yield key, pack(rank=rank, event_us=event_us, known_us=known_us, written_us=turn.now_us, payload=payload or b"")


def _require_nobody_erased(turn: _Turn, source: _Source) -> None:
    """An erasure looks through the store after its mark: what was read before the mark must not come there afterwards."""
    turn.lake.erasures.check(source.session.con, TableName.parse(turn.view.table))


def _instant(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
