"""Decisions on quarantined rows: replayed, discarded. Each is a batch, and counts by the same two commits as one of ingestion.

1. The rows that are decided on are chosen among those that count up to raw's newest batch.
2. They are written to quarantine once more, as they are now, under the next batch number.
3. Accepted rows are committed to raw under this number, with their origin; a discard commits none. **The raw commit is the moment the
   decision counts**; it is made only if no batch came in since the first step. Otherwise: back to the first step.
4. The rows as they were before are removed from quarantine.

Who dies before 3 has decided nothing: what it wrote is removed by whoever comes next. Who dies after 3 has decided everything, and 4
is done by whoever comes next. Two decisions on one row exclude each other, and so do a decision and an ingestion that replaces its file.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ErasedMeanwhile
from lakehouse.ingest.dead import remove_dead, taken_back_if_superseded
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.events import EVENTS_TABLE, Author
from lakehouse.ingest.known import KnownFiles, app_id
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.restoring import follow_restore
from lakehouse.ingest.waiting import Selection, current_rows_sql
from lakehouse.tables import Lake, Stamp, Transaction
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.sources import inner
from lakehouse.tables.writing import Written

_CURRENT = "__current_rows"


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision came to: rows in EVENTS_TABLE, data files of raw, and what the commits say of each file."""

    written: list[Written]
    changes: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision that counts: its batch and raw's version with it."""

    batch: int
    version: int


Decide = Callable[[duckdb.DuckDBPyConnection, int, PiecewiseAppend], "Decided | None"]


def decide(lake: Lake, contract: DatasetContract, known: KnownFiles, decide_rows: Decide, *, author: Author) -> Decision | None:
    """Choose, decide and commit, until no other batch came in between; None where there was nothing to decide.

    Args:
        lake: holds raw and quarantine.
        contract: of the dataset.
        known: the index of its log.
        decide_rows: fills EVENTS_TABLE under the given batch number, from rows that `choose_rows` gives.
        author: recorded in the commits.

    Raises:
        ConcurrentWrite: other processes wrote to the dataset without pause.
    """
    attempt = 1
    while True:
        con = lake.open_connection()
        try:
            after = lake.transaction(contract.raw, app_id(contract))
            known.catch_up()
            if after is None:
                return None
            if known.is_restored():
                follow_restore(lake, contract, run=author.run)
            number = 1 + max(after, lake.transaction(contract.quarantine, app_id(contract)) or 0)
            pieces = PiecewiseAppend(lake, contract.raw, app_id=app_id(contract), after=after)
            _choose_from(lake, con, contract, after=after)
            decided = decide_rows(con, number, pieces)
            if decided is None:
                return None
            made = _commit(lake, con, contract, decided, number=number, pieces=pieces, author=author)
            reached(Point.MID_REPLAY)
            remove_dead(lake, con, contract, known, run=author.run)
            return made
        except (Superseded, ErasedMeanwhile):
            wait_after_conflict(contract.raw, attempt, undone="nothing was decided")
            attempt += 1
        finally:
            con.close()


def choose_rows(con: duckdb.DuckDBPyConnection, table: str, selection: Selection, *, also: str = "true") -> int:
    """Make a table of the rows that a selection means; inside of `decide_rows` only. Returns their number."""
    made = con.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM {_CURRENT} WHERE {selection.condition} AND ({also})"
    ).fetchone()
    return int(made[0]) if made else 0


def _choose_from(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, *, after: int) -> None:
    con.execute(f"CREATE OR REPLACE TEMP VIEW {_CURRENT} AS {current_rows_sql(lake, contract.name, con=con, up_to=after)}")


def _commit(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    decided: Decided,
    *,
    number: int,
    pieces: PiecewiseAppend,
    author: Author,
) -> Decision:
    source = {"batch": number, "attempt": uuid.uuid4().hex, "by": author.name, "note": author.note, "changes": decided.changes}
    stamp = Stamp(asset=contract.quarantine, run=author.run, code=contract.digest, source=source)
    try:
        made = lake.append(
            con, contract.quarantine, f"SELECT * FROM {EVENTS_TABLE}", stamp=stamp, transaction=Transaction(app_id(contract), number)
        )
        if made.skipped:
            raise Superseded(contract.quarantine)
        reached(Point.QUARANTINE_COMMITTED)
        with taken_back_if_superseded(lake, con, contract, number, run=author.run):
            commit = pieces.commit(
                con,
                decided.written,
                empty_sql=f"SELECT * FROM {inner(lake.scan_sql(contract.raw, con=con))} WHERE false",
                batch=number,
                stamp=Stamp(asset=contract.raw, run=author.run, code=contract.digest, source=source),
            )
    except BaseException:
        pieces.discard(decided.written)
        raise
    return Decision(number, commit.version)
