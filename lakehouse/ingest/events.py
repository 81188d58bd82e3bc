"""A quarantined row as a decision leaves it: the row once more, under the decision's batch, with who decided what and when."""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from lakehouse.ingest.waiting import RowStatus
from lakehouse.sql import quote_literal

EVENTS_TABLE = "__decided_rows"


@dataclass(frozen=True, slots=True)
class Author:
    """Who decides, in which run, when, and why if they say so."""

    name: str
    run: str
    now: datetime
    note: str = ""


def event_sql(
    author: Author, number: int, *, status: RowStatus, attempts: str, history: str, judged: str = "", record: str = "record"
) -> str:
    """The SELECT list of a quarantined row as a decision leaves it; `judged` is the alias of what it breaks now."""
    found = ", ".join([f"{record} AS record", *(f"{judged}.{name}" if judged else name for name in ("level", "rules", "reasons"))])
    own = f"{judged and 'w.'}"
    return (
        f"SELECT {number}::BIGINT AS _batch, {own}_file AS _file, {own}_sha256 AS _sha256, {own}_row AS _row, "
        f"{own}_ingested_at AS _ingested_at, {found}, {quote_literal(status)} AS status, {attempts} AS attempts, "
        f"{quote_literal(author.now)} AS changed_at, {quote_literal(author.name)} AS changed_by, {history} AS history, "
        f"{own}_arrival AS _arrival"
    )


def discard_chosen(con: duckdb.DuckDBPyConnection, chosen: str, *, number: int, author: Author) -> list[dict[str, object]]:
    """Fill EVENTS_TABLE with the rows of a table, discarded; returns how many of each file."""
    history = history_sql(author, batch=number, action="'discarded'")
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {EVENTS_TABLE} AS "
        f"{event_sql(author, number, status='discarded', attempts='attempts', history=history)} FROM {chosen}"
    )
    counts = con.execute(f"SELECT _file, _sha256, count(*) FROM {EVENTS_TABLE} GROUP BY ALL ORDER BY 2").fetchall()
    return [{"file": file, "sha256": digest, "discarded": rows} for file, digest, rows in counts]


def history_sql(author: Author, *, batch: int, action: str, before: str = "NULL", after: str = "NULL", history: str = "history") -> str:
    """SQL of a row's history with one entry more: who did what when, and what they changed.

    Args:
        author: who.
        batch: the decision's.
        action: what, as SQL.
        before: SQL of a JSON object of the changed values as they were, by column.
        after: the same as they are now.
        history: the column.
    """
    entry = (
        f"json_object('at', {quote_literal(author.now.isoformat())}, 'by', {quote_literal(author.name)}, "
        f"'run', {quote_literal(author.run)}, 'batch', {batch}, 'action', {action}, "
        f"'note', {quote_literal(author.note or None)}, 'before', CAST({before} AS JSON), 'after', CAST({after} AS JSON))::VARCHAR"
    )
    return f"CASE WHEN {history} IS NULL THEN '[' || {entry} || ']' ELSE left({history}, -1) || ',' || {entry} || ']' END"
