"""Quarantined rows that do not count: their batch died before its raw commit, or is still under way; or a later batch decided on them.

Raw takes a batch only on condition that no other came in between. So once raw's newest batch has the number of a quarantined one,
or a later one, that batch is decided: it counts if raw's log has it under this number with the same mark, or its rows are dead. The
number alone does not tell: two processes may choose the same one, and a batch without bad rows writes nothing to quarantine.
A process whose batch came too late knows it first, and takes its rows back.

A batch that decides on rows of earlier ones (a replay, a discard, a file that replaces another) writes them again as they are now;
the newest that counts is the row. The older ones are removed once the batch is in raw, by its process or by whoever comes next.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.errors import ErasedMeanwhile
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.known import KnownFiles, app_id, batch_of, changes_of, mark_of
from lakehouse.tables import CommitInfo, Lake, Stamp, in_force
from lakehouse.tables.sources import inner

_MOVED = "__moved_rows"


def remove_dead(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, known: KnownFiles, *, run: str) -> list[int]:
    """Remove the quarantined rows that no longer count, whichever process left them; returns the numbers of the dead batches.

    Looks at the commits to quarantine since the last look, so it costs as much as there is new.

    Args:
        lake: holds raw and quarantine.
        con: used where rows are removed.
        contract: of the dataset.
        known: remembers how far this was done.
        run: recorded in the commit.
    """
    commits = known.quarantined_since_last_look()
    # Before the index is brought up to date: a batch that is committed meanwhile must be undecided, not unknown.
    decided = lake.transaction(contract.raw, app_id(contract)) if commits else None
    if decided is None:
        return []
    known.catch_up()
    dead: list[int] = []
    moving: list[int] = []
    looked_at: CommitInfo | None = None
    for commit in commits:
        number = batch_of(commit)
        if number is not None and number > decided:
            break
        looked_at = commit
        if number is None:
            continue
        if known.mark_of_batch(number) != mark_of(commit):
            dead.append(number)
        elif changes_of(commit):
            moving.append(number)
    _remove(lake, con, contract, dead, moving, run=run)
    if looked_at is not None:
        known.remember_look(looked_at)
    return dead


@contextmanager
def taken_back_if_superseded(
    lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, number: int, *, run: str
) -> Generator[None]:
    """Remove the rows that a batch wrote to quarantine if its raw commit came too late; until then nobody else can know that they are dead.

    Args:
        lake: holds quarantine.
        con: used to remove them.
        contract: of the dataset.
        number: of the batch; no other one has rows under it there.
        run: recorded in the commit.
    """
    try:
        yield
    except (Superseded, ErasedMeanwhile):
        _remove(lake, con, contract, [number], [], run=run)
        raise


def _remove(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, dead: list[int], moving: list[int], *, run: str) -> None:
    conditions: list[str] = []
    if dead:
        conditions.append(f"_batch IN ({_numbers(dead)})")
    if moving:
        scan = lake.scan_sql(contract.quarantine, con=con)
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {_MOVED} AS SELECT _sha256, _row, max(_batch) AS newest FROM {inner(scan)} "
            f"WHERE _batch IN ({_numbers(moving)}) GROUP BY _sha256, _row"
        )
        conditions.append(f"EXISTS (SELECT 1 FROM {_MOVED} m WHERE m._sha256 = t._sha256 AND m._row = t._row AND t._batch < m.newest)")
    if conditions:
        lake.delete(
            con,
            contract.quarantine,
            " OR ".join(conditions),
            within={"_batch": (0 if moving else min(dead), max(dead + moving))},
            stamp=Stamp(asset=contract.quarantine, run=run, code="remove what no longer counts"),
        )


def counted_condition(raw: Iterable[CommitInfo], quarantine: Iterable[CommitInfo]) -> str:
    """SQL that holds for the rows of a quarantine table whose batch counts, whatever is still to be removed.

    Args:
        raw: the log of the raw table, newest first.
        quarantine: the log of the quarantine table.
    """
    marks = {number: mark_of(commit) for commit in in_force(raw) if (number := batch_of(commit)) is not None}
    others = {
        number for commit in quarantine if (number := batch_of(commit)) is not None and number in marks and marks[number] != mark_of(commit)
    }
    return f"_batch IN ({_numbers(marks.keys() - others) or 'NULL'})"


def _numbers(batches: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(batches))
