"""The files of a batch as judged rows: good ones on their way to raw, bad ones with their reasons on their way to quarantine.

Many small files are judged together, a large one piece by piece; either way each row is judged by the same SELECT.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.errors import FileRefused
from lakehouse.ingest.archive import Original
from lakehouse.ingest.erased import ErasedRows
from lakehouse.ingest.keys import KeyWatch
from lakehouse.ingest.limits import JudgedFile, check_limits
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.readers import (
    Chunk,
    FileFormat,
    Others,
    Select,
    Small,
    as_text,
    plain_lines,
    read_chunks,
    read_documents,
    scratch_folder,
    sniff,
)
from lakehouse.ingest.readers.chunks import FILE_SHIFT, new_name
from lakehouse.ingest.readers.encoding import UTF8
from lakehouse.ingest.readers.formats import SLICE_BYTES
from lakehouse.ingest.sorting import BAD_TABLE, ROW_MASK, RowSorter, of_file
from lakehouse.ingest.tally import BatchTally
from lakehouse.ingest.topic_pages import TopicPage
from lakehouse.ingest.validation import (
    Matching,
    RowJudge,
    check_columns,
    check_new_columns,
    match_columns,
)
from lakehouse.privacy import Key
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier
from lakehouse.tables.writing import Written

# Up to this size files are judged together: for a small file the planning of its queries costs more than its rows.
_SMALL_BYTES = 2 * 1024 * 1024
_GROUP_BYTES = 32 * 1024 * 1024
Told = Callable[[Original, int], None]


@dataclass
class FileOutcome:
    """What became of one file of a batch.

    Attributes:
        rows_erased: rows of people who were erased; they are kept nowhere.
        missing: the contract's columns that it lacks.
        unknown: its columns that the contract does not know.
    """

    original: Original
    rows_read: int = 0
    rows_quarantined: int = 0
    rows_erased: int = 0
    error: FileRefused | None = None
    written: list[Written] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def rows_accepted(self) -> int:
        """Rows that are on their way to raw."""
        return 0 if self.error else self.rows_read - self.rows_quarantined - self.rows_erased


@dataclass(frozen=True)
class _Group:
    """Text of small files with the same columns; a row's number has its file's number in the upper bits."""

    table: str
    names: tuple[str, ...]
    by_path: bool
    outcomes: dict[int, FileOutcome] = field(default_factory=dict)


class BatchReader:
    """Fills GOOD_TABLE and BAD_TABLE of one connection, and data files for what is large.

    Args:
        con: holds the two tables.
        contract: judges the rows.
        settings: where to unpack.
        key: protects columns; None where the contract protects none.
        number: of the batch.
        now: when the rows arrived.
        pieces: writes data files.
        told: called after every piece.
        erased: rows that must not come back.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        contract: DatasetContract,
        *,
        settings: Settings,
        key: Key | None,
        number: int,
        now: datetime,
        pieces: PiecewiseAppend,
        told: Told,
        erased: ErasedRows | None = None,
    ) -> None:
        self._con = con
        self._contract = contract
        self._settings = settings
        self._pieces = pieces
        self._told = told
        self._judge = RowJudge(contract, key)
        self._sorter = RowSorter(con, contract, self._judge, key=key, number=number, now=now, erased=erased)
        self.tally = BatchTally(con, contract, self._judge)
        self.outcomes: list[FileOutcome] = []

    def read(self, originals: Sequence[Original]) -> None:
        """Read every file; a file that is refused leaves nothing behind, and `outcomes` says why."""
        self.prepare()
        self.outcomes = [FileOutcome(original) for original in originals]
        together: list[FileOutcome] = []
        room = _GROUP_BYTES
        for outcome in self.outcomes:
            size = outcome.original.size_bytes
            if size > _SMALL_BYTES:
                self._large(outcome)
                continue
            if size > room:
                self._together(together)
                together, room = [], _GROUP_BYTES
            together.append(outcome)
            room -= size
        self._together(together)

    def prepare(self) -> None:
        """Make the two tables, empty."""
        self._sorter.prepare()

    # ---- rows that were read before

    def judge_again(self, groups: Sequence[tuple[Sequence[str], str]], files: str, *, accepted_sql: str | None) -> None:
        """Judge rows of quarantine, each by the SELECT that judged it first.

        Args:
            groups: the names of text columns, and a table that has them and `_row` with the file's number in its upper bits.
            files: a table that numbers the files: __number, __name, __digest.
            accepted_sql: rows of these files that raw has, with such a `_row`: their keys are taken.
        """
        judged = new_name("judged")
        selects = [
            self._judge.sql(match_columns(self._contract, names), names, quote_identifier(table), has_row=True) for names, table in groups
        ]
        watch = KeyWatch(self._con, self._contract, is_one_piece=True)
        try:
            self._con.execute(f"CREATE TEMP TABLE {quote_identifier(judged)} AS {' UNION ALL BY NAME '.join(selects)}")
            if accepted_sql is not None:
                watch.know(accepted_sql)
            rows, origin = self._count(f"SELECT count(*) FROM {quote_identifier(judged)}"), self._sorter.origin_of_many(files)
            rows_sql, rows = self._sorter.without_erased(f"(SELECT * FROM {quote_identifier(judged)})", rows, origin)
            if rows:
                self._sorter.keep(rows_sql, rows, watch.repeated(f"(SELECT {self._sorter.as_in_raw()} FROM {rows_sql})"), origin)
        finally:
            watch.close()
            self._con.execute(f"DROP TABLE IF EXISTS {quote_identifier(judged)}")

    # ---- one large file

    def _large(self, outcome: FileOutcome) -> None:
        mark = self.tally.mark()
        try:
            shape = self._sniff(outcome)
            watch = KeyWatch(self._con, self._contract, is_one_piece=_is_one_piece(outcome.original, shape))
            try:
                self._pieces_of(outcome, shape, watch)
            finally:
                watch.close()
            outcome.rows_quarantined = self._sorter.quarantined().get(outcome.original.sha256, 0)
            outcome.rows_erased = self._sorter.erased().get(outcome.original.sha256, 0)
            self._check_limits(outcome)
        except FileRefused as error:
            self._refuse(outcome, error)
            self.tally.back_to(mark)

    def _pieces_of(self, outcome: FileOutcome, shape: FileFormat, watch: KeyWatch) -> None:
        origin = self._sorter.origin(outcome.original)

        def direct(sql: str) -> None:
            outcome.written.append(self._pieces.write(self._con, sql))

        select = self._judge.select(outcome.original.path.name, by_path=_is_json(shape))
        with closing(self._chunks(outcome, shape, select)) as chunks:
            for chunk in chunks:
                self._note_columns(outcome, select.matching, chunk.others.get(0, ()), by_path=select.by_path)
                self._sorter.keep_rejects(chunk, origin)
                if chunk.rows:
                    rows_sql, rows = self._sorter.without_erased(chunk.rows_sql, chunk.rows, origin)
                    repeated = watch.repeated(rows_sql)
                    good = self._sorter.keep(rows_sql, rows, repeated, origin, direct=direct)
                    if good:
                        self.tally.add(rows_sql, repeated)
                outcome.rows_read += chunk.rows + len(chunk.rejects)
                self._told(outcome.original, outcome.rows_read)

    # ---- small files together

    def _together(self, outcomes: Sequence[FileOutcome]) -> None:
        groups: dict[tuple[tuple[str, ...], bool], _Group] = {}
        documents: dict[int, FileOutcome] = {}
        by_line: dict[int, list[str]] = {}
        sources = [column.source for column in self._contract.columns]
        for number, outcome in enumerate(outcomes):
            try:
                shape = self._sniff(outcome)
                if _is_json(shape) and shape.compression == "none" and shape.encoding in UTF8:
                    lines = plain_lines(outcome.original.copy, sources) if shape.format == "ndjson" and self._others != "read" else None
                    if lines is not None:
                        by_line[number] = lines
                    if lines is not None or shape.format == "json":
                        documents[number] = outcome
                        continue
                with closing(self._chunks(outcome, shape, as_text)) as chunks:
                    for chunk in chunks:
                        matching = match_columns(self._contract, chunk.names)
                        self._note_columns(outcome, matching, chunk.others.get(0, ()), by_path=_is_json(shape))
                        self._collect(chunk, {number: outcome}, groups, by_path=_is_json(shape))
                self._told(outcome.original, outcome.rows_read)
            except FileRefused as error:
                self._refuse_early(outcome, number, error, groups)
        if documents:
            self._documents(documents, by_line, groups)
        for group in groups.values():
            self._judge_group(group)
            self._con.execute(f"DROP TABLE {quote_identifier(group.table)}")

    def _documents(
        self, documents: dict[int, FileOutcome], by_line: dict[int, list[str]], groups: dict[tuple[tuple[str, ...], bool], _Group]
    ) -> None:
        """JSON documents, and files of one record per line, all in one reading."""

        def failed(first: int, error: FileRefused) -> None:
            number = first >> FILE_SHIFT
            self._refuse_early(documents.pop(number), number, error, groups)

        def noted(number: int, others: Sequence[str]) -> None:
            try:
                self._note_columns(documents[number], None, others, by_path=True)
            except FileRefused as error:
                failed(number << FILE_SHIFT, error)

        with scratch_folder(self._settings.spill_dir) as scratch:
            pieces = read_documents(
                self._con,
                [Small(number << FILE_SHIFT, one.original.copy, by_line.get(number)) for number, one in documents.items()],
                sources=[column.source for column in self._contract.columns],
                records=self._contract.landing.records,
                scratch=scratch,
                failed=failed,
                others=self._others,
            )
            with closing(pieces):
                # Once every one of them was refused, nothing is left to collect.
                for chunk in (chunk for chunk in pieces if documents):
                    self._collect(chunk, documents, groups, by_path=True)
                    for number, others in chunk.others.items():
                        noted(number, others)
        for outcome in documents.values():
            self._told(outcome.original, outcome.rows_read)

    def _refuse_early(
        self, outcome: FileOutcome, number: int, error: FileRefused, groups: dict[tuple[tuple[str, ...], bool], _Group]
    ) -> None:
        self._refuse(outcome, error)
        for group in groups.values():
            if group.outcomes.pop(number, None) is not None:
                self._con.execute(f"DELETE FROM {quote_identifier(group.table)} WHERE _row >> {FILE_SHIFT} = {number}")

    def _collect(
        self, chunk: Chunk, outcomes: dict[int, FileOutcome], groups: dict[tuple[tuple[str, ...], bool], _Group], *, by_path: bool
    ) -> None:
        """Add a piece to its group: of one file, or of several whose numbers are in the rows' numbers already."""
        name = (chunk.names, by_path)
        first = next(iter(outcomes.values()))
        if name not in groups:
            matching = match_columns(self._contract, chunk.names)
            check_columns(first.original.path.name, self._contract, matching, by_path=by_path)
            groups[name] = _Group(new_name("group"), chunk.names, by_path)
            columns = ", ".join(f"{quote_identifier(column)} VARCHAR" for column in chunk.names)
            self._con.execute(f"CREATE TEMP TABLE {quote_identifier(groups[name].table)} ({columns}, _row BIGINT)")
        group = groups[name]
        group.outcomes.update(outcomes)
        table = quote_identifier(group.table)
        columns = ", ".join(quote_identifier(column) for column in chunk.names)
        shift = next(iter(outcomes)) << FILE_SHIFT if len(outcomes) == 1 else 0
        row = f"(_row & {ROW_MASK}) + {shift}" if shift else "_row"
        self._con.execute(f"INSERT INTO {table} SELECT {columns}, {row} FROM {chunk.rows_sql}")
        if len(outcomes) == 1:
            self._sorter.keep_rejects(chunk, self._sorter.origin(first.original, f"_row & {ROW_MASK}"))
            first.rows_read += chunk.rows + len(chunk.rejects)
            return
        for number, rows in self._con.execute(f"SELECT _row >> {FILE_SHIFT}, count(*) FROM {table} GROUP BY 1").fetchall():
            if number in outcomes:
                outcomes[number].rows_read += rows
        for reject in chunk.rejects:
            outcomes[reject.row >> FILE_SHIFT].rows_read += 1
        if chunk.rejects:
            files = self._sorter.files_table({number: one.original for number, one in outcomes.items()})
            self._sorter.keep_rejects(chunk, self._sorter.origin_of_many(files))
            self._con.execute(f"DROP TABLE {quote_identifier(files)}")

    def _judge_group(self, group: _Group) -> None:
        """Judge all files of a group at once; if some break their limit, judge the others again without them."""
        mark = self.tally.mark()
        left = dict(group.outcomes)
        while left:
            refusals = self._judge_files(group, left)
            if not refusals:
                return
            self.tally.back_to(mark)
            for number, error in refusals.items():
                self._refuse(left.pop(number), error)
            for outcome in left.values():
                self._sorter.forget_judgement(outcome.original)

    def _judge_files(self, group: _Group, outcomes: dict[int, FileOutcome]) -> dict[int, FileRefused]:
        matching = match_columns(self._contract, group.names)
        numbers = ", ".join(str(number) for number in outcomes)
        source = f"(SELECT * FROM {quote_identifier(group.table)} WHERE _row >> {FILE_SHIFT} IN ({numbers}))"
        judged, files = new_name("judged"), self._sorter.files_table({number: one.original for number, one in outcomes.items()})
        rows_sql = f"(SELECT * FROM {quote_identifier(judged)})"
        watch = KeyWatch(self._con, self._contract, is_one_piece=True)
        try:
            self._con.execute(
                f"CREATE TEMP TABLE {quote_identifier(judged)} AS {self._judge.sql(matching, group.names, source, has_row=True)}"
            )
            rows = self._count(f"SELECT count(*) FROM {quote_identifier(judged)}")
            if rows:
                rows_sql, rows = self._sorter.without_erased(rows_sql, rows, self._sorter.origin_of_many(files))
                repeated = watch.repeated(rows_sql)
                if self._sorter.keep(rows_sql, rows, repeated, self._sorter.origin_of_many(files)):
                    self.tally.add(rows_sql, repeated)
        finally:
            watch.close()
            self._con.execute(f"DROP TABLE IF EXISTS {quote_identifier(judged)}")
            self._con.execute(f"DROP TABLE IF EXISTS {quote_identifier(files)}")
        return self._limits_broken(outcomes)

    def _limits_broken(self, outcomes: dict[int, FileOutcome]) -> dict[int, FileRefused]:
        bad, erased = self._sorter.quarantined(), self._sorter.erased()
        refusals: dict[int, FileRefused] = {}
        for number, outcome in outcomes.items():
            outcome.rows_quarantined = bad.get(outcome.original.sha256, 0)
            outcome.rows_erased = erased.get(outcome.original.sha256, 0)
            try:
                self._check_limits(outcome)
            except FileRefused as error:
                refusals[number] = error
        return refusals

    # ---- both

    @property
    def _others(self) -> Others:
        """What becomes of keys of JSON records that the contract does not know."""
        policy = self._contract.schema_changes.new_columns
        return "ignore" if policy == "ignore" else "read" if policy == "rescue" else "name"

    def _note_columns(self, outcome: FileOutcome, matching: Matching | None, others: Sequence[str], *, by_path: bool) -> None:
        """Remember where the file's columns are not the contract's; in nested records absence shows row by row."""
        unknown = () if self._others == "ignore" else others if by_path or matching is None else matching.unknown
        check_new_columns(outcome.original.path.name, self._contract, unknown)
        outcome.unknown = tuple(dict.fromkeys((*outcome.unknown, *unknown)))
        if matching is not None and not by_path:
            outcome.missing = tuple(column.source for column in matching.missing if not column.may_be_missing)

    def _sniff(self, outcome: FileOutcome) -> FileFormat:
        if self._contract.topics and TopicPage.of(outcome.original.path.name) is not None:
            # Whatever its messages are, each is a line.
            return FileFormat("ndjson")
        sources = [column.source for column in self._contract.columns]
        return sniff(outcome.original.copy, landing=self._contract.landing, names=sources)

    def _chunks(self, outcome: FileOutcome, shape: FileFormat, select: Select) -> Generator[Chunk]:
        return read_chunks(
            self._con,
            outcome.original.copy,
            select=select,
            file_format=shape,
            landing=self._contract.landing,
            columns=self._contract.columns,
            others=self._others,
            spill_dir=self._settings.spill_dir,
        )

    def _count(self, sql: str) -> int:
        found = self._con.execute(sql).fetchone()
        return int(found[0]) if found else 0

    def _check_limits(self, outcome: FileOutcome) -> None:
        """Refuse a file that is more wrong than the contract allows."""
        bad_rows_sql = f"SELECT * FROM {BAD_TABLE} WHERE {of_file(outcome.original)}"
        name = outcome.original.path.name
        check_limits(self._con, self._contract, JudgedFile(name, outcome.rows_read, outcome.rows_quarantined, bad_rows_sql))

    def _refuse(self, outcome: FileOutcome, error: FileRefused) -> None:
        """Leave nothing of a file behind."""
        outcome.error = error
        self._pieces.discard(outcome.written)
        outcome.written = []
        outcome.rows_read = outcome.rows_quarantined = outcome.rows_erased = 0
        outcome.missing = outcome.unknown = ()
        self._sorter.forget(outcome.original)


def _is_json(shape: FileFormat) -> bool:
    return shape.format in {"json", "ndjson"}


def _is_one_piece(original: Original, shape: FileFormat) -> bool:
    """Whether the reader surely hands the file over in one piece."""
    if shape.format in {"json", "excel", "pdf"}:
        return True
    return shape.compression == "none" and shape.format != "parquet" and original.size_bytes < SLICE_BYTES // 4
