"""One person's records in files as they arrived: blanked, so that every other record keeps its number."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.privacy.erasure.subject import Identifiers

_QUOTED_LINES = 200
"""A quote that is not closed within so many lines never opened a field."""
_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_DELIMITERS = b",;\t|"
_MARKS = {b"\xff\xfe\x00\x00": "utf-32-le", b"\x00\x00\xfe\xff": "utf-32-be", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Blanked:
    """A file's content without a subject, and how many of its records were theirs."""

    content: bytes
    records: int


def blank_records(content: bytes, who: Identifiers) -> Blanked:
    """The text file with the subject's records emptied: `{}` in JSON, empty fields in delimited text."""
    mark = next((mark for mark in _MARKS if content.startswith(mark)), None)
    if mark is not None:
        # Text of wide characters is looked at as UTF-8, and written as it was.
        encoding = _MARKS[mark]
        inner = blank_records(content[len(mark) :].decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass"), who)
        return Blanked(mark + inner.content.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass"), inner.records)
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    made = _blank_json(content, who) if start in (b"{", b"[") else _blank_delimited(content, who)
    # What is left stands outside of any record: in a header or a comment.
    return Blanked(who.masked_bytes(made.content), made.records)


# ---- JSON


def _blank_json(content: bytes, who: Identifiers) -> Blanked:
    out: list[bytes] = []
    end, count = 0, 0
    for first, last in _json_records(content):
        record = content[first:last]
        if _is_theirs(record, who) or _json_names(record, who):
            out += [content[end:first], b"{}"]
            end = last
            count += 1
    return Blanked(b"".join([*out, content[end:]]), count)


def _json_records(content: bytes) -> Iterator[tuple[int, int]]:
    """Where records begin and end: the outermost objects that are elements of a list, or stand by themselves."""
    stack: list[bytes] = []
    start = -1
    depth = -1
    alone: tuple[int, int] | None = None
    found_inside = False
    top = -1
    for token in _JSON.finditer(content):
        mark = token[0]
        if mark in (b"{", b"["):
            if mark == b"{":
                if not stack:
                    top, found_inside = token.start(), False
                elif depth < 0 and stack[-1] == b"[":
                    start, depth = token.start(), len(stack)
            stack.append(mark)
        elif mark in (b"}", b"]") and stack:
            stack.pop()
            if depth >= 0 and len(stack) == depth and mark == b"}":
                found_inside = True
                yield start, token.end()
                depth = -1
            if not stack and mark == b"}":
                alone = (top, token.end())
                if not found_inside:
                    yield alone


def _json_names(record: bytes, who: Identifiers) -> bool:
    """Whether a field that names subjects has this one's value: for values too short to be looked for anywhere."""
    if not _short_values(who):
        return False
    try:
        parsed = json.loads(record)
    except ValueError:
        return False
    return isinstance(parsed, dict) and any(_at(parsed, name) in values for name, values in who.columns.items())


def _at(record: dict[str, Any], path: str) -> str | None:
    if path in record:
        value: Any = record[path]
    else:
        value = record
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _short_values(who: Identifiers) -> bool:
    words = set(who.words)
    return any(value not in words for values in who.columns.values() for value in values)


# ---- delimited text


def _blank_delimited(content: bytes, who: Identifiers) -> Blanked:
    records = _delimited_records(content)
    first = next(records, b"")
    delimiter = max(_DELIMITERS, key=first.count)
    width = _fields(first, delimiter)
    header = [name.strip() for name in _split(first, delimiter)]
    places: Mapping[int, frozenset[str]] = {header.index(name): values for name, values in who.columns.items() if name in header}
    needs_fields = _short_values(who) and bool(places)
    out = [first]
    count = 0
    for record in records:
        if not (_is_theirs(record, who) or (needs_fields and _names(record, delimiter, places))):
            out.append(record)
            continue
        ending = record[len(record.rstrip(b"\r\n")) :]
        # A line of one empty field would be no record at all.
        out.append((bytes([delimiter]) * (width - 1) if width > 1 else b'""') + ending)
        count += 1
    return Blanked(b"".join(out), count)


def _delimited_records(content: bytes) -> Iterator[bytes]:
    """The records, each with its line break; a quoted field may go over lines."""
    lines = (
        content.splitlines(keepends=True) if b"\x0b" not in content and b"\x0c" not in content else re.findall(rb"[^\n]*\n|[^\n]+", content)
    )
    at = 0
    while at < len(lines):
        size = 1
        if b'"' in lines[at] and _is_open(lines[at]):
            joined = lines[at]
            for more in range(1, min(_QUOTED_LINES, len(lines) - at)):
                joined += lines[at + more]
                if b'"' in lines[at + more] and not _is_open(joined):
                    size = more + 1
                    break
        yield b"".join(lines[at : at + size])
        at += size


def _is_open(text: bytes) -> bool:
    """Whether a quoted field begins in the text and does not end in it."""
    at = 0
    while at < len(text):
        if text[at : at + 1] == b'"':
            end = at + 1
            while (end := text.find(b'"', end)) >= 0 and text[end + 1 : end + 2] == b'"':
                end += 2
            if end < 0:
                return True
            at = end + 1
        following = [found for one in _DELIMITERS if (found := text.find(one, at)) >= 0]
        if not following:
            return False
        at = min(following) + 1
    return False


def _fields(record: bytes, delimiter: int) -> int:
    return len(_split(record, delimiter))


def _split(record: bytes, delimiter: int) -> list[str]:
    text = record.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").rstrip("\r\n").replace("\0", "")
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=chr(delimiter)), [""])
    except csv.Error:
        return text.split(chr(delimiter))


def _names(record: bytes, delimiter: int, places: Mapping[int, frozenset[str]]) -> bool:
    fields = _split(record, delimiter)
    return any(place < len(fields) and fields[place].strip() in values for place, values in places.items())


def _is_theirs(record: bytes, who: Identifiers) -> bool:
    return any(form in record for form in who.forms) and who.in_bytes.search(record) is not None


# ---- workbooks

_ROW = re.compile(rb"<row\b([^>]*?)(?:/>|>(.*?)</row>)", re.DOTALL)
_STRING = re.compile(rb"<si>.*?</si>|<si/>", re.DOTALL)
_SHARED = re.compile(rb'<c\b[^>]*?\bt="s"[^>]*?>.*?<v>(\d+)</v>', re.DOTALL)
_TAGS = re.compile(rb"<[^>]*>")


def blank_workbook(content: bytes, who: Identifiers) -> Blanked:
    """The workbook (xlsx) with the subject's rows emptied; texts that only they used go with them."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        parts = {info: book.read(info) for info in book.infolist()}
    by_name = {info.filename: data for info, data in parts.items()}
    strings = _STRING.findall(by_name.get("xl/sharedStrings.xml", b""))
    named = {number for number, text in enumerate(strings) if _is_theirs(_TAGS.sub(b"", text), who)}
    used: set[int] = set()
    count = 0
    changed: dict[str, bytes] = {}

    def kept(found: re.Match[bytes]) -> bytes:
        nonlocal count
        inside = found[2] or b""
        shared = {int(number) for number in _SHARED.findall(inside)}
        if shared & named or _is_theirs(_TAGS.sub(b" ", inside), who):
            count += 1
            return b"<row" + found[1] + b"/>"
        used.update(shared)
        return found[0]

    for name, data in by_name.items():
        if name.startswith("xl/worksheets/") and name.endswith(".xml"):
            changed[name] = _ROW.sub(kept, data)
    if strings:
        numbers = iter(range(len(strings)))
        changed["xl/sharedStrings.xml"] = _STRING.sub(
            lambda found: found[0] if (number := next(numbers)) in used and number not in named else b"<si><t></t></si>",
            by_name["xl/sharedStrings.xml"],
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as book:
        for info, data in parts.items():
            book.writestr(info, who.masked_bytes(changed.get(info.filename, data)), compress_type=info.compress_type)
    return Blanked(buffer.getvalue(), count)
