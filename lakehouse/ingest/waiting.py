"""Quarantined rows as they are now: which count, and which of them somebody asks for."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import duckdb

from lakehouse.ingest.dead import counted_condition
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake
from lakehouse.tables.sources import inner

RowStatus = Literal["waiting", "replayed", "discarded"]
STATUSES: tuple[RowStatus, ...] = ("waiting", "replayed", "discarded")

_COLUMNS = {
    "_batch": "BIGINT",
    "_file": "VARCHAR",
    "_sha256": "VARCHAR",
    "_row": "BIGINT",
    "_ingested_at": "TIMESTAMP WITH TIME ZONE",
    "record": "VARCHAR",
    "level": "VARCHAR",
    "rules": "VARCHAR[]",
    "reasons": "VARCHAR[]",
    "status": "VARCHAR",
    "attempts": "INTEGER",
    "changed_at": "TIMESTAMP WITH TIME ZONE",
    "changed_by": "VARCHAR",
    "history": "VARCHAR",
    "_arrival": "BIGINT",
}
_DEFAULTS = {"attempts": "1", "_arrival": "_batch"}
IS_LINE = "(coalesce(list_contains(rules, 'record.shape'), false) OR coalesce(json_type(try_cast(record AS JSON)), '') <> 'OBJECT')"
"""SQL: the record is no object by its columns, but a line that could not be split into them."""
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which quarantined rows are meant: those that satisfy all that is not None.

    Attributes:
        file: the name it arrived under, or its digest (at least eight digits of it).
        since: arrived at this instant or later.
        until: arrived before this instant.
        batch: the batch in which they arrived, or that decided on them last.
        status: None means any.
    """

    file: str | None = None
    rule: str | None = None
    level: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    batch: int | None = None
    status: RowStatus | None = "waiting"

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the status is asked for."""
        return any(one is not None for one in (self.file, self.rule, self.level, self.since, self.until, self.batch))

    @property
    def condition(self) -> str:
        """SQL over the columns of `current_rows_sql`."""
        conditions: list[str] = []
        if self.file is not None:
            named = f"_file = {quote_literal(self.file)}"
            conditions.append(f"({named} OR starts_with(_sha256, {quote_literal(self.file)}))" if _DIGEST.fullmatch(self.file) else named)
        if self.rule is not None:
            conditions.append(f"list_contains(rules, {quote_literal(self.rule)})")
        if self.level is not None:
            conditions.append(f"level = {quote_literal(self.level)}")
        if self.since is not None:
            conditions.append(f"_ingested_at >= {quote_literal(_in_utc(self.since))}")
        if self.until is not None:
            conditions.append(f"_ingested_at < {quote_literal(_in_utc(self.until))}")
        if self.batch is not None:
            conditions.append(f"(_arrival = {int(self.batch)} OR _batch = {int(self.batch)})")
        if self.status is not None:
            conditions.append(f"status = {quote_literal(self.status)}")
        return " AND ".join(conditions) or "true"


def current_rows_sql(lake: Lake, dataset: str, *, con: duckdb.DuckDBPyConnection, up_to: int | None = None) -> str:
    """A SELECT of every quarantined row of a dataset as the newest batch that counts left it.

    A batch that died before its raw commit, or is under way, may have rows between them: they do not count.

    Args:
        lake: holds the tables.
        dataset: its name; its quarantine table exists.
        con: on which the SELECT will run.
        up_to: leave out what batches after this one did.
    """
    raw, quarantine = f"raw.{dataset}", f"quarantine.{dataset}"
    counted = counted_condition(lake.history(raw) if lake.exists(raw) else (), lake.history(quarantine))
    snapshot = lake.snapshot(quarantine)
    present = {column.name for column in snapshot.columns}
    # Tables of earlier versions of this project know nothing of decisions.
    columns = [_column(name, kind, is_there=name in present) for name, kind in _COLUMNS.items()]
    until = f" AND _batch <= {int(up_to)}" if up_to is not None else ""
    return (
        f"SELECT {', '.join(columns)} FROM {inner(snapshot.scan_sql(con))} WHERE {counted}{until} "
        "QUALIFY row_number() OVER (PARTITION BY _sha256, _row ORDER BY _batch DESC) = 1"
    )


def _column(name: str, kind: str, *, is_there: bool) -> str:
    quoted, default = quote_identifier(name), _DEFAULTS.get(name)
    if is_there:
        return f"coalesce({quoted}, {default}) AS {quoted}" if default else quoted
    return f"CAST({default or 'NULL'} AS {kind}) AS {quoted}"


def _in_utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def pointer(name: str) -> str:
    """The JSON pointer of a column in a record."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
