"""The rows of one look at a source table: which of them are new, and the page that they make. All of it is SQL over files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb

from lakehouse.durable import PRIVATE
from lakehouse.errors import SourceError
from lakehouse.ingest.readers.formats import MAX_RECORD_BYTES
from lakehouse.ingest.sources.postgres_types import TableColumn
from lakehouse.sql import quote_identifier, quote_literal

# DuckDB's own buffers are sixteen times the longest row, and it holds some of them.
_BUFFER = 2 * MAX_RECORD_BYTES
# Behind the last column: a row of one column without a value would be a blank line.
ROW_END = "."
_KEPT_BEHIND = 1.25


@dataclass(frozen=True, slots=True)
class Fresh:
    """How many rows a look brought: new or changed, and gone."""

    rows: int
    gone: int


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows as text in a Parquet file, which become a page with types.

    Attributes:
        columns: of the table, in the page's order, with their names in the page.
        key: those that tell rows apart; needed to say which rows are gone.
        doubtful: columns that may have values of another type than they have now.
    """

    con: duckdb.DuckDBPyConnection
    columns: Mapping[str, TableColumn]
    key: Sequence[str]
    staged: Path
    known: Path | None
    doubtful: Collection[str] = ()

    @property
    def source(self) -> str:
        """The staged rows, as a relation."""
        return f"read_parquet({quote_literal(str(self.staged))})"

    @property
    def placed(self) -> str:
        """The staged rows, with `file_row_number`."""
        return f"read_parquet({quote_literal(str(self.staged))}, file_row_number=true)"

    def one(self, query: str) -> int:
        """The query's one number."""
        row = self.con.execute(query).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def kept_types(self, relation: str) -> dict[str, str]:
        """The types of all columns."""
        return {name: self.kept_type(name, relation) for name in self.columns}

    def kept_type(self, name: str, relation: str) -> str:
        """A column's type, or text where one of the rows has a value that the type can't hold: it is judged like any other."""
        column, quoted = self.columns[name], quote_identifier(name)
        unfit = column.unfit(quoted)
        if unfit is None and name in self.doubtful and column.kept is not None:
            unfit = f"({quoted} IS NOT NULL AND TRY_CAST({quoted} AS {column.kept}) IS NULL)"
        if unfit and self.one(f"SELECT count(*) FROM {relation} WHERE {unfit}"):
            return "VARCHAR"
        return column.kept or "VARCHAR"

    def typed(self, name: str, kept: str) -> str:
        """SQL of a column's values with their type."""
        quoted = quote_identifier(name)
        return quoted if kept == "VARCHAR" else f"CAST({quoted} AS {kept})"

    def gone(self, kept: Mapping[str, str]) -> list[str]:
        """SQL of the columns of rows that are gone: their key alone."""
        return [self.typed(name, kept[name]) if name in self.key else f"CAST(NULL AS {kept[name]})" for name in self.columns]

    def copy(self, query: str, target: Path, *, marks: Mapping[str, str] | None = None) -> None:
        """Write what a query gives as Parquet; `marks` make two files of the same rows differ."""
        target.unlink(missing_ok=True)
        # Readable by its owner alone from its first byte on: nothing in it is protected yet.
        target.touch(mode=PRIVATE)
        metadata = ", ".join(f"{name}: {quote_literal(value)}" for name, value in (marks or {}).items())
        options = f", KV_METADATA {{{metadata}}}" if metadata else ""
        self.con.execute(f"COPY ({query}) TO {quote_literal(str(target))} (FORMAT parquet, COMPRESSION zstd{options}, USE_TMP_FILE false)")


def stage(
    con: duckdb.DuckDBPyConnection,
    rows: Path,
    expected: int,
    *,
    columns: Collection[str],
    added: Sequence[str] = (),
    replaced: Sequence[str] = (),
    what: str,
) -> Path:
    """Read CSV as PostgreSQL writes it into a Parquet file beside it, every column as text.

    Args:
        con: a connection.
        rows: lines of the columns and `ROW_END`.
        expected: how many.
        columns: their names.
        added: further columns, as SQL over these.
        replaced: columns in another form, as SQL.
        what: they are of, for people.

    Raises:
        SourceError: a row is too long, or they are not as many as the server said.
    """
    staged = rows.with_suffix(".parquet")
    types = ", ".join(f"{quote_literal(name)}: 'VARCHAR'" for name in (*columns, "__end"))
    # One thread: a line break inside a value can't be told from the end of a row by one that begins in the middle.
    read = (
        f"read_csv({quote_literal(str(rows))}, auto_detect=false, header=false, delim=',', quote='\"', escape='\"', new_line='\\n', "
        f"nullstr='', allow_quoted_nulls=false, parallel=false, strict_mode=true, "
        f"max_line_size={MAX_RECORD_BYTES}, buffer_size={_BUFFER}, columns={{{types}}})"
    )
    instead = f" REPLACE ({', '.join(replaced)})" if replaced else ""
    selected = ", ".join([f"* EXCLUDE (__end){instead}", *added])
    try:
        con.execute(f"COPY (SELECT {selected} FROM {read}) TO {quote_literal(str(staged))} (FORMAT parquet, COMPRESSION zstd)")
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        fix = "Leave the long values out: by a view, or take their column out of the contract"
        raise SourceError(what, "has rows that can't be read", found=str(error).splitlines()[0], fix=fix) from error
    counted = con.execute(f"SELECT count(*) FROM read_parquet({quote_literal(str(staged))})").fetchone()
    found = int(counted[0]) if counted else 0
    if found != expected:
        raise SourceError(what, "was not read as a whole", expected=f"{expected:,} rows", found=f"{found:,}")
    return staged


@dataclass(frozen=True, slots=True)
class LookedAt(StagedRows):
    """The rows of a look, staged as text beside a digest each.

    A row is told by the digest of all its values and, where a table has the same row several times, by its number among them.
    """

    @classmethod
    def stage(
        cls,
        con: duckdb.DuckDBPyConnection,
        rows: Path,
        expected: int,
        *,
        columns: Mapping[str, TableColumn],
        key: Sequence[str],
        known: Path | None,
        what: str,
    ) -> "LookedAt":
        """Read the CSV that the server wrote.

        Raises:
            SourceError: a row is too long, or they are not as many as the server said.
        """
        names = ", ".join(quote_identifier(name) for name in columns)
        digest = f"md5(CAST(to_json([{names}]) AS VARCHAR)) AS __digest"
        return cls(con, columns, key, stage(con, rows, expected, columns=columns, added=[digest], what=what), known)

    def newest(self, name: str) -> str | None:
        """The newest value of a watermark, as DuckDB writes it; infinity is none."""
        column = self.columns[name]
        value = f"TRY_CAST({quote_identifier(name)} AS {column.kept})"
        finite = f"WHERE isfinite({value})" if column.is_time else ""
        row = self.con.execute(f"SELECT CAST(max({value}) AS VARCHAR) FROM {self.source} {finite}").fetchone()
        return str(row[0]) if row and row[0] is not None else None

    def chosen(self, function: Literal["least", "greatest"], one: str, other: str, name: str) -> str:
        """One of two values of a column."""
        values = ", ".join(f"CAST({quote_literal(value)} AS {self.columns[name].kept})" for value in (one, other))
        row = self.con.execute(f"SELECT CAST({function}({values}) AS VARCHAR)").fetchone()
        return str(row[0]) if row else one

    def compare(self) -> Fresh:
        """Find out which rows are new, and which are gone."""
        seen = self._known()
        self.con.execute(
            f"CREATE OR REPLACE TEMP TABLE look_fresh AS SELECT __place FROM ({self._numbered()}) ANTI JOIN {seen} USING (__digest, __n)"
        )
        fresh = self.one("SELECT count(*) FROM look_fresh")
        gone = 0
        if self.key and self.known is not None:
            keys = ", ".join(quote_identifier(name) for name in self.key)
            same = " AND ".join(f"now.{quote_identifier(name)} IS NOT DISTINCT FROM was.{quote_identifier(name)}" for name in self.key)
            gone_sql = f"SELECT DISTINCT {keys} FROM {seen} was WHERE NOT EXISTS (SELECT 1 FROM {self.source} now WHERE {same})"
            self.con.execute(f"CREATE OR REPLACE TEMP TABLE look_gone AS {gone_sql}")
            gone = self.one("SELECT count(*) FROM look_gone")
        return Fresh(fresh, gone)

    def write_page(
        self,
        target: Path,
        fresh: Fresh,
        *,
        order_by: str | None,
        deleted_as: str | None,
        marks: Mapping[str, str],
        position: tuple[str, int] | None = None,
    ) -> None:
        """Write the new rows, and those that are gone if there is a column that says so; `marks` make two pages differ.

        Args:
            target: where to.
            fresh: what `compare` found.
            order_by: one of the columns.
            deleted_as: column that is true for rows that are gone.
            marks: metadata of the file.
            position: a column with the same number in each row.
        """
        relation = f"(SELECT * FROM {self.placed} SEMI JOIN look_fresh ON __place = file_row_number)"
        kept = self.kept_types(relation)
        query = f"SELECT {', '.join(f'{self.typed(name, kept[name])} AS {quote_identifier(name)}' for name in self.columns)}"
        if deleted_as is not None:
            query += f", false AS {quote_identifier(deleted_as)}"
        query += f", file_row_number AS __place FROM {relation}"
        if deleted_as is not None and fresh.gone:
            query += f" UNION ALL SELECT {', '.join(self.gone(kept))}, true, NULL FROM look_gone"
        order = f"{quote_identifier(order_by)} NULLS FIRST, __place" if order_by else "__place NULLS FIRST"
        also = f", {position[1]}::BIGINT AS {quote_identifier(position[0])}" if position else ""
        self.copy(f"SELECT * EXCLUDE (__place){also} FROM ({query}) ORDER BY {order}", target, marks=marks)

    def write_keys(self, target: Path) -> None:
        """Write the key of every row."""
        keys = ", ".join(quote_identifier(name) for name in self.key)
        self.copy(f"SELECT DISTINCT {keys} FROM {self.source}", target)

    def write_known(self, target: Path, *, watermark: str | None = None, newest: str | None = None, overlap: float = 0.0) -> None:
        """Write what the next look will see again: everything, or what is not older than the newest watermark less the overlap."""
        keys = "".join(f", {quote_identifier(name)}" for name in self.key)
        where = ""
        if watermark is not None and newest is not None:
            column = self.columns[watermark]
            value = f"TRY_CAST({quote_identifier(watermark)} AS {column.kept})"
            begin = f"CAST({quote_literal(newest)} AS {column.kept})"
            # A little more than the server will be asked for: the two need not round alike.
            behind = overlap * _KEPT_BEHIND + 2
            begin = f"{begin} - to_seconds({behind:.6f})" if column.is_time else f"CAST({begin} AS HUGEINT) - {int(behind)}"
            where = f" WHERE {value} IS NULL OR {value} >= {begin}"
        watermark_column = f", {quote_identifier(watermark)}" if watermark is not None and watermark not in self.key else ""
        self.copy(f"SELECT __digest, __n{keys} FROM ({self._numbered(watermark_column)}){where}", target)

    def _numbered(self, more: str = "") -> str:
        """Each row by its digest and its number among equal ones."""
        keys = "".join(f", {quote_identifier(name)}" for name in self.key)
        return (
            f"SELECT __digest, row_number() OVER (PARTITION BY __digest) AS __n, file_row_number AS __place{keys}{more} FROM {self.placed}"
        )

    def _known(self) -> str:
        if self.known is None:
            return "(SELECT '' AS __digest, 0::BIGINT AS __n WHERE false)"
        return f"read_parquet({quote_literal(str(self.known))})"
