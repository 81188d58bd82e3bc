"""Who was erased, known by keyed hashes alone: a file that brings them again is read without them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from lakehouse.errors import TableNotFound
from lakehouse.privacy.erasure.subject import ERASED_PURPOSE, Subject
from lakehouse.privacy.keys import Key
from lakehouse.privacy.protection import digest_sql, install_digest, protect_sql
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp, Transaction
from lakehouse.tables.erasures import ERASED_SUBJECTS

ERASED_ORIGINALS = "monitoring.erased_originals"
ERASED_ROWS = "monitoring.erased_rows"
_WORD = r"[\pL\pN](?:[\pL\pN_.@+-]*[\pL\pN])?"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A column of a dataset, and the keyed hashes of its values that were erased."""

    column: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowsGone:
    """Rows of a dataset that were taken out of its tables."""

    dataset: str
    raw: int = 0
    quarantine: int = 0


def suppress(lake: Lake, con: duckdb.DuckDBPyConnection, subject: Subject, key: Key, *, erasure: str, stamp: Stamp, now: datetime) -> bool:
    """Refuse the subject's rows from now on; returns whether that is new.

    Raises:
        ConcurrentWrite: other writers never paused.
    """
    fingerprint = subject.fingerprint(key)
    if fingerprint in {one for found in suppressed(lake, con, subject.dataset) for one in found.hashes}:
        return False
    values = ", ".join(map(quote_literal, (erasure, subject.dataset, subject.column, fingerprint, key.id)))
    sql = f"SELECT * FROM (VALUES ({values}, {quote_literal(now)})) AS v(erasure, dataset, column_name, subject, key_id, erased_at)"
    return not lake.append(con, ERASED_SUBJECTS, sql, stamp=stamp, transaction=Transaction(f"erased.{fingerprint}", 1)).skipped


def mark(lake: Lake, con: duckdb.DuckDBPyConnection, *, stamp: Stamp) -> None:
    """Refuse whatever was read up to now and is not written yet; the connection itself begins anew.

    Raises:
        ConcurrentWrite: other writers never paused.
    """
    lake.note(ERASED_SUBJECTS, stamp=stamp)
    lake.erasures.begin(con, again=True)


def suppressed(lake: Lake, con: duckdb.DuckDBPyConnection, dataset: str) -> list[Suppressed]:
    """The columns of a dataset whose values must be looked at; mostly none."""
    try:
        sql = lake.scan_sql(ERASED_SUBJECTS, con=con)
    except TableNotFound:
        return []
    found = con.execute(
        f"SELECT column_name, list(DISTINCT subject ORDER BY subject) FROM ({sql}) WHERE dataset = {quote_literal(dataset)} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [Suppressed(str(column), tuple(hashes)) for column, hashes in found]


def is_erased_sql(dataset: str, found: Iterable[Suppressed], columns: Sequence[str], key: Key) -> str:
    """A condition that holds for rows of an erased subject; the session must have been given the key by `prepare`.

    Args:
        dataset: whose rows they are.
        found: what is suppressed.
        columns: those that the rows have, as clear text or as pseudonyms.
        key: of the home.
    """
    conditions: list[str] = []
    for one in found:
        if one.column not in columns:
            continue
        hashes = ", ".join(map(quote_literal, one.hashes))
        # The subject may have been named by a clear value or by a pseudonym.
        for text in (f"CAST({quote_identifier(one.column)} AS VARCHAR)", protect_sql(quote_identifier(one.column), "pseudonym", key)):
            named = f"{quote_literal(f'{dataset}:{one.column}=')} || {text}"
            conditions.append(f"{digest_sql(named, key, ERASED_PURPOSE)} IN ({hashes})")
    return f"(({' OR '.join(conditions)}) IS TRUE)" if conditions else "false"


def mentions_erased_sql(dataset: str, found: Iterable[Suppressed], text_sql: str, key: Key) -> str:
    """A condition that holds for a text one of whose words names an erased subject."""
    conditions: list[str] = []
    for one in found:
        hashes = ", ".join(map(quote_literal, one.hashes))
        word = f"{quote_literal(f'{dataset}:{one.column}=')} || __word"
        words = f"list_distinct(regexp_extract_all({text_sql}, {quote_literal(_WORD)}))"
        conditions.append(f"list_has_any(list_transform({words}, lambda __word: {digest_sql(word, key, ERASED_PURPOSE)}), [{hashes}])")
    return f"(({' OR '.join(conditions)}) IS TRUE)" if conditions else "false"


def prepare(con: duckdb.DuckDBPyConnection, key: Key) -> None:
    """Give a session what `is_erased_sql` refers to."""
    install_digest(con, key, ERASED_PURPOSE)
    install_digest(con, key, "pseudonym")


def count_rows(lake: Lake, con: duckdb.DuckDBPyConnection, counted: RowsGone, *, attempt: str, stamp: Stamp, now: datetime) -> None:
    """Keep how many rows are about to go: the log still says that they came, and the checks must know where they are.

    Counted once for an attempt, however often it is interrupted.
    """
    values = f"{quote_literal(counted.dataset)}, {counted.raw}::BIGINT, {counted.quarantine}::BIGINT, {quote_literal(now)}"
    sql = f"SELECT * FROM (VALUES ({values})) AS v(dataset, raw_rows, quarantined_rows, erased_at)"
    lake.append(con, ERASED_ROWS, sql, stamp=stamp, transaction=Transaction(f"erased_rows.{attempt}", 1))


def rows_gone(lake: Lake, dataset: str) -> RowsGone:
    """Rows of a dataset that were ingested and erased since."""
    if not lake.exists(ERASED_ROWS):
        return RowsGone(dataset)
    with lake.connect([ERASED_ROWS]) as session:
        found = session.con.execute(
            f"SELECT coalesce(sum(raw_rows), 0)::BIGINT, coalesce(sum(quarantined_rows), 0)::BIGINT FROM {ERASED_ROWS} "
            f"WHERE dataset = {quote_literal(dataset)}"
        ).fetchone()
    return RowsGone(dataset, *found) if found else RowsGone(dataset)


def originals_now(lake: Lake) -> dict[str, str]:
    """What originals hold whose records were emptied: the digest of their content, by place. They keep the name of what they held."""
    if not lake.exists(ERASED_ORIGINALS):
        return {}
    with lake.connect([ERASED_ORIGINALS]) as session:
        newest = f"SELECT archive, arg_max(sha256_now, erased_at) FROM {ERASED_ORIGINALS} GROUP BY archive"
        return dict(session.con.execute(newest).fetchall())
