"""A PostgreSQL table, looked at again and again: what is new or changed becomes a page in a landing folder."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lakehouse.contracts import DatasetContract
from lakehouse.contracts.databases import SourceTable
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pages import only_reader
from lakehouse.ingest.sources.postgres_changes import ChangesLook
from lakehouse.ingest.sources.postgres_columns import wanted_columns
from lakehouse.ingest.sources.postgres_reading import Reading, Since, reading
from lakehouse.ingest.sources.postgres_types import TableColumn
from lakehouse.ingest.sources.table_report import TableReport
from lakehouse.ingest.sources.table_rows import LookedAt
from lakehouse.ingest.sources.table_state import Remembered, TableState
from lakehouse.settings import Settings
from lakehouse.tables.session import open_connection
from lakehouse.tables.spill import own_folder

OVERLAP_S = 3600.0
OVERLAP_NUMBERS = 10_000.0
# The clock of who wrote a time without a zone may stand anywhere on earth.
_ZONES = timedelta(hours=14)


def postgres_rows(
    contract: DatasetContract,
    source: SourceTable,
    out: Path,
    *,
    settings: Settings,
    now: datetime,
    progress: Callable[[int], None] | None = None,
) -> TableReport:
    """Write the rows that are new or changed since the last look as one Parquet page into `out`.

    With a slot the whole table is read once, and from then on what the server's log tells of it: every insert, update and delete.

    With a watermark the server is asked for what is not older than the newest one seen, less the overlap; rows that were seen are left
    out. Without one it is asked for the whole table, and compared with the last time.

    A look counts when its state is saved, and the page appears right after: killed at any instant and started again, every change is in
    exactly one page. Memory does not grow with the table; the disk under `<home>/tmp` holds one copy of what the server sends.

    Args:
        contract: says which columns are wanted; nothing else leaves the database.
        source: one of its databases.
        out: landing folder of the pages.
        settings: user, password, memory.
        now: names the page.
        progress: called with the number of bytes that came since the last call.

    Raises:
        SourceError: the server can't be reached or refuses, the table or a column is missing or has a type that can't be kept, or another
            process reads it; nothing was written.
    """
    state = TableState(out, source.slug)
    out.mkdir(parents=True, exist_ok=True)
    with only_reader(state.path, f"{source.name} of {source.address}"):
        remembered = state.open(_identity(source))
        rows = own_folder(settings.spill_dir) / f"table-{secrets.token_hex(8)}.csv"
        try:
            if source.slot is not None:
                return ChangesLook(contract, source, state, settings, now, rows, progress).take()
            with reading(source, settings) as table:
                columns = wanted_columns(contract, source, table.columns)
                since = _since(contract, source, columns, remembered)
                count = table.copy(list(columns.values()), since, rows, progress=progress)
            return _Look(contract, source, state, settings, table, columns).taken(rows, count, now)
        finally:
            for ending in (".csv", ".parquet", ".changes"):
                rows.with_suffix(ending).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look, from the rows that came to the page that appears."""

    contract: DatasetContract
    source: SourceTable
    state: TableState
    settings: Settings
    table: Reading
    columns: Mapping[str, TableColumn]

    def taken(self, rows: Path, count: int, now: datetime) -> TableReport:
        source, state = self.source, self.state
        name = f"{source.name} of {source.address}"
        settings = self.settings
        con = open_connection(memory_limit=settings.memory_limit, threads=settings.threads, spill_dir=settings.spill_dir)
        try:
            key = self._key() if source.watermark is None else ()
            look = LookedAt.stage(con, rows, count, columns=self.columns, key=key, known=state.known, what=f"table {name}")
            fresh = look.compare()
            watermark = self._watermark(look)
            is_shown = bool(fresh.rows or (fresh.gone and source.deleted_as))
            if not is_shown and not fresh.gone and watermark == state.remembered.watermark and state.known:
                return TableReport(name, (), count, 0, 0, watermark)
            page = None
            if is_shown:
                page = state.page_name(now)
                # Rows that change back make the same rows again: the page's own marks make it another content.
                marks = {"source": name, "look": f"{state.remembered.number + 1}", "read_at": self.table.now.isoformat()}
                order_by = self._in_page(source.watermark) if source.watermark else None
                look.write_page(state.draft("page"), fresh, order_by=order_by, deleted_as=self._deleted_as(), marks=marks)
            overlap = overlap_of(source, self.columns[self._in_page(source.watermark)]) if source.watermark else 0.0
            look.write_known(
                state.draft("known"),
                watermark=self._in_page(source.watermark) if source.watermark else None,
                newest=watermark,
                overlap=overlap,
            )
            appeared = state.advance(watermark=watermark, page=page)
            return TableReport(name, (appeared,) if appeared else (), count, fresh.rows, fresh.gone, watermark)
        finally:
            con.close()

    def _watermark(self, look: LookedAt) -> str | None:
        """The newest watermark seen, and nothing from the future: believing it would hide everything until then."""
        if self.source.watermark is None:
            return None
        name = self._in_page(self.source.watermark)
        newest, before = look.newest(name), self.state.remembered.watermark
        if newest is None:
            return before
        if self.columns[name].is_time:
            newest = look.chosen("least", newest, self._latest(name), name)
        return newest if before is None else look.chosen("greatest", newest, before, name)

    def _latest(self, name: str) -> str:
        now = self.table.now.astimezone(UTC).replace(tzinfo=None)
        if self.columns[name].kept == "TIMESTAMP WITH TIME ZONE":
            return f"{now.isoformat()}+00"
        return f"{(now + _ZONES).isoformat()}"

    def _key(self) -> tuple[str, ...]:
        return tuple(self._in_page(name) for name in self.contract.primary_key if self._in_page(name) in self.columns)

    def _in_page(self, name: str) -> str:
        return self.contract.column(name).source

    def _deleted_as(self) -> str | None:
        return self._in_page(self.source.deleted_as) if self.source.deleted_as else None


def overlap_of(source: SourceTable, column: TableColumn) -> float:
    """How far behind the newest watermark a look begins: the contract's, or an hour, or ten thousand numbers."""
    if source.overlap is not None:
        return source.overlap
    return OVERLAP_S if column.is_time else OVERLAP_NUMBERS


def _since(contract: DatasetContract, source: SourceTable, columns: Mapping[str, TableColumn], remembered: Remembered) -> Since | None:
    if source.watermark is None:
        return None
    column = columns.get(contract.column(source.watermark).source)
    if column is None or not column.can_be_watermark:
        raise SourceError(
            f"watermark {source.watermark} of {source.name}",
            "has no order that a look could follow",
            expected="a date, a timestamp or a whole number",
            found=column.declared if column else "no such column",
            fix="Choose another column, or leave lakehouse.watermark out: the whole table is compared then",
        )
    if remembered.watermark is None:
        return None
    return Since(column, remembered.watermark, overlap_of(source, column))


def _identity(source: SourceTable) -> dict[str, object]:
    """What makes it another history when it changes; the overlap and who reads it do not."""
    ignored = {"overlap", "user", "sslmode", "schedule", "position_as"}
    # Of a slot's table, the keys that are there are remembered from the beginning or not at all.
    ignored |= {"deleted_as"} if source.slot is None else set()
    return {name: value for name, value in asdict(source).items() if name not in ignored}
