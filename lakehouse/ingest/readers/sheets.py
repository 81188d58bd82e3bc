"""Excel and OpenDocument sheets, and PDF pages, as text columns."""

import csv
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb

from lakehouse.errors import MissingExtra
from lakehouse.ingest.readers.chunks import Chunk, Select, create_in_order, drop, new_name, plain_csv, rejects_table
from lakehouse.ingest.readers.delimited import clean_names
from lakehouse.ingest.readers.formats import MAX_COLUMNS, MAX_DOCUMENT_BYTES, FileFormat, refused
from lakehouse.sql import quote_identifier

Cell = int | float | str | bool | time | date | datetime | timedelta


def read_sheet(
    con: duckdb.DuckDBPyConnection, path: Path, plain: Path, *, file_format: FileFormat, select: Select, scratch: Path
) -> Iterator[Chunk]:
    """The rows of one sheet below its first row that isn't empty: the named sheet, or the first with data.

    Empty rows between others are rows of nothing: what they mean is the contract's to say.

    Raises:
        FileRefused: damaged, protected by a password, or the sheet does not exist.
    """
    rows = _rows(path, plain, file_format.sheet)
    if not rows:
        raise refused(path, "no sheet holds data", fix="Deliver the file again")
    header = [_text(cell) or "" for cell in rows[0]]
    while header and not header[-1].strip() and all(len(row) < len(header) or row[len(header) - 1] == "" for row in rows[1:]):
        header.pop()
    if len(header) > MAX_COLUMNS:
        raise refused(path, "has too many columns", expected=f"at most {MAX_COLUMNS}", found=str(len(header)))
    width = len(header)
    texts = ([_text(row[position]) if position < len(row) else None for position in range(width)] for row in rows[1:])
    yield from _loaded(con, clean_names(header), texts, select, scratch)


def _rows(path: Path, plain: Path, sheet: str | None) -> list[list[Cell]]:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, WorksheetNotFound

    if plain.stat().st_size > MAX_DOCUMENT_BYTES:
        raise refused(
            path, "is too large for a workbook", expected=f"at most {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB", fix="Deliver it as CSV"
        )
    try:
        with CalamineWorkbook.from_path(str(plain)) as workbook:
            names = [sheet] if sheet is not None else workbook.sheet_names
            for name in names:
                if rows := _filled(workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)):
                    return rows
            return []
    except WorksheetNotFound as error:
        raise refused(path, f"has no sheet {sheet!r}", fix="Correct lakehouse.sheet") from error
    except PasswordError as error:
        raise refused(path, "is protected by a password", fix="Deliver it without one") from error
    except (CalamineError, OSError, ValueError) as error:
        raise refused(path, f"is not a readable spreadsheet: {error}", fix="Save it again, or deliver it as CSV") from error


def _filled(rows: list[list[Cell]]) -> list[list[Cell]]:
    """From the first to the last row with a value: an empty row between them is a row."""
    filled = [position for position, row in enumerate(rows) if any(cell != "" for cell in row)]
    return rows[filled[0] : filled[-1] + 1] if filled else []


def _text(cell: Cell | None) -> str | None:
    """A cell as it would stand in a CSV file."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        is_date = (cell.hour, cell.minute, cell.second, cell.microsecond) == (0, 0, 0, 0)
        return cell.date().isoformat() if is_date else cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)


def read_pdf(con: duckdb.DuckDBPyConnection, path: Path, plain: Path, *, select: Select, scratch: Path) -> Iterator[Chunk]:
    """The pages of a PDF: their number and text.

    Raises:
        MissingExtra: pypdf is not installed.
        FileRefused: damaged, or protected by a password.
    """
    yield from _loaded(con, ("page", "text"), _pages(path, plain), select, scratch)


def _pages(path: Path, plain: Path) -> list[list[str | None]]:
    try:
        import logging

        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise MissingExtra("PDF files", "need pypdf", fix="Install it with: pip install 'lakehouse[documents]'") from error
    # pypdf reports each thing it repairs; the text is what counts.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    pages: list[list[str | None]] = []
    try:
        reader = PdfReader(plain)
        if reader.is_encrypted and not reader.decrypt(""):
            raise refused(path, "is protected by a password", fix="Deliver it without one")
        for number, page in enumerate(reader.pages, start=1):
            pages.append([str(number), page.extract_text().replace("\0", "")])
    except PyPdfError as error:
        raise refused(path, f"is not a readable PDF: {error}", fix="Save it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, AssertionError, ZeroDivisionError) as error:
        # What pypdf raises by accident on damaged objects.
        raise refused(path, f"is not a readable PDF: {type(error).__name__} {error}", fix="Save it again") from error
    if not pages:
        raise refused(path, "the PDF has no pages", fix="Save it again")
    return pages


def _loaded(
    con: duckdb.DuckDBPyConnection,
    names: tuple[str, ...],
    rows: "Iterator[list[str | None]] | Sequence[list[str | None]]",
    select: Select,
    scratch: Path,
) -> Iterator[Chunk]:
    path = scratch / f"{new_name('cells')}.csv"
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for number, row in enumerate(rows, start=1):
            writer.writerow([*row, number])
    table = new_name("cells")
    if path.stat().st_size:
        relation = plain_csv(path, {**dict.fromkeys(names, "VARCHAR"), "_row": "BIGINT"})
    else:
        nothing = ", ".join(f"NULL::VARCHAR AS {quote_identifier(name)}" for name in names)
        relation = f"(SELECT {nothing}, NULL::BIGINT AS _row WHERE false)"
    count = create_in_order(con, table, select(names, relation, True))
    path.unlink()
    listed = rejects_table(con, (), scratch)
    yield Chunk(names, f"(SELECT * FROM {quote_identifier(table)})", count, (), quote_identifier(listed))
    drop(con, table, listed)
