"""One batch: its files read and judged, and the two commits that make them count.

Quarantine comes first, raw second; the raw commit is the moment the batch counts. A batch that dies between the two leaves
quarantined rows that raw's log does not know; `dead` removes them.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.crashpoints import Point, reached
from lakehouse.ingest.archive import Original, archive
from lakehouse.ingest.dead import taken_back_if_superseded
from lakehouse.ingest.erased import ErasedRows
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.known import KnownFile, app_id
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.reading import BatchReader, FileOutcome, Told
from lakehouse.ingest.replacing import Taken, take_out
from lakehouse.ingest.sorting import BAD_TABLE, GOOD_TABLE
from lakehouse.ingest.tally import BatchTally
from lakehouse.ingest.topic_pages import page_source
from lakehouse.privacy import Key
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import Commit, Lake, Stamp, Transaction
from lakehouse.tables.tiers import archive_tiers
from lakehouse.tables.writing import Written


@dataclass(frozen=True)
class BatchResult:
    """A batch and its commit to raw, or none where every file was refused."""

    number: int
    files: list[FileOutcome]
    commit: Commit | None
    tally: BatchTally


Judged = Callable[[BatchResult], None]


class Batch:
    """Reads, judges and commits some files.

    Args:
        lake: holds raw and quarantine.
        contract: of the dataset.
        settings: of the home.
        key: protects columns; None where the contract protects none.
        run: recorded in the commits.
        now: when the rows arrived.
    """

    def __init__(self, lake: Lake, contract: DatasetContract, *, settings: Settings, key: Key | None, run: str, now: datetime) -> None:
        self._lake = lake
        self._contract = contract
        self._settings = settings
        self._key = key
        self._run = run
        self._now = now

    def run(
        self,
        con: duckdb.DuckDBPyConnection,
        originals: Sequence[Original],
        *,
        after: int | None,
        told: Told,
        judged: Judged,
        replaced: Mapping[str, Sequence[KnownFile]] | None = None,
    ) -> BatchResult:
        """Ingest the files, all or none of them.

        Args:
            con: where they are read.
            originals: files that no batch up to `after` holds.
            after: the batch to follow, None before the first.
            told: of the progress.
            judged: called with the whole batch right before it counts.
            replaced: files whose rows go in the same commit, by the digest of the one that takes their place: one of the originals,
                unless that is refused, or a content that raw has.

        Raises:
            Superseded: another process has committed a batch meanwhile; nothing of this one counts.
        """
        number = 1 + max(after or 0, self._lake.transaction(self._contract.quarantine, app_id(self._contract)) or 0)
        pieces = PiecewiseAppend(self._lake, self._contract.raw, app_id=app_id(self._contract), after=after)
        reader = BatchReader(
            con,
            self._contract,
            settings=self._settings,
            key=self._key,
            number=number,
            now=self._now,
            pieces=pieces,
            told=told,
            erased=ErasedRows.of(self._lake, con, self._contract, self._settings),
        )
        try:
            reader.read(originals)
            accepted = [outcome for outcome in reader.outcomes if outcome.error is None]
            result = BatchResult(number, reader.outcomes, None, reader.tally)
            refused = {outcome.original.sha256 for outcome in reader.outcomes if outcome.error is not None}
            gone = {digest: files for digest, files in (replaced or {}).items() if digest not in refused and files}
            tiers = archive_tiers(self._settings, self._lake)
            taken = take_out(tiers, con, self._contract, gone, number=number, after=after, run=self._run, now=self._now)
            commit = self._commit(con, accepted, result, pieces=pieces, judged=judged, taken=taken) if accepted or gone else None
        except BaseException:
            pieces.discard([one for outcome in reader.outcomes for one in outcome.written])
            raise
        return replace(result, commit=commit)

    def _commit(
        self,
        con: duckdb.DuckDBPyConnection,
        accepted: Sequence[FileOutcome],
        result: BatchResult,
        *,
        pieces: PiecewiseAppend,
        judged: Judged,
        taken: Taken,
    ) -> Commit:
        number = result.number
        source = self._source(accepted, number) | taken.source
        if _count(con, GOOD_TABLE):
            # With the first file's, so that they are discarded together if the commit fails.
            accepted[0].written.append(pieces.write(con, f"SELECT * FROM {GOOD_TABLE}"))
        written = [one for outcome in accepted for one in outcome.written]
        result.tally.measure(self._rows_sql(pieces, written), BAD_TABLE)
        is_quarantined = bool(taken.rows_sql or _count(con, BAD_TABLE))
        if is_quarantined:
            made = self._lake.append(
                con,
                self._contract.quarantine,
                f"SELECT * FROM {BAD_TABLE}{taken.rows_sql}",
                stamp=Stamp(asset=self._contract.quarantine, run=self._run, code=self._contract.digest, source=source),
                transaction=Transaction(app_id(self._contract), number),
            )
            if made.skipped:
                raise Superseded(self._contract.quarantine)
            reached(Point.QUARANTINE_COMMITTED)
        if accepted:
            judged(result)
        stamp = Stamp(asset=self._contract.raw, run=self._run, code=self._contract.digest, source=source)
        undo = taken_back_if_superseded(self._lake, con, self._contract, number, run=self._run) if is_quarantined else nullcontext()
        with undo:
            return pieces.commit(con, written, empty_sql=f"SELECT * FROM {GOOD_TABLE} WHERE false", batch=number, stamp=stamp, taken=taken)

    def _source(self, accepted: Sequence[FileOutcome], number: int) -> dict[str, object]:
        """Archive the originals and say what this batch accounts for."""
        originals = [outcome.original for outcome in accepted]
        places = archive(self._lake.storage, self._contract.name, originals, key=self._key, now=self._now)
        reached(Point.ORIGINALS_ARCHIVED)
        files = [
            {
                "file": outcome.original.path.name,
                "sha256": outcome.original.sha256,
                "bytes": outcome.original.size_bytes,
                "rows_read": outcome.rows_read,
                "rows_accepted": outcome.rows_accepted,
                "rows_quarantined": outcome.rows_quarantined,
                "archive": places[outcome.original.sha256],
                **({"rows_erased": outcome.rows_erased} if outcome.rows_erased else {}),
                **outcome.original.origin,
                **(page_source(outcome.original.path) if self._contract.topics and isinstance(outcome.original.path, Path) else {}),
            }
            for outcome in accepted
        ]
        # The attempt tells the commits of this batch from those of another that chose the same number.
        return {"batch": number, "attempt": uuid.uuid4().hex, "contract_version": self._contract.version, "files": files}

    @staticmethod
    def _rows_sql(pieces: PiecewiseAppend, written: Sequence[Written]) -> str:
        """A SELECT of the batch's good rows as they will be in raw."""
        addresses = ", ".join(quote_literal(address) for address in pieces.addresses(written))
        return f"SELECT * FROM read_parquet([{addresses}], union_by_name=true)" if addresses else f"SELECT * FROM {GOOD_TABLE}"


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    found = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0]) if found else 0
