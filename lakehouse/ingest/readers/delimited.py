"""CSV and its kin: DuckDB reads slices of the file in parallel; a slice with strange records is read one by one instead.

Both ways give the same rows. A slice ends between two records, so that memory stays constant whatever the file's size, and
the order of the rows inside a slice gives every record its number without a (sequential) window over the file.
"""

import csv
import mmap
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lakehouse.ingest.readers.chunks import Chunk, Reject, Select, create_in_order, drop, new_name, numbered_sql, plain_csv, rejects_table
from lakehouse.ingest.readers.formats import MAX_COLUMNS, MAX_RECORD_BYTES, SAMPLE_BYTES, SLICE_BYTES, FileFormat, excerpt, refused
from lakehouse.ingest.readers.records import HAS_NUL, TOO_FEW, TOO_MANY, Dialect, lines_of, split_records
from lakehouse.sql import quote_identifier, quote_literal

# DuckDB judges these as the exact reader does; of any other reject the slice is read again by the exact one.
_PLAIN_REJECTS = {"MISSING COLUMNS": TOO_FEW, "TOO MANY COLUMNS": TOO_MANY}
# The whole slice is bad: its shape is not the header's, and reading it record by record would only list it.
_MAX_CSV_FIELD = 2 * MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file and where its first record begins."""

    names: tuple[str, ...]
    start: int


def clean_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Column names that differ even without regard to case: blanks get a number, repeats a suffix."""
    names: list[str] = []
    taken: set[str] = {"_row", "__at", "rowid"}
    for position, cell in enumerate(cells, start=1):
        base = cell.replace("\0", "").replace("\ufeff", "").strip() or f"column_{position}"
        name, count = base, 1
        while name.casefold() in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def layout_of(path: Path, plain: Path, file_format: FileFormat, expected: Sequence[str] = ()) -> Layout:
    """Find the header and the first record of a UTF-8 text.

    Args:
        path: the file as it is called in errors.
        plain: the same, unpacked and in UTF-8.
        file_format: its dialect.
        expected: names for a file without a header, in its order.

    Raises:
        FileRefused: no record, too long a first line, or too many columns.
    """
    with plain.open("rb") as file:
        head = file.read(MAX_RECORD_BYTES + SAMPLE_BYTES)
    start = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    for line in _first_lines(head[start:], file_format.skip_lines):
        start += len(line)
    if len(head) > MAX_RECORD_BYTES and b"\n" not in head[start:] and b"\r" not in head[start:]:
        raise refused(
            path,
            "its first line is longer than a record may be",
            expected=f"at most {MAX_RECORD_BYTES // (1024 * 1024)} MB",
            fix="Check the delimiter and the line ends",
        )
    dialect = dialect_of(path, file_format)
    position, cells = start, None
    widths: list[int] = []
    first = head[start : start + 4 * SAMPLE_BYTES]
    for record in split_records(first if b"\n" in first or b"\r" in first else head[start:], dialect, width=None):
        if cells is None and file_format.header:
            if record.fields is None:
                fix = "Deliver it as text, or under the extension of what it is" if record.reason == HAS_NUL else "Correct the first line"
                raise refused(path, f"its header {record.reason}", found=excerpt(record.text), fix=fix)
            cells = record.fields
            position = start + _offset_after(head[start:], record.size)
            continue
        if record.fields is not None:
            widths.append(len(record.fields))
        if len(widths) >= 1000:
            break
    if cells is None and not widths:
        raise refused(path, "holds no record", fix="Deliver the file again")
    usual = max(set(widths), key=widths.count) if widths else 0
    if cells is None:
        cells = list(expected) if len(expected) == usual else [f"column_{number}" for number in range(1, usual + 1)]
        position = start
    elif usual > len(cells) and widths.count(usual) >= 0.9 * len(widths):
        # Rows with more fields than the header names: an index column, or a delimiter at the end of every line.
        cells = [*cells, *([""] * (usual - len(cells)))]
    if len(cells) > MAX_COLUMNS:
        raise refused(path, "has too many columns", expected=f"at most {MAX_COLUMNS}", found=str(len(cells)), fix="Check the delimiter")
    return Layout(clean_names(cells), position)


def _first_lines(data: bytes, count: int) -> Iterator[bytes]:
    for line, _ in zip(lines_of(data), range(count), strict=False):
        yield line


def _offset_after(data: bytes, size: int) -> int:
    """Bytes up to the end of the first record, blank lines before it included."""
    blank = len(data) - len(data.lstrip(b"\r\n"))
    return blank + size


def dialect_of(path: Path, file_format: FileFormat) -> Dialect:
    """The dialect as the exact reader takes it.

    Raises:
        FileRefused: a delimiter or quote of more than one character.
    """
    for what, value in (("delimiter", file_format.delimiter), ("quote", file_format.quote or '"'), ("escape", file_format.escape or '"')):
        if len(value) != 1:
            raise refused(path, f"the contract's {what} must be one character", found=repr(value), fix="Correct servers[].delimiter")
    return Dialect(file_format.delimiter, file_format.quote, file_format.escape or file_format.quote, file_format.comment)


def read_delimited(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    plain: Path,
    *,
    file_format: FileFormat,
    layout: Layout,
    select: Select,
    scratch: Path,
    slice_bytes: int = SLICE_BYTES,
) -> Generator[Chunk]:
    """The records of a UTF-8 text, slice by slice, each through `select` while it is read.

    Raises:
        FileRefused: a record is longer than a slice.
    """
    dialect = dialect_of(path, file_format)
    offset = 0
    # Mapped, not read: the bytes are looked at once and copied by the system.
    with (
        plain.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ThreadPoolExecutor(1, "slices") as ahead,
    ):

        def cut(start: int) -> _Slice:
            end = _slice_end(path, data, start, slice_bytes, dialect)
            return _cut(file.fileno(), start, end, scratch / f"{new_name('slice')}.csv")

        following: Future[_Slice] | None = ahead.submit(cut, layout.start) if layout.start < len(data) else None
        while following is not None:
            piece = following.result()
            # Copying is the system's work: it goes on while this slice is read.
            following = ahead.submit(cut, piece.end) if piece.end < len(data) else None
            reading = _Reading(con, piece.path, dialect=dialect, names=layout.names, select=select, offset=offset)
            chunk = reading.fast(data, piece.start, piece.end) or reading.exact(data[piece.start : piece.end])
            offset += chunk.rows + len(chunk.rejects)
            # What was looked at need not stay in memory.
            data.madvise(mmap.MADV_DONTNEED, 0, piece.end - piece.end % mmap.PAGESIZE)
            try:
                yield chunk
            finally:
                reading.close()
                piece.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Slice:
    """Whole records of a file, from one byte to another, as a file of their own: DuckDB reads no part of a file."""

    path: Path
    start: int
    end: int


def _slice_end(path: Path, data: mmap.mmap, start: int, slice_bytes: int, dialect: Dialect) -> int:
    end = min(start + slice_bytes, len(data))
    if end < len(data):
        end = _last_record_end(data, start, end, dialect)
    if end == start:
        raise refused(
            path,
            f"no record ends within {slice_bytes // (1024 * 1024)} MB",
            found=f"from byte {start}",
            fix="Look for a quote that is never closed",
        )
    return end


def _cut(source: int, start: int, end: int, target: Path) -> _Slice:
    position = start
    with target.open("wb") as out:
        while position < end:
            position += os.sendfile(out.fileno(), source, position, end - position)
    return _Slice(target, start, end)


def _last_record_end(data: mmap.mmap, start: int, end: int, dialect: Dialect) -> int:
    """The end of the last record that surely ends there; `start` if none does."""
    line_end = b"\n" if data.find(b"\n", start, end) >= 0 else b"\r"
    quote = dialect.quote.encode()
    if not quote or data.find(quote, start, end) < 0:
        return data.rfind(line_end, start, end) + 1 or start
    # A line end inside quotes ends no record: where it is inside shows in the number of quotes before it.
    quotes = data[start:end].count(quote)
    position, after = end, 0
    while (found := data.rfind(line_end, start, position)) >= 0:
        after += data[found + 1 : position].count(quote)
        position = found
        if (quotes - after) % 2 == 0:
            return found + 1
    return start


class _Reading:
    """One slice, read the fast or the exact way."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, piece: Path, *, dialect: Dialect, names: tuple[str, ...], select: Select, offset: int
    ) -> None:
        self._con = con
        self._piece = piece
        self._dialect = dialect
        self._names = names
        self._select = select
        self._scratch = piece.parent
        self._offset = offset
        self._tables: list[str] = []

    def fast(self, data: mmap.mmap, start: int, end: int) -> Chunk | None:
        """By DuckDB in parallel; None where only the exact reader can tell the records."""
        if self._dialect.comment or data.find(b"\0", start, end) >= 0:
            return None
        quote = self._dialect.quote.encode()
        if quote and data.find(quote, start, end) >= 0 and _has_loose_quotes(data[start:end], self._dialect):
            return None
        errors, scans = new_name("errors"), new_name("scans")
        relation = (
            f"read_csv({quote_literal(str(self._piece))}, auto_detect=false, header=false, {self._dialect_sql()}, "
            f"columns={self._columns_sql()}, strict_mode=true, null_padding=false, store_rejects=true, rejects_limit=0, "
            f"rejects_table={quote_literal(errors)}, rejects_scan={quote_literal(scans)})"
        )
        table = self._table("slice")
        self._tables += [errors, scans]
        try:
            rows = create_in_order(self._con, table, self._select(self._names, relation, False))
        except (duckdb.InvalidInputException, duckdb.ConversionException):
            return None
        rejects = self._plain_rejects(errors, data, start, end)
        if rejects is None:
            self._con.execute(f"DROP TABLE {quote_identifier(table)}")
            return None
        return self._chunk(table, rows, rejects)

    def _plain_rejects(self, errors: str, data: mmap.mmap, start: int, end: int) -> list[Reject] | None:
        found = self._con.execute(
            f"SELECT line, any_value(error_type::VARCHAR), any_value(csv_line), count(DISTINCT error_type) "
            f"FROM {quote_identifier(errors)} GROUP BY line ORDER BY line"
        ).fetchall()
        if not found:
            return []
        # DuckDB counts blank lines as records: the numbers would be off.
        if any(kind not in _PLAIN_REJECTS or kinds > 1 for _, kind, _, kinds in found) or _has_blank_line(data[start:end]):
            return None
        width = len(self._names)
        return [Reject(self._offset + line, text.strip("\r\n"), _PLAIN_REJECTS[kind].format(width=width)) for line, kind, text, _ in found]

    def exact(self, data: bytes) -> Chunk:
        """Record by record: good ones are written as plain CSV, which DuckDB then reads."""
        rejects: list[Reject] = []
        clean = self._scratch / f"{new_name('clean')}.csv"
        number = self._offset
        csv.field_size_limit(_MAX_CSV_FIELD)
        with clean.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for number, record in enumerate(split_records(data, self._dialect, width=len(self._names)), start=self._offset + 1):
                if record.fields is None:
                    rejects.append(Reject(number, record.text, record.reason or ""))
                else:
                    writer.writerow(record.fields)
        table = self._table("slice")
        relation = plain_csv(clean, dict.fromkeys(self._names, "VARCHAR"))
        rows = create_in_order(self._con, table, self._select(self._names, relation, False)) if clean.stat().st_size else self._empty(table)
        clean.unlink()
        return self._chunk(table, rows, rejects)

    def _empty(self, table: str) -> int:
        nothing = ", ".join(f"NULL::VARCHAR AS {quote_identifier(name)}" for name in self._names)
        return create_in_order(self._con, table, self._select(self._names, f"(SELECT {nothing} WHERE false)", False))

    def _chunk(self, table: str, rows: int, rejects: list[Reject]) -> Chunk:
        listed = rejects_table(self._con, rejects, self._scratch)
        self._tables.append(listed)
        rows_sql = numbered_sql(self._con, table, offset=self._offset, rejects=rejects)
        return Chunk(self._names, rows_sql, rows, tuple(rejects), quote_identifier(listed))

    def _table(self, kind: str) -> str:
        name = new_name(kind)
        self._tables.append(name)
        return name

    def _columns_sql(self) -> str:
        return "{" + ", ".join(f"{quote_literal(name)}: 'VARCHAR'" for name in self._names) + "}"

    def _dialect_sql(self) -> str:
        return (
            f"delim={quote_literal(self._dialect.delimiter)}, quote={quote_literal(self._dialect.quote)}, "
            f"escape={quote_literal(self._dialect.escape if self._dialect.quote else '')}"
        )

    def close(self) -> None:
        """Drop what was made."""
        drop(self._con, *self._tables)


def _has_loose_quotes(data: bytes, dialect: Dialect) -> bool:
    """Blanks between a quote and a delimiter or line end: DuckDB takes some as part of the value and some not."""
    quote, delimiter = dialect.quote.encode(), dialect.delimiter.encode()
    if not quote or quote not in data:
        return False
    after = (quote + b" " + end for end in (delimiter, b"\n", b"\r", b" "))
    before = (start + b" " + quote for start in (delimiter, b"\n", b"\r", b" "))
    if quote in {data[:2].strip(b" "), data[-2:].strip(b" ")} and b" " in {data[:1], data[-1:]}:
        return True
    return any(pattern in data for pattern in (*after, *before))


def _has_blank_line(data: bytes) -> bool:
    return data[:1] in {b"\n", b"\r"} or any(blank in data for blank in (b"\n\n", b"\n\r\n", b"\r\r"))
