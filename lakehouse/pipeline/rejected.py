"""Quarantined rows: how many by rule, and the rows themselves."""

import difflib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from lakehouse.contracts import DatasetContract
from lakehouse.errors import QueryError
from lakehouse.ingest.known import files_of
from lakehouse.ingest.topic_pages import PageNotes, TopicPage
from lakehouse.ingest.waiting import Selection, current_rows_sql
from lakehouse.tables import Lake, TableName

WAITING = Selection()
ANY = Selection(status=None)
_ROWS = "__quarantined"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RuleCount:
    """Rows that broke one rule, and one reason as it was given; `oldest` is when the first of them arrived."""

    rule: str
    rows: int
    example: str | None
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class QuarantineCount:
    """Quarantined rows of one dataset. A row that broke several rules counts once here and under each rule.

    Attributes:
        rows: those that were asked for: where nothing else is said, those that wait.
        oldest: when the first of them arrived.
        replayed: rows that a later contract or a correction brought into raw.
        discarded: rows that somebody decided to leave out.
    """

    rows: int
    rules: tuple[RuleCount, ...]
    oldest: datetime | None = None
    replayed: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class TopicMessage:
    """Where in a topic a row was."""

    topic: str
    partition: int
    offset: int

    def as_dict(self) -> dict[str, object]:
        """As JSON types."""
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """One row as it is now, and why it was not accepted.

    Attributes:
        record: as it arrived, or as somebody corrected it, by the names of the file; text for a line that was no row.
        attempts: how often it was judged, ingestion included.
        history: what was decided, oldest first: at, by, run, batch, action, note, before, after.
        message: where it was, if it came from a topic.
    """

    file: str
    sha256: str
    row: int
    batch: int
    ingested_at: datetime
    level: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    status: str
    record: Any
    attempts: int = 1
    changed_at: datetime | None = None
    changed_by: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    message: TopicMessage | None = None


def count_by_rule(lake: Lake, selection: Selection = WAITING, *, dataset: str | None = None) -> Mapping[str, QuarantineCount]:
    """Quarantined rows of every dataset (or of one) that has any, by rule, most frequent first."""
    counts: dict[str, QuarantineCount] = {}
    tables = [TableName("quarantine", dataset)] if dataset else [table for table in lake.tables() if table.layer == "quarantine"]
    for table in tables:
        if not lake.exists(table):
            continue
        con = lake.open_connection()
        try:
            con.execute(f"CREATE TEMP VIEW {_ROWS} AS {current_rows_sql(lake, table.name, con=con)}")
            found = con.execute(
                f"SELECT count_if({selection.condition}), min(_ingested_at) FILTER ({selection.condition}), "
                f"count_if(status = 'replayed'), count_if(status = 'discarded'), count(*) FROM {_ROWS}"
            ).fetchone()
            if not found or not found[4]:
                continue
            rules = con.execute(
                "SELECT rule, count(*), arg_min(reason, (_batch, _file, _row)), min(_ingested_at) FROM (SELECT _batch, _file, _row, "
                f"_ingested_at, unnest(rules) AS rule, unnest(reasons) AS reason FROM {_ROWS} WHERE {selection.condition}) "
                "GROUP BY rule ORDER BY 2 DESC, 1"
            ).fetchall()
        finally:
            con.close()
        counts[table.name] = QuarantineCount(found[0], tuple(RuleCount(*row) for row in rules), *found[1:4])
    return counts


def check_rule(lake: Lake, contract: DatasetContract, rule: str) -> None:
    """Refuse a rule that neither the contract has nor any quarantined row broke under an earlier contract.

    Raises:
        QueryError: with the rules there are.
    """
    from lakehouse.ingest.limits import rule_ids

    counted = count_by_rule(lake, ANY, dataset=contract.name).get(contract.name)
    broken = [one.rule for one in counted.rules] if counted else []
    known = list(dict.fromkeys([*broken, *rule_ids(contract)]))
    if rule in known:
        return
    close = difflib.get_close_matches(rule, known, n=1)
    first = f"Did you mean {close[0]}? " if close else ""
    raise QueryError(
        f"rule {rule}",
        f"is no rule of {contract.name}",
        expected=f"one of {', '.join(known)}",
        fix=f"{first}Most rows broke {', '.join(broken[:_SHOWN])}" if broken else f"{first}No row of {contract.name} is in quarantine",
    )


def quarantined_rows(lake: Lake, dataset: str, *, selection: Selection = ANY, limit: int) -> list[QuarantinedRow]:
    """Quarantined rows of a dataset, newest batch first, in file order."""
    if not lake.exists(f"quarantine.{dataset}"):
        return []
    con = lake.open_connection()
    try:
        rows = con.execute(
            "SELECT _file, _sha256, _row, _batch, _ingested_at, level, rules, reasons, status, record, attempts, changed_at, changed_by, "
            f"history FROM ({current_rows_sql(lake, dataset, con=con)}) WHERE {selection.condition} "
            f"ORDER BY _batch DESC, _file, _row LIMIT {int(limit)}"
        ).fetchall()
    finally:
        con.close()
    pages = _pages(lake, dataset, {digest for file, digest, *_ in rows if TopicPage.of(file)})
    return [
        QuarantinedRow(
            file, digest, row, batch, at, level, tuple(rules or ()), tuple(reasons or ()), status, _parsed(record),
            attempts, changed_at, changed_by, tuple(_parsed(history) or ()), pages[digest](row) if digest in pages else None,
        )
        for file, digest, row, batch, at, level, rules, reasons, status, record, attempts, changed_at, changed_by, history in rows
    ]  # fmt: skip


def _pages(lake: Lake, dataset: str, digests: set[str]) -> dict[str, Callable[[int], TopicMessage]]:
    """Of pages of a topic, where a row of theirs was; raw's log says it."""
    found: dict[str, Callable[[int], TopicMessage]] = {}
    for file in (file for commit in (lake.history(f"raw.{dataset}") if digests else ()) for file in files_of(commit)):
        page = TopicPage.of(str(file["file"]))
        if file["sha256"] in digests and page is not None:
            found[str(file["sha256"])] = partial(_message, page, PageNotes.read(file))
    return found


def _message(page: TopicPage, notes: PageNotes, row: int) -> TopicMessage:
    return TopicMessage(page.slug, page.partition, notes.offset_of(page, row))


def _parsed(record: str | None) -> Any:
    with suppress(ValueError, TypeError):
        return json.loads(record or "null")
    return record
