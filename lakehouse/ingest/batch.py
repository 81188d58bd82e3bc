"""One batch: some files read and judged, their rows written, and the two commits that make them count.

Quarantine comes first, raw second; the raw commit is the moment the batch counts. A batch that dies between the two leaves
quarantined rows whose number raw does not know; they are removed when the next batch is in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.errors import FileRefused
from lakehouse.ingest.archive import Original, archive
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.keys import KeyWatch
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.readers import Chunk, read_chunks, sniff
from lakehouse.ingest.readers.formats import SLICE_BYTES, FileFormat, refused
from lakehouse.ingest.tally import BatchTally
from lakehouse.ingest.validation import BAD, RECORD, RowJudge, worst_level_sql
from lakehouse.privacy import Key, install, protect_sql
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Stamp, Transaction
from lakehouse.tables.writing import Written

GOOD_TABLE = "__batch_good"
BAD_TABLE = "__batch_bad"
SHAPE_RULE = "record.shape"
# Pieces this large are written at once; smaller ones of many files become one data file together.
_DIRECT_ROWS = 200_000
_ORIGIN = ("_batch", "_file", "_sha256", "_row", "_ingested_at")

Told = Callable[[Original, int], None]


@dataclass
class FileOutcome:
    """What became of one file of a batch."""

    original: Original
    rows_read: int = 0
    rows_quarantined: int = 0
    error: FileRefused | None = None
    written: list[Written] = field(default_factory=list)

    @property
    def rows_accepted(self) -> int:
        """Rows that are no longer only in the file."""
        return 0 if self.error else self.rows_read - self.rows_quarantined


@dataclass(frozen=True)
class BatchResult:
    """The committed batch, or none where every file was refused."""

    number: int
    files: list[FileOutcome]
    commit: Commit | None
    tally: BatchTally


def app_id(contract: DatasetContract) -> str:
    """The transaction that numbers the batches of a dataset, in raw and in quarantine."""
    return f"ingest.{contract.name}"


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
        self._judge = RowJudge(contract, key)

    def run(self, con: duckdb.DuckDBPyConnection, originals: Sequence[Original], *, told: Told) -> BatchResult:
        """Ingest the files, all or none.

        Raises:
            Superseded: another process has committed a batch meanwhile; nothing of this one counts.
        """
        after = self._transaction(self._contract.raw)
        pending = self._transaction(self._contract.quarantine)
        number = 1 + max(after or 0, pending or 0)
        pieces = PiecewiseAppend(self._lake, self._contract.raw, app_id=app_id(self._contract), after=after)
        tally = BatchTally(con, self._contract, self._judge)
        self._prepare(con)
        outcomes: list[FileOutcome] = []
        try:
            for original in originals:
                outcomes.append(self._file(con, original, number, pieces, tally, told))
            accepted = [outcome for outcome in outcomes if outcome.error is None]
            commit = self._commit(con, accepted, number, pieces, tally) if accepted else None
        except BaseException:
            pieces.discard([one for outcome in outcomes for one in outcome.written])
            raise
        if commit is not None:
            self.remove_dead(con, after, number)
        return BatchResult(number, outcomes, commit, tally)

    def _transaction(self, table: str) -> int | None:
        return self._lake.transaction(table, app_id(self._contract))

    # ---- reading

    def _prepare(self, con: duckdb.DuckDBPyConnection) -> None:
        if self._key is not None:
            install(con, self._key)
        columns = ", ".join(f"{quote_identifier(column.name)} {column.stored_type}" for column in self._contract.columns)
        rescued = ", _rescued VARCHAR" if self._judge.rescues else ""
        origin = "_batch BIGINT, _file VARCHAR, _sha256 VARCHAR, _row BIGINT, _ingested_at TIMESTAMPTZ"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {GOOD_TABLE} ({columns}{rescued}, {origin})")
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {BAD_TABLE} ({origin}, record VARCHAR, level VARCHAR, rules VARCHAR[], reasons VARCHAR[], status VARCHAR)"
        )

    def _file(
        self, con: duckdb.DuckDBPyConnection, original: Original, number: int, pieces: PiecewiseAppend, tally: BatchTally, told: Told
    ) -> FileOutcome:
        outcome = FileOutcome(original)
        mark = tally.mark()
        try:
            shape = sniff(original.copy, landing=self._contract.landing, names=[column.source for column in self._contract.columns])
            watch = KeyWatch(con, self._contract, is_one_piece=_is_one_piece(original, shape))
            try:
                self._read(con, outcome, shape, number, pieces, watch, tally, told)
            finally:
                watch.close()
            self._check_limits(con, outcome)
        except FileRefused as error:
            outcome.error = error
            pieces.discard(outcome.written)
            outcome.written = []
            outcome.rows_read = outcome.rows_quarantined = 0
            self._forget(con, original)
            tally.back_to(mark)
        return outcome

    def _read(
        self,
        con: duckdb.DuckDBPyConnection,
        outcome: FileOutcome,
        shape: FileFormat,
        number: int,
        pieces: PiecewiseAppend,
        watch: KeyWatch,
        tally: BatchTally,
        told: Told,
    ) -> None:
        original = outcome.original
        select = self._judge.select(original.path.name, by_path=shape.format in {"json", "ndjson"})
        origin = self._origin(original, number)
        for chunk in read_chunks(
            con,
            original.copy,
            select=select,
            file_format=shape,
            landing=self._contract.landing,
            columns=self._contract.columns,
            spill_dir=self._settings.spill_dir,
        ):
            repeated = watch.repeated(chunk.rows_sql) if chunk.rows else None
            bad = self._keep_bad(con, chunk, repeated, origin)
            good = chunk.rows + len(chunk.rejects) - bad
            if good:
                self._keep_good(con, outcome, chunk, repeated, origin, pieces, good)
                tally.add(chunk.rows_sql, repeated)
            outcome.rows_read += chunk.rows + len(chunk.rejects)
            outcome.rows_quarantined += bad
            told(original, outcome.rows_read)

    def _origin(self, original: Original, number: int) -> str:
        file = quote_literal(original.path.name.replace("\0", ""))
        return (
            f"{number}::BIGINT AS _batch, {file} AS _file, {quote_literal(original.sha256)} AS _sha256, _row, "
            f"{quote_literal(self._now)} AS _ingested_at"
        )

    def _keep_good(
        self,
        con: duckdb.DuckDBPyConnection,
        outcome: FileOutcome,
        chunk: Chunk,
        repeated: str | None,
        origin: str,
        pieces: PiecewiseAppend,
        good: int,
    ) -> None:
        others = f" AND _row NOT IN (SELECT _row FROM {quote_identifier(repeated)})" if repeated else ""
        where = f" WHERE {BAD} IS NULL{others}" if good < chunk.rows else ""
        sql = f"SELECT {', '.join(self._judge.stored())}, {origin} FROM {chunk.rows_sql}{where}"
        if good >= _DIRECT_ROWS:
            outcome.written.append(pieces.write(con, sql))
        else:
            con.execute(f"INSERT INTO {GOOD_TABLE} BY NAME {sql}")

    def _keep_bad(self, con: duckdb.DuckDBPyConnection, chunk: Chunk, repeated: str | None, origin: str) -> int:
        """Rows that broke a rule, with all their reasons, and records that are none; returns their number."""
        before = _count(con, f"SELECT count(*) FROM {BAD_TABLE}")
        if repeated is not None:
            again = (
                f"(SELECT _row AS again_row, list({{'rule': rule, 'level': level, 'reason': reason}} ORDER BY rule) AS again "
                f"FROM {quote_identifier(repeated)} GROUP BY _row)"
            )
            # A row that only repeats a key was good so far: its record is made of its values.
            values = ", ".join(self._value_pairs())
            con.execute(
                f"INSERT INTO {BAD_TABLE} SELECT {origin}, coalesce({RECORD}, json_object({values})::VARCHAR), {_reason_columns('broken')} "
                f"FROM (SELECT *, list_concat(coalesce({BAD}, []), coalesce(again, [])) AS broken FROM {chunk.rows_sql} "
                f"LEFT JOIN {again} ON _row = again_row) WHERE len(broken) > 0"
            )
        elif chunk.rows and _count(con, f"SELECT count({BAD}) FROM {chunk.rows_sql}"):
            con.execute(
                f"INSERT INTO {BAD_TABLE} SELECT {origin}, {RECORD}, {_reason_columns(BAD)} FROM {chunk.rows_sql} WHERE {BAD} IS NOT NULL"
            )
        if chunk.rejects:
            record = protect_sql("record", "encrypt", self._key) if self._key is not None else "record"
            con.execute(
                f"INSERT INTO {BAD_TABLE} SELECT {origin}, {record}, 'structural', [{quote_literal(SHAPE_RULE)}], ['the record ' || reason], "
                f"'waiting' FROM {chunk.rejects_sql}"
            )
        return _count(con, f"SELECT count(*) FROM {BAD_TABLE}") - before

    def _value_pairs(self) -> list[str]:
        pairs: list[str] = []
        for column in self._contract.columns:
            name = quote_identifier(column.name)
            value = (
                protect_sql(name, column.protection, self._key)
                if column.protected and self._key is not None
                else f"CAST({name} AS VARCHAR)"
            )
            pairs.append(f"{quote_literal(column.source)}, {value}")
        return pairs

    def _check_limits(self, con: duckdb.DuckDBPyConnection, outcome: FileOutcome) -> None:
        """Refuse a file that is more wrong than the contract allows."""
        contract = self._contract
        if not outcome.rows_read:
            return
        share = 100.0 * outcome.rows_quarantined / outcome.rows_read
        limit = contract.quarantine_limit_percent
        reasons = self._top_reasons(con, outcome.original)
        if limit is not None and share > limit:
            raise refused(
                outcome.original.path.name,
                f"{outcome.rows_quarantined} of {outcome.rows_read} rows break the contract of {contract.name}",
                expected=f"at most {limit:g} %",
                found=f"{share:.1f} %: " + ", ".join(f"{rule} ({rows} rows)" for rule, rows in reasons[:3]),
                fix="Correct the file or the contract",
            )
        if contract.schema_changes.type_change == "reject":
            wrong = [rule for rule, rows in reasons if rule.endswith(".type") and rows == outcome.rows_read]
            if wrong:
                raise refused(
                    outcome.original.path.name,
                    f"no value of {', '.join(rule.removesuffix('.type') for rule in wrong)} is of the contract's type",
                    fix="Correct the file or the contract",
                )

    @staticmethod
    def _top_reasons(con: duckdb.DuckDBPyConnection, original: Original) -> list[tuple[str, int]]:
        return con.execute(
            f"SELECT rule, count(*) FROM (SELECT unnest(rules) AS rule FROM {BAD_TABLE} WHERE _sha256 = {quote_literal(original.sha256)}) "
            "GROUP BY rule ORDER BY 2 DESC, 1"
        ).fetchall()

    @staticmethod
    def _forget(con: duckdb.DuckDBPyConnection, original: Original) -> None:
        for table in (GOOD_TABLE, BAD_TABLE):
            con.execute(f"DELETE FROM {table} WHERE _sha256 = {quote_literal(original.sha256)}")

    # ---- committing

    def _commit(
        self, con: duckdb.DuckDBPyConnection, accepted: Sequence[FileOutcome], number: int, pieces: PiecewiseAppend, tally: BatchTally
    ) -> Commit:
        places = archive(self._lake.storage, self._contract.name, [outcome.original for outcome in accepted], key=self._key, now=self._now)
        source = {
            "batch": number,
            "files": [
                {
                    "file": outcome.original.path.name,
                    "sha256": outcome.original.sha256,
                    "bytes": outcome.original.size_bytes,
                    "rows_read": outcome.rows_read,
                    "rows_accepted": outcome.rows_accepted,
                    "rows_quarantined": outcome.rows_quarantined,
                    "archive": places[outcome.original.sha256],
                }
                for outcome in accepted
            ],
        }
        good = f"SELECT * FROM {GOOD_TABLE}"
        written = [one for outcome in accepted for one in outcome.written]
        if _count(con, f"SELECT count(*) FROM {GOOD_TABLE}"):
            accepted[0].written.append(pieces.write(con, good))
            written = [one for outcome in accepted for one in outcome.written]
        tally.measure(self._rows_sql(con, pieces, written))
        if _count(con, f"SELECT count(*) FROM {BAD_TABLE}"):
            made = self._lake.append(
                con,
                self._contract.quarantine,
                f"SELECT * FROM {BAD_TABLE}",
                stamp=Stamp(asset=self._contract.quarantine, run=self._run, code=self._contract.digest, source=source),
                transaction=Transaction(app_id(self._contract), number),
            )
            if made.skipped:
                raise Superseded(self._contract.quarantine)
        stamp = Stamp(asset=self._contract.raw, run=self._run, code=self._contract.digest, source=source)
        return pieces.commit(con, written, empty_sql=f"{good} WHERE false", batch=number, stamp=stamp)

    @staticmethod
    def _rows_sql(con: duckdb.DuckDBPyConnection, pieces: PiecewiseAppend, written: Sequence[Written]) -> str:
        """A SELECT of the batch's good rows as they will be in raw."""
        addresses = ", ".join(quote_literal(address) for address in pieces.addresses(written))
        return f"SELECT * FROM read_parquet([{addresses}], union_by_name=true)" if addresses else f"SELECT * FROM {GOOD_TABLE}"

    def remove_dead(self, con: duckdb.DuckDBPyConnection, after: int | None, number: int) -> None:
        """Remove quarantined rows of batches between two that count: they died before their raw commit."""
        if number - (after or 0) > 1 and self._lake.exists(self._contract.quarantine):
            self._lake.delete(
                con,
                self._contract.quarantine,
                f"_batch > {after or 0} AND _batch < {number}",
                stamp=Stamp(asset=self._contract.quarantine, run=self._run, code="remove dead batches"),
            )


def _reason_columns(broken: str) -> str:
    levels = f"list_transform({broken}, lambda one: one.level)"
    return f"{worst_level_sql(levels)}, list_transform({broken}, lambda one: one.rule), list_transform({broken}, lambda one: one.reason), 'waiting'"


def _is_one_piece(original: Original, shape: FileFormat) -> bool:
    """Whether the reader surely hands the file over in one piece."""
    if shape.format in {"json", "excel", "pdf"}:
        return True
    return shape.compression == "none" and shape.format != "parquet" and original.size_bytes < SLICE_BYTES // 4


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    found = con.execute(sql).fetchone()
    return int(found[0]) if found else 0
