"""What a file is: format, compression, encoding and CSV dialect, from its first bytes and what the contract says."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.readers.encoding import detect_encoding
from lakehouse.ingest.readers.formats import MAX_RECORD_BYTES, SAMPLE_BYTES, FileFormat, Format, refused
from lakehouse.ingest.readers.unpacking import compression_of, sample

if TYPE_CHECKING:
    from lakehouse.contracts import Landing

_DELIMITERS = (",", ";", "\t", "|", "\x01", "^", "~")
# Inside values of other files: believed only where they cut every record into the same number of fields.
_WEAK_DELIMITERS = (":", " ")
_CLOCK = re.compile(r"\d:\d\d")
_PACKED = {".gz", ".gzip", ".bz2", ".zip", ".zst", ".zstd"}
_BY_EXTENSION: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".psv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
    ".pdf": "pdf",
}
_ALIASES: dict[str, Format] = {
    "csv": "csv",
    "tsv": "csv",
    "delimited": "csv",
    "text": "csv",
    "json": "json",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "jsonlines": "ndjson",
    "parquet": "parquet",
    "excel": "excel",
    "xlsx": "excel",
    "xls": "excel",
    "xlsb": "excel",
    "ods": "excel",
    "pdf": "pdf",
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NUMBER = re.compile(r"^[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?$")
_DATE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}.*)?$")
_YEAR = re.compile(r"^(1[5-9]|20)\d\d$")
_SAMPLE_RECORDS = 1000
# All but NUL, tab, line ends, form feed, escape (ISO-2022) and the separators that data files are cut by (\x01, \x1c to \x1f).
_CONTROL_BYTES = re.compile(rb"[\x02-\x08\x0b\x0e-\x1a]")
_DELIVER_AS_TEXT = "Deliver it as text, or under the ending of what it is (.parquet, .xlsx, .gz)"


def sniff(path: Path, *, landing: "Landing | None" = None, names: Sequence[str] = ()) -> FileFormat:
    """How to read the file: what the contract fixes, and the file's own bytes for the rest.

    Args:
        path: the file.
        landing: the contract's server entry.
        names: column names the contract expects; they tell a header from a first row.

    Raises:
        FileRefused: the file is missing, empty, no regular file, or a damaged archive.
    """
    if not path.exists():
        raise refused(path, "does not exist", found=str(path), fix="Check the path")
    if not path.is_file():
        raise refused(path, "is not a regular file", fix="Name a file, or a folder's files with a glob")
    if path.stat().st_size == 0:
        raise refused(path, "is empty (0 bytes)", fix="Deliver the file again")
    compression = compression_of(path)
    start = sample(path, compression, SAMPLE_BYTES)
    if not start:
        raise refused(path, f"the {compression} stream holds nothing", fix="Deliver the file again")
    kind = _format(path, start, landing)
    if kind in {"parquet", "excel", "pdf"}:
        return FileFormat(kind, compression, sheet=landing.sheet if landing else None)
    if kind == "csv" and _is_binary(start):
        raise refused(path, "is not text", found=f"control characters such as {_CONTROL_BYTES.findall(start)[0]!r}", fix=_DELIVER_AS_TEXT)
    encoding = detect_encoding(path, start, landing.encodings if landing else (), legacy=kind == "csv")
    text = start.decode(encoding, "replace").removeprefix("\ufeff")
    if len(start) == SAMPLE_BYTES:
        text = _whole_lines(text)
    if kind in {"json", "ndjson"}:
        return FileFormat(kind, compression, encoding)
    return _dialect(path, text, FileFormat("csv", compression, encoding), landing, names)


def _is_binary(start: bytes) -> bool:
    """Whether more than one byte in fifty is a control character that no text of any encoding has so many of (NUL: UTF-16 has)."""
    return len(_CONTROL_BYTES.findall(start)) * 50 > len(start)


def _format(path: Path, start: bytes, landing: "Landing | None") -> Format:  # noqa: PLR0911
    if landing is not None and landing.format:
        declared = _ALIASES.get(landing.format.lower())
        if declared is None:
            raise refused(
                path,
                f"the contract's format {landing.format!r} can't be read",
                expected=", ".join(_ALIASES),
                fix="Correct servers[].format",
            )
        if declared not in {"json", "ndjson"}:
            return declared
    if start.startswith(b"PAR1") or start.startswith(b"PARE"):
        return "parquet"
    if start.startswith(b"%PDF-"):
        return "pdf"
    if start.startswith((_OLE, b"PK\x03\x04")):
        return "excel"
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _PACKED]
    by_name = _BY_EXTENSION.get(suffixes[-1]) if suffixes else None
    if by_name in {"parquet", "excel", "pdf"}:
        return by_name
    declared = _ALIASES.get(landing.format.lower()) if landing is not None and landing.format else None
    if by_name in {"json", "ndjson"} or declared or (by_name is None and start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}):
        return _json_kind(start, declared or by_name)
    return "csv"


def _json_kind(start: bytes, said: Format | None) -> Format:
    """A document or one record per line: the name is often wrong, two complete records on two lines are not."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"[" and said != "ndjson":
        return "json"
    lines = [line.strip() for line in text.split(b"\n", 2)[:2]]
    if len(lines) == 2 and lines[0].startswith(b"{") and lines[0].endswith(b"}") and lines[1].startswith(b"{"):
        return "ndjson"
    return said or "json"


def _whole_lines(text: str) -> str:
    """Without the last line, which the end of the sample may have cut."""
    cut = max(text.rfind("\n"), text.rfind("\r"))
    return text[: cut + 1] if cut >= 0 else text


def _dialect(path: Path, text: str, base: FileFormat, landing: "Landing | None", names: Sequence[str]) -> FileFormat:
    if not text.strip("\r\n\t \ufeff"):
        raise refused(path, "holds nothing but blank lines", fix="Deliver the file again")
    if len(text) > MAX_RECORD_BYTES:
        raise refused(path, "its first line is longer than a record may be", expected=f"at most {MAX_RECORD_BYTES} bytes")
    skip = _preamble(text, landing)
    body = _after_lines(text, skip)
    quote = landing.quote if landing is not None and landing.quote is not None else _quote(body)
    escape = landing.escape if landing is not None and landing.escape else _escape(body, quote)
    delimiter = landing.delimiter if landing is not None and landing.delimiter else _delimiter(body, quote, escape, path)
    records = parse_sample(body, delimiter, quote, escape)
    header = landing.header if landing is not None and landing.header is not None else has_header(records, names)
    comment = str(landing.options["comment"]) if landing is not None and "comment" in landing.options else _comment(records)
    return FileFormat("csv", base.compression, base.encoding, delimiter, quote, escape, header, skip, comment)


def _preamble(text: str, landing: "Landing | None") -> int:
    """Lines before the table: as many as the contract says, or blank lines and lines that begin with #."""
    if landing is not None and landing.skip_rows:
        return landing.skip_rows
    skip = 0
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            return skip
        skip += 1
    # Nothing but comments: then they are the data.
    return 0


def _after_lines(text: str, count: int) -> str:
    for _ in range(count):
        match = re.search(r"\r\n|\n|\r", text)
        if match is None:
            return ""
        text = text[match.end() :]
    return text


def _quote(body: str) -> str:
    double = len(re.findall(r'(?:^|[^\w])"', body))
    single = len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n]|$)", body, re.MULTILINE))
    return "'" if single > 1 and double == 0 else '"'


def _escape(body: str, quote: str) -> str:
    if "\\" + quote in body and quote + quote not in body:
        return "\\"
    return quote


def parse_sample(body: str, delimiter: str, quote: str, escape: str) -> list[list[str]]:
    """The first records of a text, read leniently."""
    records: list[list[str]] = []
    try:
        reader = csv.reader(body.splitlines(keepends=True), **reader_options(delimiter, quote, escape))
        for record in reader:
            if record:
                records.append(record)
            if len(records) >= _SAMPLE_RECORDS:
                break
    except csv.Error:
        pass  # What can't be parsed here is judged record by record when the file is read.
    return records


def reader_options(delimiter: str, quote: str, escape: str, *, strict: bool = False) -> dict[str, Any]:
    """The dialect as csv.reader takes it."""
    options: dict[str, Any] = {"delimiter": delimiter, "strict": strict}
    if quote:
        options["quotechar"] = quote
        options["doublequote"] = escape == quote
        if escape and escape != quote:
            options["escapechar"] = escape
    else:
        options["quoting"] = csv.QUOTE_NONE
        options["quotechar"] = None
    return options


def _delimiter(body: str, quote: str, escape: str, path: Path) -> str:
    """The delimiter that cuts most records into the same number of fields, more fields breaking ties."""
    if path.suffix.lower() == ".tsv" and "\t" in body:
        return "\t"
    best, best_score = ",", 0.0
    for position, delimiter in enumerate(_DELIMITERS):
        if delimiter not in body:
            continue
        widths = Counter(len(record) for record in parse_sample(body, delimiter, quote, escape))
        if not widths:
            continue
        total = sum(widths.values())
        width, hits = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width < 2:
            continue
        # A colon is inside times and a comma inside decimals: the common delimiters win unless clearly less regular.
        score = (hits / total) ** 2 * (1 + min(width, 40) / 100) * (1 - position * 0.02)
        if score > best_score:
            best, best_score = delimiter, score
    if best_score == 0.0:
        for delimiter in _WEAK_DELIMITERS:
            widths = Counter(len(record) for record in parse_sample(body, delimiter, quote, escape))
            if len(widths) == 1 and max(widths) > 2 and sum(widths.values()) > 2 and not _CLOCK.search(body):
                return delimiter
    return best


def has_header(records: Sequence[Sequence[str]], names: Sequence[str] = ()) -> bool:
    """Whether the first record names the columns.

    It does unless one of its cells is a number or date above a column of numbers or dates (years may be names), or the
    contract expects names and the record has as many fields but none of them.
    """
    if not records:
        return True
    first = [cell.strip() for cell in records[0]]
    if names:
        known = {name.casefold() for name in names}
        if any(cell.casefold() in known for cell in first):
            return True
    for position, cell in enumerate(first):
        if not cell or _YEAR.match(cell) or not (_NUMBER.match(cell) or _DATE.match(cell)):
            continue
        below = [record[position].strip() for record in records[1:51] if position < len(record)]
        filled = [value for value in below if value]
        if filled and all(_NUMBER.match(value) or _DATE.match(value) for value in filled):
            return False
    return True


def _comment(records: Sequence[Sequence[str]]) -> str | None:
    """`#` where lines that begin with it are no records: they have another width than the others."""
    if len(records) < 2:
        return None
    width = Counter(len(record) for record in records).most_common(1)[0][0]
    marked = [record for record in records if record[0].startswith("#")]
    if marked and len(marked) < len(records) / 2 and not records[0][0].startswith("#") and all(len(record) != width for record in marked):
        return "#"
    return None
