"""Parquet as text columns."""

from collections.abc import Generator
from pathlib import Path

import duckdb

from lakehouse.ingest.readers.chunks import Chunk, Select, create_in_order, drop, new_name, rejects_table
from lakehouse.ingest.readers.delimited import clean_names
from lakehouse.ingest.readers.formats import MAX_COLUMNS, refused
from lakehouse.ingest.readers.jsonrecords import first_line
from lakehouse.sql import quote_identifier, quote_literal

# Rows held as text at once.
_PIECE_ROWS = 2_000_000
_MAGIC = b"PAR1"


def read_parquet(con: duckdb.DuckDBPyConnection, path: Path, plain: Path, *, select: Select, scratch: Path) -> Generator[Chunk]:
    """The rows of a Parquet file; nested values as JSON text, bytes as their escaped text.

    Raises:
        FileRefused: damaged, encrypted, or of a kind DuckDB can't read.
    """
    _check_frame(path, plain)
    source = f"read_parquet({quote_literal(str(plain))}, file_row_number=true)"
    try:
        described = con.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {source}").fetchall()
        counted = con.execute(f"SELECT num_rows FROM parquet_file_metadata({quote_literal(str(plain))})").fetchone()
    except duckdb.Error as error:
        raise _damaged(path, error) from error
    if len(described) > MAX_COLUMNS:
        raise refused(path, "has too many columns", expected=f"at most {MAX_COLUMNS}", found=str(len(described)))
    names = clean_names([row[0] for row in described])
    columns = ", ".join(f"{_text(row[0], str(row[1]))} AS {quote_identifier(name)}" for row, name in zip(described, names, strict=True))
    total = int(counted[0]) if counted else 0
    listed = rejects_table(con, (), scratch)
    done = 0
    for begin in range(0, max(total, 1), _PIECE_ROWS):
        where = f"WHERE file_row_number >= {begin} AND file_row_number < {begin + _PIECE_ROWS}" if total > _PIECE_ROWS else ""
        relation = f"(SELECT {columns}, file_row_number + 1 AS _row FROM {source} {where})"
        table = new_name("parquet")
        try:
            rows = create_in_order(con, table, select(names, relation, True))
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise _damaged(path, error) from error
        done += rows
        yield Chunk(names, f"(SELECT * FROM {quote_identifier(table)})", rows, (), quote_identifier(listed))
        drop(con, table)
    drop(con, listed)
    if done != total:
        raise refused(path, "its footer and its data disagree", expected=f"{total} rows", found=str(done), fix="Write the file again")


def _check_frame(path: Path, plain: Path) -> None:
    """The two ends of the file, before native code parses what is between them."""
    size = plain.stat().st_size
    with plain.open("rb") as file:
        start = file.read(4)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if start == b"PARE" or end[4:] == b"PARE":
        raise refused(path, "the Parquet file is encrypted", fix="Deliver it unencrypted")
    if size < 12 or start != _MAGIC or end[4:] != _MAGIC:
        raise refused(path, "is not a complete Parquet file: its end is missing or damaged", fix="Deliver the file again")
    footer = int.from_bytes(end[:4], "little")
    if footer > size - 12:
        raise refused(path, "its footer is longer than the file", found=f"{footer} bytes of {size}", fix="Deliver the file again")


def _text(name: str, kind: str) -> str:
    column = quote_identifier(name)
    if kind.startswith(("STRUCT", "MAP", "VARIANT")) or kind.endswith("]"):
        return f"to_json({column})::VARCHAR"
    return f"CAST({column} AS VARCHAR)"


def _damaged(path: Path, error: duckdb.Error) -> Exception:
    return refused(path, f"the Parquet file can't be read: {first_line(error)}", fix="Write the file again")
