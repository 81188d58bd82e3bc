"""Where judged rows go: good ones on their way to raw, bad ones with their reasons on their way to quarantine.

Rows of people who were erased go nowhere; they are counted.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.archive import Original
from lakehouse.ingest.erased import ErasedRows
from lakehouse.ingest.limits import SHAPE_RULE
from lakehouse.ingest.readers import Chunk
from lakehouse.ingest.readers.chunks import FILE_SHIFT, new_name
from lakehouse.ingest.validation import BAD, RECORD, RowJudge, worst_level_sql
from lakehouse.privacy import Key, install, install_subject_seal, protect_sql
from lakehouse.sql import quote_identifier, quote_literal

GOOD_TABLE = "__batch_good"
BAD_TABLE = "__batch_bad"
_ERASED_TABLE = "__batch_erased"
ROW_MASK = (1 << FILE_SHIFT) - 1
"""The bits of a row's number that are its number within its file."""
# Pieces this large are written at once; smaller ones of many files become one data file together.
_DIRECT_ROWS = 200_000
_ORIGIN = "_batch BIGINT, _file VARCHAR, _sha256 VARCHAR, _row BIGINT, _ingested_at TIMESTAMPTZ"
# What is decided on a quarantined row later: ingestion is the first attempt.
_DECISION = "attempts INTEGER DEFAULT 1, changed_at TIMESTAMPTZ, changed_by VARCHAR, history VARCHAR, _arrival BIGINT"
_BAD_COLUMNS = "_batch, _file, _sha256, _row, _ingested_at, record, level, rules, reasons, status"

Origin = tuple[str, str]
"""The SELECT list that says where rows come from, and the join it needs."""


class RowSorter:
    """Owns GOOD_TABLE and BAD_TABLE of one connection, and counts rows of people who were erased.

    Args:
        con: holds the tables.
        contract: names the columns.
        judge: says how a row is stored.
        key: protects columns; None where the contract protects none.
        number: of the batch.
        now: when the rows arrived.
        erased: rows that must not come back.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        contract: DatasetContract,
        judge: RowJudge,
        *,
        key: Key | None,
        number: int,
        now: datetime,
        erased: ErasedRows | None,
    ) -> None:
        self._con = con
        self._contract = contract
        self._judge = judge
        self._key = key
        self._number = number
        self._now = now
        self._erased = erased

    def prepare(self) -> None:
        """Make the two tables, empty."""
        if self._key is not None:
            install(self._con, self._key)
            if self._judge.seals_for_subjects:
                install_subject_seal(self._con, self._key)
        columns = ", ".join(f"{quote_identifier(column.name)} {column.stored_type}" for column in self._contract.columns)
        rescued = ", _rescued VARCHAR" if self._judge.rescues else ""
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {GOOD_TABLE} ({columns}{rescued}, {_ORIGIN})")
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {_ERASED_TABLE} (_sha256 VARCHAR, is_line BOOLEAN)")
        kept = "record VARCHAR, level VARCHAR, rules VARCHAR[], reasons VARCHAR[], status VARCHAR"
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {BAD_TABLE} ({_ORIGIN}, {kept}, {_DECISION})")

    # ---- where rows come from

    def origin(self, original: Original, row: str = "_row") -> Origin:
        """The SELECT list that says where a row comes from, and the join it needs."""
        return self._origin_columns(quote_literal(_file_name(original)), quote_literal(original.sha256), row), ""

    def origin_of_many(self, files: str) -> Origin:
        """The same for rows whose numbers have their file's in the upper bits; `files` is of `files_table`."""
        columns = self._origin_columns("__name", "__digest", f"_row & {ROW_MASK}")
        return columns, f" JOIN {quote_identifier(files)} ON __number = _row >> {FILE_SHIFT}"

    def _origin_columns(self, file: str, sha256: str, row: str) -> str:
        arrived = f"{quote_literal(self._now)} AS _ingested_at"
        return f"{self._number}::BIGINT AS _batch, {file} AS _file, {sha256} AS _sha256, {row} AS _row, {arrived}"

    def files_table(self, originals: Mapping[int, Original]) -> str:
        """A table that numbers the files, to be dropped after use: __number, __name, __digest."""
        name = new_name("files")
        values = ", ".join(
            f"({number}::BIGINT, {quote_literal(_file_name(one))}, {quote_literal(one.sha256)})" for number, one in originals.items()
        )
        self._con.execute(f"CREATE TEMP TABLE {quote_identifier(name)} AS SELECT * FROM (VALUES {values}) AS f(__number, __name, __digest)")
        return name

    # ---- into which table

    def keep(self, rows_sql: str, rows: int, repeated: str | None, origin: Origin, *, direct: Callable[[str], None] | None = None) -> int:
        """Divide judged rows between the two tables; returns the number of good ones.

        Args:
            rows_sql: the judged rows, as what stands behind FROM.
            rows: how many they are.
            repeated: a table of rows whose key was there before.
            origin: where they come from.
            direct: gets a query for the good rows where they are so many that a file of their own is worth it.
        """
        bad = self._keep_bad(rows_sql, repeated, origin)
        good = rows - bad
        columns, join = origin
        others = f" AND _row NOT IN (SELECT _row FROM {quote_identifier(repeated)})" if repeated else ""
        where = f" WHERE {BAD} IS NULL{others}" if bad else ""
        inner = f"(SELECT * FROM {rows_sql}{where})"
        sql = f"SELECT {', '.join(self._judge.stored())}, {columns} FROM {inner}{join}"
        if good >= _DIRECT_ROWS and direct is not None:
            direct(sql)
        elif good:
            self._con.execute(f"INSERT INTO {GOOD_TABLE} BY NAME {sql}")
        return good

    def _keep_bad(self, rows_sql: str, repeated: str | None, origin: Origin) -> int:
        """Rows that broke a rule, with all their reasons; returns their number."""
        columns, join = origin
        if repeated is None:
            inner = f"(SELECT *, {BAD} AS __broken, {RECORD} AS __shown FROM {rows_sql} WHERE {BAD} IS NOT NULL)"
        else:
            again = (
                f"(SELECT _row AS __again_row, list({{'rule': rule, 'level': level, 'reason': reason}} ORDER BY rule) AS __again "
                f"FROM {quote_identifier(repeated)} GROUP BY _row)"
            )
            # A row that only repeats a key was good so far: its record is made of its values.
            shown = f"coalesce({RECORD}, json_object({', '.join(self._value_pairs())})::VARCHAR) AS __shown"
            inner = (
                f"(SELECT *, list_concat(coalesce({BAD}, []), coalesce(__again, [])) AS __broken, {shown} FROM {rows_sql} "
                f"LEFT JOIN {again} ON _row = __again_row WHERE {BAD} IS NOT NULL OR __again IS NOT NULL)"
            )
        levels = worst_level_sql("list_transform(__broken, lambda __one: __one.level)")
        made = self._con.execute(
            f"INSERT INTO {BAD_TABLE} ({_BAD_COLUMNS}) SELECT {columns}, __shown, {levels}, list_transform(__broken, lambda __one: __one.rule), "
            f"list_transform(__broken, lambda __one: __one.reason), 'waiting' FROM {inner}{join}"
        ).fetchone()
        return int(made[0]) if made else 0

    def keep_rejects(self, chunk: Chunk, origin: Origin) -> None:
        """Records that are none: as they arrived, sealed where the contract protects columns."""
        if not chunk.rejects:
            return
        record = protect_sql("record", "encrypt", self._key) if self._key is not None else "record"
        lines = chunk.rejects_sql
        if self._erased is not None:
            condition = self._erased.line_sql("record")
            self._set_aside(lines, condition, origin, is_line=True)
            lines = f"(SELECT * FROM {lines} WHERE NOT {condition})"
        self._con.execute(
            f"INSERT INTO {BAD_TABLE} ({_BAD_COLUMNS}) SELECT {origin[0]}, {record}, 'structural', [{quote_literal(SHAPE_RULE)}], "
            f"['the record ' || reason], 'waiting' FROM {lines}{origin[1]}"
        )

    def without_erased(self, rows_sql: str, rows: int, origin: Origin) -> tuple[str, int]:
        """Judged rows without those of people who were erased, who are counted; and how many are left."""
        if self._erased is None:
            return rows_sql, rows
        gone = self._set_aside(rows_sql, self._erased.row_sql, origin, is_line=False)
        return (f"(SELECT * FROM {rows_sql} WHERE NOT {self._erased.row_sql})", rows - gone) if gone else (rows_sql, rows)

    def _set_aside(self, rows_sql: str, condition: str, origin: Origin, *, is_line: bool) -> int:
        columns, join = origin
        made = self._con.execute(
            f"INSERT INTO {_ERASED_TABLE} SELECT _sha256, {str(is_line).lower()} "
            f"FROM (SELECT {columns} FROM (SELECT * FROM {rows_sql} WHERE {condition}){join})"
        ).fetchone()
        return int(made[0]) if made else 0

    def _value_pairs(self) -> list[str]:
        pairs: list[str] = []
        for column in self._contract.columns:
            name = quote_identifier(column.name)
            is_protected = column.protected and self._key is not None
            value = protect_sql(name, column.protection, self._key) if is_protected and self._key else f"CAST({name} AS VARCHAR)"
            pairs.append(f"{quote_literal(column.source)}, {value}")
        return pairs

    def as_in_raw(self) -> str:
        """Every column, protected ones as raw has them: only so can their values be compared with raw's."""
        protected = [
            f"{sql} AS {quote_identifier(column.name)}"
            for column, sql in self._judge.as_stored()
            if column.protected and self._key is not None
        ]
        return f"* REPLACE ({', '.join(protected)})" if protected else "*"

    # ---- what came of one file

    def quarantined(self) -> dict[str, int]:
        """How many rows of each file are bad, by its SHA-256."""
        return self._by_file(BAD_TABLE)

    def erased(self) -> dict[str, int]:
        """How many rows of each file were of people who were erased, by its SHA-256."""
        return self._by_file(_ERASED_TABLE)

    def forget(self, original: Original) -> None:
        """Leave nothing of a file behind."""
        for table in (GOOD_TABLE, BAD_TABLE, _ERASED_TABLE):
            self._con.execute(f"DELETE FROM {table} WHERE {of_file(original)}")

    def forget_judgement(self, original: Original) -> None:
        """Leave of a file only records that are none: they were counted when it was read."""
        self._con.execute(f"DELETE FROM {GOOD_TABLE} WHERE {of_file(original)}")
        self._con.execute(f"DELETE FROM {BAD_TABLE} WHERE {of_file(original)} AND NOT list_contains(rules, {quote_literal(SHAPE_RULE)})")
        self._con.execute(f"DELETE FROM {_ERASED_TABLE} WHERE {of_file(original)} AND NOT is_line")

    def _by_file(self, table: str) -> dict[str, int]:
        return dict(self._con.execute(f"SELECT _sha256, count(*) FROM {table} GROUP BY _sha256").fetchall())


def of_file(original: Original) -> str:
    """The condition that finds a file's rows."""
    return f"_sha256 = {quote_literal(original.sha256)}"


def _file_name(original: Original) -> str:
    return original.path.name.replace("\0", "")
