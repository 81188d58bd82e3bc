"""A PostgreSQL table by its server's log: first the whole table, then what a replication slot tells of it."""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.contracts.databases import SourceTable
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pgoutput import Begin, messages
from lakehouse.ingest.sources.postgres_columns import name_in, wanted_columns
from lakehouse.ingest.sources.postgres_prepared import Prepared, prepared
from lakehouse.ingest.sources.postgres_reading import reading, refused
from lakehouse.ingest.sources.postgres_slot import Slot, Snapshot, lsn_text, opened
from lakehouse.ingest.sources.postgres_types import TableColumn
from lakehouse.ingest.sources.table_changes import Changes, ChangeWriter
from lakehouse.ingest.sources.table_report import SlotReport, TableReport
from lakehouse.ingest.sources.table_rows import Fresh, LookedAt
from lakehouse.ingest.sources.table_state import TableState
from lakehouse.settings import Settings
from lakehouse.tables.session import open_connection

MOST_MESSAGES = 500_000
"""What the server is asked for at once, and a transaction more: it puts them on its disk before it sends them."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a slot was read.

    A transaction counts if it was committed at `lsn` or behind it, and if the first look did not see what it did: that look saw nothing
    of what was committed at `until` or behind it.

    Attributes:
        identity: of server, table and publication.
        snapshot: what the first look saw.
    """

    identity: Mapping[str, Any]
    lsn: int
    snapshot: str
    until: int

    @classmethod
    def of(cls, remembered: Mapping[str, Any] | None) -> "Place | None":
        """From the state."""
        return None if remembered is None else cls(**remembered)

    def as_dict(self) -> dict[str, Any]:
        """For the state."""
        return {"identity": dict(self.identity), "lsn": self.lsn, "snapshot": self.snapshot, "until": self.until}

    def is_known(self) -> Callable[[Begin], bool]:
        """Tells transactions that were read, by the first look or from the slot."""
        snapshot = Snapshot.parse(self.snapshot)

        def is_known(begin: Begin) -> bool:
            return begin.commit_lsn < self.lsn or (begin.commit_lsn < self.until and snapshot.shows(begin.xid))

        return is_known


@dataclass(slots=True)
class ChangesLook:
    """One look, in as many pages as there are pieces; each piece counts by itself."""

    contract: DatasetContract
    source: SourceTable
    state: TableState
    settings: Settings
    now: datetime
    rows: Path
    progress: Callable[[int], None] | None = None
    _pages: list[Path] = field(default_factory=list[Path])
    _read: int = 0
    _fresh: Fresh = field(default_factory=lambda: Fresh(0, 0))
    _truncates: int = 0

    def take(self) -> TableReport:
        """Read what is new, up to where the log ends when this begins.

        Raises:
            SourceError: server, slot or publication are not ready, or have lost what is to be read; pages that appeared stay.
        """
        with opened(self.source, self.settings, again=self._again) as slot:
            place = Place.of(self.state.remembered.replicated)
            ready = prepared(slot, self._wanted, self._key(self._listed) if self._deleted_as else (), again=self._again if place else "")
            if place is None:
                # A slot that can't be read is found out before anything counts.
                slot.peek(slot.end(), 1, self._told)
                if not ready.is_published_before:
                    slot.wait_for_open()
                place = self._whole_table(ready)
            end, confirmed = slot.end(), ready.confirmed
            self._check(ready, place, slot, end)
            is_behind = place.lsn < end
            while True:
                if place.lsn > confirmed:
                    # What counts need not be kept by the server any more; nor what a process has read that was killed here.
                    reached(Point.BEFORE_SLOT)
                    slot.advance(place.lsn)
                    confirmed = place.lsn
                if not is_behind:
                    break
                place, is_behind = self._piece(slot, ready, place, end)
            lag = slot.lag()
        report = SlotReport(str(self.source.slot), lsn_text(place.lsn), lag.bytes, lag.retained_bytes, self._truncates)
        return TableReport(self._name, tuple(self._pages), self._read, self._fresh.rows, self._fresh.gone, replicated=report)

    def _whole_table(self, ready: Prepared) -> Place:
        """The first look: what one transaction sees, and which transactions that one does not."""
        from psycopg import Error

        with reading(self.source, self.settings) as table:
            try:
                row = table.connection.execute(
                    "SELECT pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::bigint"
                ).fetchone()
            except Error as error:
                raise refused(self.source, error) from error
            columns = self._wanted(table.columns)
            count = table.copy(list(columns.values()), None, self.rows, where=ready.where, progress=self.progress)
        if row is None:
            raise SourceError(self._name, "does not say what it shows")
        place = Place(ready.identity, ready.confirmed, str(row[0]), int(str(row[1])))
        with self._session() as con:
            look = LookedAt.stage(con, self.rows, count, columns=columns, key=self._key(columns), known=None, what=f"table {self._name}")
            fresh = look.compare()
            if fresh.rows:
                # Whatever the slot tells later was committed behind it.
                position = (self._position_as, ready.confirmed - 1) if self._position_as else None
                look.write_page(
                    self.state.draft("page"), fresh, order_by=None, deleted_as=self._deleted_as, marks=self._marks(), position=position
                )
            if self._deleted_as:
                look.write_keys(self.state.draft("known"))
        self._count(count, fresh, 0)
        self._advance(place, has_page=bool(fresh.rows))
        return place

    def _piece(self, slot: Slot, ready: Prepared, place: Place, end: int) -> tuple[Place, bool]:
        """The next changes; returns how far they go, and whether there may be more."""
        count = slot.peek(end, MOST_MESSAGES, self._told, progress=self.progress)
        written = self._written(slot, ready, place)
        is_limited = count >= MOST_MESSAGES
        after = replace(place, lsn=max(place.lsn, written.end, 0 if is_limited else end))
        if is_limited and after.lsn == place.lsn:
            raise SourceError(slot.name, "tells the same again and again", found=lsn_text(place.lsn))
        fresh = Fresh(0, 0)
        if written.rows or written.truncates:
            fresh = self._page(ready, written)
        gone = fresh.gone if self._deleted_as else written.deletes
        self._count(written.rows, Fresh(fresh.rows, gone), 0 if self._deleted_as else len(written.truncates))
        has_page = bool(fresh.rows or (fresh.gone and self._deleted_as))
        self._advance(after, has_page=has_page, is_known_new=bool(written.rows or written.truncates))
        return after, is_limited

    def _written(self, slot: Slot, ready: Prepared, place: Place) -> ChangeWriter:
        columns = self._listed
        with self._told.open("rb") as file, self.rows.open("wb") as rows:
            writer = ChangeWriter(
                rows,
                table=ready.table,
                columns=columns,
                key=self._key(columns),
                find=self._found,
                server=slot,
                is_known=place.is_known(),
                tells_gone=bool(self._deleted_as),
                what=slot.name,
                again=self._again,
            )
            try:
                writer.write(messages(file))
            except ValueError as error:
                raise SourceError(slot.name, "tells what can't be understood", found=str(error)) from error
        return writer

    def _page(self, ready: Prepared, written: ChangeWriter) -> Fresh:
        now = self._wanted(ready.columns)
        was = {name: column for layout in written.layouts for name, column in layout.items()}
        # What was dropped since then had values once.
        columns = {name: now.get(name) or was[name] for name in self._listed if name in now or name in was}
        with self._session() as con:
            changes = Changes.stage_changes(
                con,
                self.rows,
                written,
                columns=columns,
                listed=self._listed,
                key=self._key(columns),
                known=self.state.known,
                tells_gone=bool(self._deleted_as),
                is_each=self._is_each,
                what=f"table {self._name}",
            )
            fresh = changes.settle()
            if fresh.rows or (fresh.gone and self._deleted_as):
                changes.write_page(
                    self.state.draft("page"), deleted_as=self._deleted_as, position_as=self._position_as, marks=self._marks()
                )
            if self._deleted_as:
                changes.write_known(self.state.draft("known"))
        return fresh

    def _advance(self, place: Place, *, has_page: bool, is_known_new: bool = True) -> None:
        page = self.state.page_name(self.now) if has_page else None
        is_known_new = is_known_new and self._deleted_as is not None
        appeared = self.state.advance(replicated=place.as_dict(), page=page, is_known_new=is_known_new)
        self._pages += [appeared] if appeared else []

    def _check(self, ready: Prepared, place: Place, slot: Slot, end: int) -> None:
        """Nothing has come between what was read and what the slot tells."""
        for what, was in place.identity.items():
            if ready.identity.get(what) != was:
                problem = {"server": "server", "table": "table"}.get(what, "publication")
                raise SourceError(slot.name, f"is of another {problem} than before: changes may be missing", fix=self._again)
        if ready.confirmed > place.lsn:
            raise SourceError(
                slot.name,
                "was read by somebody else, or made anew: changes are missing",
                expected=lsn_text(place.lsn),
                found=lsn_text(ready.confirmed),
                fix=self._again,
            )
        if place.lsn > end:
            raise SourceError(
                slot.name,
                "ends before what was read: the server was restored",
                expected=lsn_text(place.lsn),
                found=lsn_text(end),
                fix=self._again,
            )

    def _count(self, read: int, fresh: Fresh, truncates: int) -> None:
        self._read += read
        self._fresh = Fresh(self._fresh.rows + fresh.rows, self._fresh.gone + fresh.gone)
        self._truncates += truncates

    def _wanted(self, found: Mapping[str, TableColumn]) -> dict[str, TableColumn]:
        return wanted_columns(self.contract, self.source, found)

    def _found(self, found: Mapping[str, TableColumn]) -> dict[str, str]:
        """The names in the table of the page's columns."""
        wanted = [column for column in self.contract.columns if column.source in self._listed]
        return {column.source: name for column in wanted if (name := name_in(column, found)) is not None}

    @property
    def _listed(self) -> list[str]:
        """All columns that a page may have, but for those that this look makes."""
        made = {self.source.deleted_as, self.source.position_as}
        return [column.source for column in self.contract.columns if column.name not in made]

    @property
    def _is_each(self) -> bool:
        """Each version of a row is another row to the contract."""
        return self.source.position_as in self.contract.primary_key

    @property
    def _name(self) -> str:
        return f"{self.source.name} of {self.source.address}"

    @property
    def _told(self) -> Path:
        """Where the server's messages are put."""
        return self.rows.with_suffix(".changes")

    @property
    def _again(self) -> str:
        return f"Delete {self.state.path}: the whole table is fetched once more, and what the slot tells from now on"

    @property
    def _deleted_as(self) -> str | None:
        return self._in_page(self.source.deleted_as) if self.source.deleted_as else None

    @property
    def _position_as(self) -> str | None:
        return self._in_page(self.source.position_as) if self.source.position_as else None

    def _key(self, columns: Container[str]) -> tuple[str, ...]:
        return tuple(name for name in map(self._in_page, self.contract.primary_key) if name in columns)

    def _in_page(self, name: str) -> str:
        return self.contract.column(name).source

    def _marks(self) -> dict[str, str]:
        """The page's own, that no two are the same content."""
        return {"source": self._name, "look": f"{self.state.remembered.number + 1}", "read_at": self.now.isoformat()}

    @contextmanager
    def _session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = self.settings
        con = open_connection(memory_limit=settings.memory_limit, threads=settings.threads, spill_dir=settings.spill_dir)
        try:
            yield con
        finally:
            con.close()
