"""Excel and OpenDocument sheets, and PDF pages, as text columns; a process of its own takes the files apart."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from lakehouse.errors import FileRefused, MissingExtra
from lakehouse.ingest.readers import document_process
from lakehouse.ingest.readers.chunks import Chunk, Select, create_in_order, drop, new_name, plain_csv, rejects_table
from lakehouse.ingest.readers.delimited import clean_names
from lakehouse.ingest.readers.formats import MAX_COLUMNS, MAX_DOCUMENT_BYTES, MAX_RECORD_BYTES, FileFormat, refused
from lakehouse.sql import quote_identifier

_FIX_BY_HAND = "Open and save it again, or deliver it as CSV or Parquet"


@dataclass(frozen=True, slots=True)
class _Cells:
    """What the other process read: a CSV file of text, and how many cells its widest row has."""

    path: Path
    width: int

    def rows(self) -> Iterator[list[str]]:
        """Row by row, each as long as it is."""
        csv.field_size_limit(MAX_RECORD_BYTES)
        with self.path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file)


def read_sheet(
    con: duckdb.DuckDBPyConnection, path: Path, plain: Path, *, file_format: FileFormat, select: Select, scratch: Path
) -> Generator[Chunk]:
    """The rows of one sheet below its first row that isn't empty: the named sheet, or the first with data.

    Empty rows between others are rows of nothing: what they mean is the contract's to say.

    Raises:
        FileRefused: damaged, protected by a password, the sheet does not exist, or reading it would take the machine down.
    """
    if plain.stat().st_size > MAX_DOCUMENT_BYTES:
        raise refused(
            path, "is too large for a workbook", expected=f"at most {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB", fix="Deliver it as CSV"
        )
    cells = _taken_apart("sheet", path, plain, scratch, sheet=file_format.sheet)
    try:
        if cells.width > MAX_COLUMNS:
            raise refused(path, "has too many columns", expected=f"at most {MAX_COLUMNS}", found=str(cells.width))
        header = next(cells.rows())
        while header and not header[-1].strip() and all(len(row) < len(header) or not row[len(header) - 1] for row in _below(cells)):
            header.pop()
        width = len(header)
        texts = ([(row[position] or None) if position < len(row) else None for position in range(width)] for row in _below(cells))
        yield from _loaded(con, clean_names(header), texts, select, scratch)
    finally:
        cells.path.unlink()


def _below(cells: _Cells) -> Iterator[list[str]]:
    rows = cells.rows()
    next(rows)
    return rows


def read_pdf(con: duckdb.DuckDBPyConnection, path: Path, plain: Path, *, select: Select, scratch: Path) -> Generator[Chunk]:
    """The pages of a PDF: their number and text.

    Raises:
        MissingExtra: pypdf is not installed.
        FileRefused: damaged, protected by a password, or reading it would take the machine down.
    """
    cells = _taken_apart("pdf", path, plain, scratch)
    try:
        yield from _loaded(con, ("page", "text"), ([number, text or None] for number, text in cells.rows()), select, scratch)
    finally:
        cells.path.unlink()


def _taken_apart(kind: Literal["sheet", "pdf"], path: Path, plain: Path, scratch: Path, *, sheet: str | None = None) -> _Cells:
    """Have the other process read the file.

    Raises:
        MissingExtra: its library is not installed.
        FileRefused: the file can't be read, or the process did not survive it.
    """
    out = scratch / f"{new_name('cells')}.csv"
    command = [sys.executable, "-I", document_process.__file__, kind, str(plain), str(out), sheet or ""]
    # Libraries write their panics to stderr: what matters of them is that the process ended.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        out.unlink(missing_ok=True)
        raise _broken_down(path, done.returncode)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "width" in told:
        return _Cells(out, told["width"])
    out.unlink(missing_ok=True)
    if "missing" in told:
        raise MissingExtra("PDF files", f"need {told['missing']}", fix="Install it with: pip install 'lakehouse[documents]'")
    raise refused(path, told["problem"], fix=told["fix"])


def _broken_down(path: Path, code: int) -> FileRefused:
    """What to say of a process that did not live to say it itself."""
    memory = f"more than {document_process.MEMORY_BYTES // 1024**3} GB of memory"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return refused(path, "takes longer to read than any honest file of its size", fix=_FIX_BY_HAND)
    if code == -signal.SIGABRT:
        return refused(path, f"is damaged, or needs {memory} to be read (a cell far from the others is enough)", fix=_FIX_BY_HAND)
    return refused(path, "is damaged: its reader broke down", found=f"exit code {code}", fix=_FIX_BY_HAND)


def _loaded(
    con: duckdb.DuckDBPyConnection,
    names: tuple[str, ...],
    rows: "Iterator[list[str | None]] | Sequence[list[str | None]]",
    select: Select,
    scratch: Path,
) -> Generator[Chunk]:
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
