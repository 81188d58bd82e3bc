"""Delimited text cut into records one by one: slow and exact, for what the fast reader refuses to judge.

A record is bad when it has the wrong number of fields, bytes that are not text, a NUL, or a quoted value that never ends; then
only its first line is rejected, and reading goes on with the next line. Quotes inside a quoted value are forgiven where they
are paired and the number of fields is right.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lakehouse.ingest.readers.formats import MAX_RECORD_BYTES
from lakehouse.ingest.readers.sniffing import reader_options

TOO_FEW = "has fewer fields than the {width} columns"
TOO_MANY = "has more fields than the {width} columns"
NOT_TEXT = "has bytes that are not {encoding}"
HAS_NUL = "has a NUL character"
BAD_QUOTES = "has a quoted value that is not closed, or is followed by more text"
TOO_LONG = f"is longer than {MAX_RECORD_BYTES // (1024 * 1024)} MB"
# A quoted value with more line breaks than this is an unclosed quote that runs into its neighbours.
_MAX_LINES = 2000
_SHOWN = 100_000


@dataclass(frozen=True, slots=True)
class Dialect:
    """What separates fields."""

    delimiter: str
    quote: str
    escape: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Its text, its fields if it is one, the reason if it is none, and the bytes it takes."""

    text: str
    fields: list[str] | None
    reason: str | None
    size: int


def lines_of(data: bytes) -> Iterator[bytes]:
    """Lines with their ends; a lone carriage return ends a line where no line feed occurs."""
    if b"\n" not in data:
        yield from data.splitlines(keepends=True)
        return
    yield from io.BytesIO(data)


def split_records(data: bytes, dialect: Dialect, *, width: int | None) -> Iterator[Record]:
    """The records of a text, good and bad, in order; blank lines are no records (with one column they are an empty value).

    Args:
        data: UTF-8 text, perhaps damaged.
        dialect: what separates fields.
        width: the number of fields of a good record; None accepts any.
    """
    lines = _Lines(data)
    while (line := lines.next()) is not None:
        body = line.rstrip(b"\r\n")
        if not body and width != 1:
            continue
        if dialect.comment and body.startswith(dialect.comment.encode()):
            continue
        if len(body) > MAX_RECORD_BYTES:
            yield Record(_shown(body), None, TOO_LONG, len(line))
            continue
        text, whole = _text(body)
        if not whole:
            yield Record(text, None, NOT_TEXT.format(encoding="UTF-8"), len(line))
            continue
        if dialect.quote and dialect.quote in text:
            yield _quoted(line, lines, dialect, width)
            continue
        fields = text.split(dialect.delimiter)
        yield _judged(text, fields, width, len(line))


class _Lines:
    """Lines that can be given back."""

    def __init__(self, data: bytes) -> None:
        self._lines = lines_of(data)
        self._returned: list[bytes] = []

    def next(self) -> bytes | None:
        return self._returned.pop() if self._returned else next(self._lines, None)

    def give_back(self, lines: list[bytes]) -> None:
        self._returned.extend(reversed(lines))


def _quoted(first: bytes, lines: _Lines, dialect: Dialect, width: int | None) -> Record:
    """A record with quotes: it goes on over line breaks until its quotes are closed."""
    quote = dialect.quote.encode()
    taken: list[bytes] = []
    size = len(first)
    line: bytes | None = first
    open_quotes = False
    while line is not None:
        if taken:
            size += len(line)
        taken.append(line)
        open_quotes ^= bool(line.count(quote) % 2)
        # Parsing again after every line would be quadratic: only where the quotes may be closed.
        if len(taken) == 1 or not open_quotes or dialect.escape != dialect.quote:
            fields = _parsed(b"".join(taken), dialect)
            if isinstance(fields, list):
                text, whole = _text(b"".join(taken).rstrip(b"\r\n"))
                if not whole:
                    break
                return _judged(text, fields, width, size)
            if not fields:
                break
        if len(taken) > _MAX_LINES or size > MAX_RECORD_BYTES:
            break
        line = lines.next()
    lines.give_back(taken[1:])
    text, whole = _text(first.rstrip(b"\r\n"))
    if whole and (width is not None or len(taken) == 1) and (fields := _forgiven(text, dialect)) and len(fields) == (width or len(fields)):
        return _judged(text, fields, width, len(first))
    return Record(text, None, BAD_QUOTES if whole else NOT_TEXT.format(encoding="UTF-8"), len(first))


@lru_cache(maxsize=16)
def _patterns(dialect: Dialect) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """An opening quote, and a whole quoted value up to its delimiter; blanks around quotes are no part of the value."""
    quote, escape, delimiter = (re.escape(part) for part in (dialect.quote, dialect.escape, dialect.delimiter))
    inside = f"(?:[^{quote}]|{quote}{quote})*" if dialect.escape == dialect.quote else f"(?:[^{quote}{escape}]|{escape}.)*"
    return re.compile(f" *{quote}"), re.compile(f" *{quote}({inside}){quote} *(?:{delimiter}|\\Z)", re.DOTALL)


def _parsed(data: bytes, dialect: Dialect) -> list[str] | bool:
    """The fields of a record; True where its quotes are still open; False where they are wrong."""
    text = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
    opening, quoted = _patterns(dialect)
    fields: list[str] = []
    position = 0
    while True:
        if opening.match(text, position):
            whole = quoted.match(text, position)
            if whole is None:
                return _is_open(text, position, dialect)
            value = whole.group(1)
            fields.append(_unescaped(value, dialect))
            position = whole.end()
            if not whole.group(0).endswith(dialect.delimiter):
                return fields
            if position == len(text):
                return [*fields, ""]
            continue
        end = text.find(dialect.delimiter, position)
        if end < 0:
            return [*fields, text[position:]]
        fields.append(text[position:end])
        position = end + 1


def _is_open(text: str, position: int, dialect: Dialect) -> bool:
    """Whether the quote that opens here is still open at the end; otherwise it is closed and followed by more text."""
    opening, _ = _patterns(dialect)
    match = opening.match(text, position)
    quote, escape = re.escape(dialect.quote), re.escape(dialect.escape)
    inside = f"(?:[^{quote}]|{quote}{quote})*" if dialect.escape == dialect.quote else f"(?:[^{quote}{escape}]|{escape}.)*"
    return match is not None and re.compile(inside, re.DOTALL).fullmatch(text, match.end()) is not None


def _unescaped(value: str, dialect: Dialect) -> str:
    if dialect.escape == dialect.quote:
        return value.replace(dialect.quote * 2, dialect.quote)
    return re.sub(re.escape(dialect.escape) + "(.)", r"\1", value, flags=re.DOTALL)


def _forgiven(text: str, dialect: Dialect) -> list[str] | None:
    """The fields of one line whose quotes are not doubled but end where the line does (`"the "big" one",2`), as spreadsheets do."""
    last = text.rsplit(dialect.delimiter, 1)[-1]
    if text.count(dialect.quote) % 2 and not (text.endswith(dialect.quote) and len(last) > 1):
        return None
    try:
        rows = list(csv.reader([text], **reader_options(dialect.delimiter, dialect.quote, dialect.escape)))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _judged(text: str, fields: list[str], width: int | None, size: int) -> Record:
    if "\0" in text:
        return Record(text.replace("\0", "\\x00"), None, HAS_NUL, size)
    while width is not None and len(fields) > width and not fields[-1]:
        # Delimiters at the end of the line add nothing.
        fields = fields[:-1]
    if width is not None and len(fields) != width:
        return Record(_shown(text), None, (TOO_FEW if len(fields) < width else TOO_MANY).format(width=width), size)
    return Record(text, fields, None, size)


def _text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode("utf-8"), True
    except UnicodeDecodeError:
        return body.decode("utf-8", "backslashreplace"), False


def _shown(body: bytes | str) -> str:
    text = body[:_SHOWN].decode("utf-8", "backslashreplace") if isinstance(body, bytes) else body[:_SHOWN]
    return text if len(body) <= _SHOWN else text + "..."
