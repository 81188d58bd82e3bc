"""Any file as rows of text: the one entry to the readers."""

import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from lakehouse.ingest.readers.chunks import Chunk, Others, Select, as_text, new_name
from lakehouse.ingest.readers.columnar import read_parquet
from lakehouse.ingest.readers.delimited import layout_of, read_delimited
from lakehouse.ingest.readers.encoding import UTF8, transcode
from lakehouse.ingest.readers.formats import SLICE_BYTES, FileFormat, StagedFile, refused
from lakehouse.ingest.readers.jsonrecords import read_json
from lakehouse.ingest.readers.sheets import read_pdf, read_sheet
from lakehouse.ingest.readers.sniffing import sniff
from lakehouse.ingest.readers.unpacking import unpack
from lakehouse.sql import quote_identifier
from lakehouse.tables.spill import own_folder

if TYPE_CHECKING:
    from lakehouse.contracts import Column, Landing


@contextmanager
def scratch_folder(spill_dir: Path | None) -> Iterator[Path]:
    """A folder for what is unpacked or transcoded; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="reading-", dir=own_folder(spill_dir) if spill_dir is not None else None) as folder:
        yield Path(folder)


def read_chunks(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    *,
    select: Select = as_text,
    file_format: FileFormat | None = None,
    landing: "Landing | None" = None,
    columns: "Sequence[Column] | None" = None,
    others: Others = "ignore",
    spill_dir: Path | None = None,
    slice_bytes: int = SLICE_BYTES,
) -> Generator[Chunk]:
    """The file's records piece by piece, each piece in DuckDB; memory does not grow with the file.

    Args:
        con: a connection in UTC that does not preserve insertion order.
        path: the file.
        select: what is done to the records while they are read.
        file_format: as sniffed; None sniffs.
        landing: what the contract says about the file.
        columns: the contract's columns: which nested values to take from JSON, and the names of a file without a header.
        others: what becomes of keys of JSON records that no column leads to.
        spill_dir: where unpacked and transcoded copies are put for the time of reading.
        slice_bytes: how much of a large text file is read at once.

    Raises:
        FileRefused: the file can't be read as records; names the file, the place and the cause.
    """
    sources = [column.source for column in columns] if columns is not None else None
    shape = file_format or sniff(path, landing=landing, names=sources or ())
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(spill_dir))
        plain = path
        if shape.compression != "none":
            plain = scratch / "unpacked"
            unpack(path, shape.compression, plain)
        if shape.format == "parquet":
            yield from read_parquet(con, path, plain, select=select, scratch=scratch)
        elif shape.format == "excel":
            yield from read_sheet(con, path, plain, file_format=shape, select=select, scratch=scratch)
        elif shape.format == "pdf":
            yield from read_pdf(con, path, plain, select=select, scratch=scratch)
        else:
            plain = _as_utf8(path, plain, shape, scratch)
            if shape.format == "csv":
                layout = layout_of(path, plain, shape, sources or ())
                yield from (
                    read_delimited(
                        con, path, plain, file_format=shape, layout=layout, select=select, scratch=scratch, slice_bytes=slice_bytes
                    )
                    if plain.stat().st_size > layout.start
                    else _no_rows(con, layout.names, select)
                )
            else:
                records = landing.records if landing is not None else None
                yield from read_json(
                    con,
                    path,
                    plain,
                    file_format=shape,
                    sources=sources,
                    records=records,
                    select=select,
                    scratch=scratch,
                    others=others,
                    slice_bytes=slice_bytes,
                )


def _as_utf8(path: Path, plain: Path, shape: FileFormat, scratch: Path) -> Path:
    if shape.encoding in UTF8:
        return plain
    target = scratch / "transcoded"
    damaged = transcode(plain, shape.encoding, target)
    if damaged and shape.format == "json":
        raise refused(path, f"has {damaged} places that are not {shape.encoding}", fix="Deliver it in UTF-8")
    return target


def _no_rows(con: duckdb.DuckDBPyConnection, names: Sequence[str], select: Select) -> Generator[Chunk]:
    """A header without records: an empty piece, so that the columns are known."""
    nothing = ", ".join(f"NULL::VARCHAR AS {quote_identifier(name)}" for name in names)
    rows = f"({select(names, f'(SELECT {nothing}, NULL::BIGINT AS _row WHERE false)', True)})"
    yield Chunk(tuple(names), rows, 0, (), "(SELECT NULL::BIGINT AS _row, NULL::VARCHAR AS record, NULL::VARCHAR AS reason WHERE false)")


def stage(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    *,
    file_format: FileFormat | None = None,
    landing: "Landing | None" = None,
    columns: "Sequence[Column] | None" = None,
    spill_dir: Path | None = None,
) -> StagedFile:
    """The whole file as one temporary table of text, for looking at it: inference and predictions of a file.

    Raises:
        FileRefused: the file can't be read as records.
    """
    shape = file_format or sniff(path, landing=landing, names=[column.source for column in columns or ()])
    rows_name, rejects_name = new_name("staged"), new_name("staged_rejects")
    relation, rejects = quote_identifier(rows_name), quote_identifier(rejects_name)
    con.execute(f"CREATE TEMP TABLE {rejects} (_row BIGINT, record VARCHAR, reason VARCHAR)")
    names: tuple[str, ...] = ()
    total = 0
    with closing(read_chunks(con, path, file_format=shape, landing=landing, columns=columns, spill_dir=spill_dir)) as chunks:
        for chunk in chunks:
            if not names:
                names = chunk.names
                con.execute(f"CREATE TEMP TABLE {relation} AS SELECT * FROM {chunk.rows_sql} WHERE false")
            con.execute(f"INSERT INTO {relation} BY NAME SELECT * FROM {chunk.rows_sql}")
            con.execute(f"INSERT INTO {rejects} SELECT * FROM {chunk.rejects_sql}")
            total += chunk.rows + len(chunk.rejects)
    if not names:
        raise refused(path, "holds no record", fix="Deliver the file again")
    return StagedFile(rows_name, names, total, rejects_name, shape)
