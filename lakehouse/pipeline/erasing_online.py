"""One subject out of the online store: rows of the table, rows that were pushed, and what is kept of removed ones.

What a row of the store is of a subject is said by the same manner as of the table that it is from; so both agree afterwards, and a view needn't
be filled anew. A materialization that began before the erasure's mark puts nothing of the subject into a lane that is served: it looks for a
mark before it ends.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.features.online import OnlineStore, ViewState, open_store
from lakehouse.features.online.rows import Packed, Typed, entity_of
from lakehouse.features.online.sqlite_store import SqliteStore
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import Key
from lakehouse.privacy.erasure.identity import manners
from lakehouse.privacy.erasure.rows import Manner
from lakehouse.privacy.erasure.subject import Identifiers, Subject, keyed_hash
from lakehouse.privacy.protection import pseudonym
from lakehouse.settings import Settings
from lakehouse.tables.names import TableName

_CHUNK = 5_000
_UNKNOWN = Manner()
Cells = list[tuple[Typed, Any]]


@dataclass(frozen=True, slots=True)
class ErasedOnline:
    """What was taken out of a view in an online store.

    Attributes:
        store: its address, without credentials.
        view: name of the view.
        rows: that were the subject's, pushed ones included.
        masked: other rows that mentioned them.
    """

    store: str
    view: str
    rows: int
    masked: int


@dataclass(frozen=True, slots=True)
class _Lane:
    """A lane, and how its rows are read; `state` is None where no view says."""

    name: str
    view: str
    state: ViewState | None
    manner: Manner


@dataclass(frozen=True, slots=True)
class _Found:
    """A row that has something of the subject; `masked` is the row without it, None where it has to go."""

    key: bytes
    value: bytes
    is_theirs: bool
    masked: bytes | None


@contextmanager
def online_stores(settings: Settings) -> Iterator[list[OnlineStore]]:
    """Every online store that the home has: the setting's, and the file of a time when another one was set.

    Raises:
        MissingExtra: Redis is set, and its client is not installed.
    """
    store = open_store(settings)
    with closing(store):
        path = settings.home_dir / "online" / "features.db"
        if isinstance(store, SqliteStore):
            yield [store] if path.exists() else []
            return
        with closing(SqliteStore(path)) as older:
            yield [store, older] if path.exists() else [store]


def erase_online(workspace: Workspace, subject: Subject, who: Identifiers, *, dry_run: bool) -> list[ErasedOnline]:
    """Take a subject out of every online store of the home, with what its files keep of removed rows.

    Args:
        workspace: the home.
        subject: who.
        who: by which values they are known.
        dry_run: only look.

    Raises:
        StorageError: a store can't be reached, or others did not let go of its file.
    """
    done: list[ErasedOnline] = []
    with online_stores(workspace.settings) as stores:
        for store in stores:
            counts: dict[str, list[int]] = {}
            for lane in _lanes(workspace, store, subject):
                found = _Search(who, lane).rows(store)
                for part in _chunks(found):
                    count = counts.setdefault(lane.view, [0, 0])
                    count[0] += sum(row.is_theirs for row in part)
                    count[1] += sum(not row.is_theirs for row in part)
                    if not dry_run:
                        _take_out(store, lane, part)
            if not dry_run:
                _clean_states(store, who)
                # Also where nothing was found: what was removed before may be in a log or a free page still.
                store.purge()
            done += [ErasedOnline(store.address, view, *count) for view, count in sorted(counts.items())]
    return done


def left_online(workspace: Workspace, subject: Subject, who: Identifiers) -> list[str]:
    """What online stores have of a subject, or that it can't be said."""

    def look(store: OnlineStore, lane: _Lane) -> int:
        return sum(1 for _ in _Search(who, lane).rows(store))

    return _left(workspace, subject, look)


def hashed_online(workspace: Workspace, subject: Subject, fingerprint: str, key: Key) -> list[str]:
    """The same of a subject of whom only the keyed hash of a column's value is known: `subject` has dataset and column alone."""

    def is_theirs(cell: Any) -> bool:
        text = str(cell)
        named = f"{subject.dataset}:{subject.column}="
        return fingerprint in {keyed_hash(named + one, key) for one in (text, pseudonym(text, key))}

    def look(store: OnlineStore, lane: _Lane) -> int:
        if lane.state is None or not lane.manner.shares_columns:
            return 0
        columns = [*lane.state.entity, *lane.state.features]
        if subject.column not in {column.name for column in columns}:
            return 0
        found = 0
        for key_, value in store.scan(lane.name):
            cells = _cells(lane.state, key_, Packed.of(value).payload) or []
            found += any(is_theirs(cell) for column, cell in cells if column.name == subject.column and cell is not None)
        return found

    return _left(workspace, subject, look)


def _left(workspace: Workspace, subject: Subject, look: Callable[[OnlineStore, _Lane], int]) -> list[str]:
    found: list[str] = []
    try:
        with online_stores(workspace.settings) as stores:
            for store in stores:
                counts: dict[str, int] = {}
                for lane in _lanes(workspace, store, subject):
                    if rows := look(store, lane):
                        counts[lane.view] = counts.get(lane.view, 0) + rows
                found += [f"online store {store.address}: {view}: {rows} rows" for view, rows in sorted(counts.items())]
    except LakehouseError as error:
        found.append(f"{error.subject}: {error.problem}: it can't be said what it has")
    return found


def _lanes(workspace: Workspace, store: OnlineStore, subject: Subject) -> list[_Lane]:
    """Every lane, those that no view is served from included: somebody may have died while filling one."""
    plan = manners(workspace.lake, workspace.contracts, subject)
    states = {view: ViewState.of(text) for view, text in store.states().items()}
    lanes: list[_Lane] = []
    for name in store.lanes():
        view = name.rpartition("/")[0]
        state = states.get(view)
        manner = plan.get(TableName.parse(state.table), _UNKNOWN) if state is not None else _UNKNOWN
        lanes.append(_Lane(name, view, state, manner))
    return lanes


def _take_out(store: OnlineStore, lane: _Lane, rows: Sequence[_Found]) -> None:
    store.remove(lane.name, [(row.key, row.value) for row in rows])
    store.put(lane.name, [(row.key, row.masked) for row in rows if row.masked is not None])
    if any(row.masked is None and not row.is_theirs for row in rows):
        # The table has the row under another key now: the whole view is written next time.
        _fill_anew(store, lane.view)


def fill_anew(workspace: Workspace, tables: Iterable[str]) -> None:
    """Have views over these tables written anew next time: their past was rewritten, and doesn't tell what has gone.

    Raises:
        StorageError: a store can't be reached.
    """
    rewritten = set(tables)
    with online_stores(workspace.settings) as stores:
        for store in stores if rewritten else ():
            for view, text in store.states().items():
                state = ViewState.of(text)
                if state is not None and state.table in rewritten:
                    _fill_anew(store, view)


def _fill_anew(store: OnlineStore, view: str) -> None:
    _change_state(store, view, lambda state: replace(state, identity=""))


def _clean_states(store: OnlineStore, who: Identifiers) -> None:
    """Why a view is not served names one entity that differed."""
    needles = [*who.words, *(value for values in who.columns.values() for value in values)]

    def cleaned(state: ViewState) -> ViewState:
        is_named = state.blocked is not None and any(needle in state.blocked for needle in needles)
        return replace(state, blocked="entities differed from their table") if is_named else state

    for view in store.states():
        _change_state(store, view, cleaned)


def _change_state(store: OnlineStore, view: str, change: Callable[[ViewState], ViewState]) -> None:
    """Change what a store knows of a view, whatever somebody else does to it meanwhile."""
    while (state := ViewState.of(text := store.states().get(view))) is not None:
        if (new := change(state)) == state or store.replace_state(view, new.as_text(), expected=text):
            return


def _chunks(rows: Iterator[_Found]) -> Iterator[list[_Found]]:
    part: list[_Found] = []
    for row in rows:
        part.append(row)
        if len(part) == _CHUNK:
            yield part
            part = []
    if part:
        yield part


class _Search:
    """Looks for a subject in a lane."""

    def __init__(self, who: Identifiers, lane: _Lane) -> None:
        self._who, self._lane = who, lane
        self._columns = {name.casefold(): values for name, values in who.columns.items()} if lane.manner.shares_columns else {}
        texts = {*who.words, *(value for values in self._columns.values() for value in values)}
        # Most rows have none of these bytes and needn't be taken apart.
        self._needles = tuple({form for text in texts for form in _forms(text)})

    def rows(self, store: OnlineStore) -> Iterator[_Found]:
        """The rows that have something of them."""
        for key, value in store.scan(self._lane.name) if self._needles else ():
            if any(needle in key or needle in value for needle in self._needles):
                found = self._judged(key, value)
                if found is not None:
                    yield found

    def _judged(self, key: bytes, value: bytes) -> _Found | None:
        state, payload = self._lane.state, Packed.of(value).payload
        cells = _cells(state, key, payload) if state is not None else None
        if state is None or cells is None:
            # Of a lane that nobody can read only the words tell.
            return _Found(key, value, is_theirs=True, masked=None) if any(map(self._who.in_bytes.search, (key, payload))) else None
        if self._is_theirs(cells):
            return _Found(key, value, is_theirs=True, masked=None)
        entity = cells[: len(state.entity)]
        if any(isinstance(cell, str) and self._who.mentioned_in(cell) for _, cell in entity):
            return _Found(key, value, is_theirs=False, masked=None)
        if not self._who.mentioned_in(payload.decode()):
            return None
        masked = json.dumps(
            [_masked(cell, self._who) for _, cell in cells[len(state.entity) :]], ensure_ascii=False, separators=(",", ":")
        ).encode()
        return _Found(key, value, is_theirs=False, masked=value[: len(value) - len(payload)] + masked) if masked != payload else None

    def _is_theirs(self, cells: Cells) -> bool:
        names = {column.name for column, _ in cells}
        if any(cell is not None and str(cell) in self._columns.get(column.name.casefold(), ()) for column, cell in cells):
            return True
        manner = self._lane.manner
        if not manner.whole_cells or (manner.shares_columns and self._who.main in names):
            return False
        return any(column.type == "VARCHAR" and cell in self._who.words for column, cell in cells)


def _cells(state: ViewState, key: bytes, payload: bytes) -> Cells | None:
    """The entity's columns and the features of a row; None where they are not those that the view has now."""
    entity = entity_of(state.entity, key)
    features: list[Any] = json.loads(payload) if payload else [None] * len(state.features)
    if entity is None or len(features) != len(state.features):
        return None
    return [*zip(state.entity, entity, strict=True), *zip(state.features, features, strict=True)]


def _masked(value: Any, who: Identifiers) -> Any:
    if isinstance(value, str):
        return who.masked(value)
    if isinstance(value, list):
        return [_masked(one, who) for one in value]
    if isinstance(value, Mapping):
        return {who.masked(name): _masked(one, who) for name, one in value.items()}
    return value


def _forms(text: str) -> tuple[bytes, ...]:
    """A text as a key has it, and as JSON has it."""
    return (text.encode("utf-8", "surrogatepass"), json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"))
