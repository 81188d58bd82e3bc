"""Quarantined rows that do not count: their batch died before its raw commit, or is still under way.

Raw takes a batch only on condition that no other came in between. So once raw's newest batch has the number of a quarantined one,
or a later one, that batch is decided: its files are in raw's log under this number, or its rows are dead. The number alone does
not tell: two processes may choose the same one, and a batch without bad rows writes nothing to quarantine.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.batch import app_id
from lakehouse.ingest.known import KnownFiles, batch_of, files_of
from lakehouse.sql import quote_literal
from lakehouse.tables import CommitInfo, Lake, Stamp, in_force


@dataclass(frozen=True, slots=True)
class DeadBatch:
    """Files whose rows were quarantined under a number and never reached raw under it."""

    number: int
    digests: tuple[str, ...]

    @property
    def condition(self) -> str:
        """SQL that holds for its rows in the quarantine table."""
        return f"(_batch = {self.number} AND _sha256 IN ({', '.join(quote_literal(digest) for digest in self.digests)}))"


def remove_dead(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, known: KnownFiles, *, run: str) -> list[DeadBatch]:
    """Remove the quarantined rows of decided batches that raw does not know, whichever process left them.

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
    dead: list[DeadBatch] = []
    looked_at: CommitInfo | None = None
    for commit in commits:
        number = batch_of(commit)
        if number is not None and number > decided:
            break
        looked_at = commit
        if number is None:
            continue
        digests = [str(file["sha256"]) for file in files_of(commit)]
        counted = {digest for digest, file in known.known(digests).items() if file.batch == number}
        lost = tuple(digest for digest in digests if digest not in counted)
        if lost:
            dead.append(DeadBatch(number, lost))
    if dead:
        numbers = [batch.number for batch in dead]
        lake.delete(
            con,
            contract.quarantine,
            " OR ".join(batch.condition for batch in dead),
            within={"_batch": (min(numbers), max(numbers))},
            stamp=Stamp(asset=contract.quarantine, run=run, code="remove dead batches"),
        )
    if looked_at is not None:
        known.remember_look(looked_at)
    return dead


def counted_condition(raw: Iterable[CommitInfo], quarantine: Iterable[CommitInfo]) -> str:
    """SQL that holds for the rows of a quarantine table that count, whatever is still to be removed.

    Args:
        raw: the log of the raw table, newest first.
        quarantine: the log of the quarantine table.
    """
    known: dict[int, Collection[str]] = {
        number: {str(file.get("sha256")) for file in files_of(commit)}
        for commit in in_force(raw)
        if (number := batch_of(commit)) is not None
    }
    batches = ", ".join(str(number) for number in sorted(known))
    others = [
        DeadBatch(number, lost)
        for commit in quarantine
        if (number := batch_of(commit)) is not None and number in known and (lost := _unknown(commit, known[number]))
    ]
    also = "".join(f" AND NOT {batch.condition}" for batch in others)
    return f"_batch IN ({batches or 'NULL'}){also}"


def _unknown(commit: CommitInfo, digests: Collection[str]) -> tuple[str, ...]:
    files: list[Mapping[str, object]] = list(files_of(commit))
    return tuple(digest for file in files if (digest := str(file.get("sha256"))) not in digests)
