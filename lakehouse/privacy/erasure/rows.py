"""One person's rows in Parquet files: which files have some, and the same file without them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.sql import glob_escape
from lakehouse.tables.statistics import file_statistics
from lakehouse.tables.types import TableColumn, delta_type
from lakehouse.tables.writing import PARQUET_OPTIONS

_FILE = "__lakehouse_erase_file"
_MOST_FILES = 500


@dataclass(frozen=True, slots=True)
class Manner:
    """How a table's rows are taken to be somebody's.

    Attributes:
        shares_columns: its columns mean what those of the subject's dataset of the same name mean.
        whole_cells: a cell that is one of the subject's words makes the row theirs; otherwise it is only masked.
        any_mention: a text that mentions the subject makes the row theirs (rows kept as they arrived).
        by_origin: rows whose origin is one of the subject's are theirs, whatever they say: an edit may have filled in who they are about.
        older_than: rows whose time in this column is before the instant go, whoever's they are.
    """

    shares_columns: bool = False
    whole_cells: bool = True
    any_mention: bool = False
    by_origin: bool = False
    older_than: tuple[str, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a file has of the subject: rows that are theirs, and other rows that mention them."""

    address: str
    rows: int
    theirs: int
    mentions: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A file without the subject: where it is, its rows, and the statistics of a Delta add action."""

    path: Path
    rows: int
    size_bytes: int
    stats: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """The columns that some files have in common."""

    columns: tuple[tuple[str, str], ...]

    def texts(self) -> list[str]:
        """Columns that can hold text, nested ones too."""
        return [name for name, kind in self.columns if _is_text(kind)]

    def as_text(self, name: str) -> str:
        """The column as one text."""
        kind = dict(self.columns)[name]
        quoted = quote_identifier(name)
        if kind == "VARCHAR":
            return quoted
        if kind == "BLOB":
            # Bytes that are no text come out as escapes, which keep the letters between them.
            return f"CAST({quoted} AS VARCHAR)"
        return f"CAST(to_json({quoted}) AS VARCHAR)"


def _is_text(kind: str) -> bool:
    return "VARCHAR" in kind or "BLOB" in kind or kind == "JSON"


def find_rows(con: duckdb.DuckDBPyConnection, addresses: Sequence[str], who: Identifiers, manner: Manner) -> Iterator[Found]:
    """Those of the files that have rows of the subject, or mention them."""
    for shape, group in _by_shape(con, addresses):
        theirs, mentions = _theirs(shape, who, manner), _mentions(shape, who)
        for start in range(0, len(group), _MOST_FILES):
            part = group[start : start + _MOST_FILES]
            sql = (
                f"SELECT {_FILE}, count(*), count(*) FILTER ({theirs}), count(*) FILTER (NOT ({theirs}) AND {mentions}) "
                f"FROM {_read(part, with_file=True)} GROUP BY 1 HAVING count(*) FILTER ({theirs} OR {mentions}) > 0 ORDER BY 1"
            )
            for address, *counts in con.execute(sql).fetchall():
                yield Found(str(address), *counts)


def theirs_sql(con: duckdb.DuckDBPyConnection, sql: str, who: Identifiers, manner: Manner) -> str:
    """A condition over the rows of a query that holds for those of the subject."""
    described = con.execute(f"DESCRIBE {sql}").fetchall()
    return _theirs(_Shape(tuple((str(row[0]), str(row[1])) for row in described)), who, manner)


def clean_file(
    con: duckdb.DuckDBPyConnection, address: str, target: Path, who: Identifiers, manner: Manner, *, blank: bool = False
) -> Cleaned:
    """Write a file's other rows, in their order, as `target`; mentions in them are masked.

    Args:
        con: reads and writes.
        address: of the file.
        target: a local path.
        who: the subject.
        manner: of the table it belongs to.
        blank: keep the subject's rows with nothing in them, so that the others keep their numbers.
    """
    [(shape, _)] = _by_shape(con, [address])
    texts = set(shape.texts())
    theirs = _theirs(shape, who, manner)
    selected: list[str] = []
    for name, kind in shape.columns:
        quoted = quote_identifier(name)
        value = f"CASE WHEN {_mentioned(shape.as_text(name), who)} THEN {_masked(shape, name, kind, who)} ELSE {quoted} END"
        kept = value if name in texts and who.words else quoted
        selected.append(f"CASE WHEN {theirs} THEN NULL ELSE {kept} END AS {quoted}" if blank else f"{kept} AS {quoted}")
    where = "" if blank else f" WHERE NOT ({theirs})"
    sql = f"SELECT {', '.join(selected)} FROM {_read([address])}{where}"
    con.execute("SET preserve_insertion_order = true")
    try:
        returned = con.execute(f"COPY ({sql}) TO {quote_literal(str(target))} ({PARQUET_OPTIONS}, RETURN_STATS)").fetchall()
    finally:
        con.execute("SET preserve_insertion_order = false")
    _, rows, size, _, statistics, *_ = returned[0]
    columns = _delta_columns(con, shape, address)
    return Cleaned(target, int(rows), int(size), file_statistics(int(rows), statistics or {}, columns))


def _theirs(shape: _Shape, who: Identifiers, manner: Manner) -> str:
    names = [name for name, _ in shape.columns]
    conditions = who.in_columns_sql(names) if manner.shares_columns else []
    if manner.whole_cells and not (manner.shares_columns and who.main in names):
        conditions += [who.is_word_sql(quote_identifier(name)) for name, kind in shape.columns if kind == "VARCHAR" and who.words]
    if manner.older_than is not None and manner.older_than[0] in names:
        column, instant = manner.older_than
        conditions.append(f"TRY_CAST({quote_identifier(column)} AS TIMESTAMPTZ) < {quote_literal(instant)}")
    if manner.any_mention:
        conditions.append(_mentions(shape, who))
    if manner.by_origin and who.rows and {"_sha256", "_row"} <= set(names):
        origins = ", ".join(f"({quote_literal(digest)}, {number})" for digest, number in sorted(who.rows))
        conditions.append(f"(_sha256, _row) IN ({origins})")
    return f"(({' OR '.join(conditions)}) IS TRUE)" if conditions else "false"


def _mentions(shape: _Shape, who: Identifiers) -> str:
    conditions = [_mentioned(shape.as_text(name), who) for name in shape.texts()] if who.words else []
    return f"(({' OR '.join(conditions)}) IS TRUE)" if conditions else "false"


def _mentioned(text_sql: str, who: Identifiers) -> str:
    return who.mentions_sql(text_sql)


def _masked(shape: _Shape, name: str, kind: str, who: Identifiers) -> str:
    text = who.masked_sql(shape.as_text(name))
    if kind == "VARCHAR":
        return text
    return "NULL" if kind == "BLOB" else f"CAST(CAST({text} AS JSON) AS {kind})"


def _by_shape(con: duckdb.DuckDBPyConnection, addresses: Sequence[str]) -> Iterator[tuple[_Shape, list[str]]]:
    """The files, those with the same columns together: one query reads them without guessing what a missing column means."""
    groups: dict[str, list[str]] = {}
    for start in range(0, len(addresses), _MOST_FILES):
        listed = ", ".join(quote_literal(glob_escape(address)) for address in addresses[start : start + _MOST_FILES])
        sql = (
            "SELECT file_name, md5(string_agg(concat_ws('|', name, type, repetition_type, num_children, converted_type, scale, precision, "
            f"CAST(logical_type AS VARCHAR)), ',')) FROM parquet_schema([{listed}]) GROUP BY 1 ORDER BY 1"
        )
        for address, digest in con.execute(sql).fetchall():
            groups.setdefault(digest, []).append(str(address))
    for group in groups.values():
        described = con.execute(f"DESCRIBE SELECT * FROM {_read(group[:1])}").fetchall()
        yield _Shape(tuple((str(row[0]), str(row[1])) for row in described)), group


def _read(addresses: Sequence[str], *, with_file: bool = False) -> str:
    listed = ", ".join(quote_literal(glob_escape(address)) for address in addresses)
    file = f", filename={quote_literal(_FILE)}" if with_file else ""
    return f"read_parquet([{listed}], hive_partitioning=false{file})"


def _delta_columns(con: duckdb.DuckDBPyConnection, shape: _Shape, address: str) -> list[TableColumn]:
    """The columns as Delta has them; one of a type that Delta has not gets no statistics."""
    relation = con.sql(f"SELECT * FROM {_read([address])} LIMIT 0")
    columns: list[TableColumn] = []
    for (name, _), kind in zip(shape.columns, relation.types, strict=True):
        try:
            columns.append(TableColumn(name, delta_type(kind)))
        except ValueError:
            continue
    return columns
