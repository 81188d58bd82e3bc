"""JSON: a document (array or object) or one record per line, addressed by dotted paths."""

import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.errors import FileRefused
from lakehouse.ingest.readers.chunks import (
    FILE_SHIFT,
    Chunk,
    Others,
    Reject,
    Select,
    as_text,
    create_in_order,
    drop,
    new_name,
    rejects_table,
)
from lakehouse.ingest.readers.delimited import Layout, read_delimited
from lakehouse.ingest.readers.formats import MAX_COLUMNS, MAX_DOCUMENT_BYTES, MAX_RECORD_BYTES, SLICE_BYTES, FileFormat, refused
from lakehouse.sql import quote_identifier, quote_literal

VALUE = "value"
NOT_JSON = "is not valid JSON"
NOT_OBJECT = "is not a JSON object, as the other records are"
# Up to here Python reads a document, because it says exactly where it is wrong; above it DuckDB does, in parallel.
_EXACT_BYTES = 64 * 1024 * 1024
# Deeper objects stay JSON text.
_MAX_DEPTH = 6
_SAMPLE = 2000
# No JSON text holds this character unescaped: with it as delimiter, a line is one field.
_NEVER = "\x1f"
_BLANK = r"(line IS NULL OR trim(line, E' \t\r') = '')"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def read_json(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    plain: Path,
    *,
    file_format: FileFormat,
    sources: Sequence[str] | None,
    records: str | None,
    select: Select,
    scratch: Path,
    others: Others = "ignore",
    slice_bytes: int = SLICE_BYTES,
) -> Generator[Chunk]:
    """The records of a JSON text, each source a column of text; nested values as JSON text.

    `sources` are dotted paths, None finds them in the records; `records` is the dotted path of a document's list of records;
    `others` says what becomes of the records' other keys.

    Raises:
        FileRefused: the document is not valid JSON.
    """
    if file_format.format == "ndjson":
        lines = _line_pieces(con, path, plain, scratch, slice_bytes)
    else:
        lines = _document(con, path, plain, records, scratch)
    names = tuple(sources) if sources is not None else None
    with closing(lines):
        for table, rejects in lines:
            if names is None:
                names = _found_names(con, table)
                if len(names) > MAX_COLUMNS:
                    raise refused(path, "has too many different keys", expected=f"at most {MAX_COLUMNS}", found=str(len(names)))
            yield from _chunk(con, table, rejects, names=names, select=select, scratch=scratch, others=others)


@dataclass(frozen=True, slots=True)
class Small:
    """A small file that is read together with others.

    Attributes:
        first: the number that its rows' numbers begin at.
        lines: its records, where there is one per line; None where it is a document.
    """

    first: int
    path: Path
    lines: Sequence[str] | None = None


def plain_lines(path: Path, sources: Sequence[str]) -> list[str] | None:
    """The records of a small NDJSON file, one per line; None where it has to be read on its own.

    That is a text with other ends of line or characters that need a closer look, and one whose records are only understood together: by
    dotted names, which may be keys of their own, and by the name of a value.
    """
    if any("." in source or "[" in source or source == VALUE for source in sources):
        return None
    data = path.read_bytes()
    if data.startswith(b"\xef\xbb\xbf") or any(sign in data for sign in (b"\r", b"\0", _NEVER.encode())):
        return None
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None
    return [line for line in lines if line.strip(" \t")] or None


def read_documents(
    con: duckdb.DuckDBPyConnection,
    documents: Sequence[Small],
    *,
    sources: Sequence[str],
    records: str | None,
    scratch: Path,
    failed: Callable[[int, FileRefused], None],
    others: Others = "ignore",
) -> Generator[Chunk]:
    """The records of many small files at once; a document that is no valid JSON is handed to `failed`, and the others are read."""
    table = new_name("lines")
    rows: list[Reject] = []
    for one in documents:
        try:
            elements = list(_elements(one.path, one.path, records)) if one.lines is None else one.lines
        except FileRefused as error:
            failed(one.first, error)
            continue
        rows += [Reject(one.first + number, element, "") for number, element in enumerate(elements, start=1)]
    try:
        _insert_rows(con, table, rows, scratch)
        yield from _chunk(con, table, [], names=tuple(sources), select=as_text, scratch=scratch, others=others)
    finally:
        drop(con, table)


def _line_pieces(
    con: duckdb.DuckDBPyConnection, path: Path, plain: Path, scratch: Path, slice_bytes: int
) -> Generator[tuple[str, list[Reject]]]:
    """Each slice's lines as a table (line, _row), and what is no text."""
    layout = Layout(("line",), 3 if _has_mark(plain) else 0)
    single = FileFormat("csv", delimiter=_NEVER, quote="", escape="", header=False)
    offset = blank = 0
    pieces = read_delimited(con, path, plain, file_format=single, layout=layout, select=_lines, scratch=scratch, slice_bytes=slice_bytes)
    with closing(pieces):
        for chunk in pieces:
            table = new_name("lines")
            # Blank lines are no records: the others are numbered without them.
            numbered = f"SELECT line, _row - {blank} AS _row FROM {chunk.rows_sql}"
            if _any_blank(con, chunk.rows_sql):
                marked = f"SELECT *, {_BLANK} AS blank FROM {chunk.rows_sql}"
                row = f"_row - count(*) FILTER (blank) OVER (ORDER BY _row) - {blank}"
                numbered = f"SELECT line, {row} AS _row FROM ({marked}) QUALIFY NOT blank"
            con.execute(f"CREATE TEMP TABLE {quote_identifier(table)} AS {numbered}")
            rejects = [
                Reject(reject.row - blank - _blank_before(con, chunk.rows_sql, reject.row), reject.record, reject.reason)
                for reject in chunk.rejects
            ]
            kept = con.execute(f"SELECT count(*) FROM {quote_identifier(table)}").fetchone()
            offset += chunk.rows + len(chunk.rejects)
            blank += chunk.rows - (int(kept[0]) if kept else 0)
            try:
                yield table, rejects
            finally:
                drop(con, table)


def _lines(names: Sequence[str], relation: str, has_row: bool, /) -> str:
    return f"SELECT line FROM {relation}"


def _any_blank(con: duckdb.DuckDBPyConnection, rows_sql: str) -> bool:
    return bool(con.execute(f"SELECT 1 FROM {rows_sql} WHERE {_BLANK} LIMIT 1").fetchone())


def _blank_before(con: duckdb.DuckDBPyConnection, rows_sql: str, row: int) -> int:
    found = con.execute(f"SELECT count(*) FROM {rows_sql} WHERE _row < {row} AND ({_BLANK})").fetchone()
    return int(found[0]) if found else 0


def _has_mark(plain: Path) -> bool:
    with plain.open("rb") as file:
        return file.read(3) == b"\xef\xbb\xbf"


def _document(
    con: duckdb.DuckDBPyConnection, path: Path, plain: Path, records: str | None, scratch: Path
) -> Generator[tuple[str, list[Reject]]]:
    """The elements of an array, or the one object, as a table (line, _row)."""
    size = plain.stat().st_size
    if size > MAX_DOCUMENT_BYTES:
        raise refused(
            path,
            "is too large for one JSON document",
            expected=f"at most {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB",
            found=f"{size // (1024 * 1024)} MB",
            fix="Deliver it with one record per line (NDJSON)",
        )
    table = new_name("lines")
    try:
        if size <= _EXACT_BYTES:
            _insert_elements(con, table, _elements(path, plain, records), scratch)
        else:
            _large_document(con, table, path, plain, records)
        yield table, []
    finally:
        drop(con, table)


def _large_document(con: duckdb.DuckDBPyConnection, table: str, path: Path, plain: Path, records: str | None) -> None:
    with plain.open("rb") as file:
        is_array = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    if records is not None or not is_array:
        raise refused(
            path,
            f"a JSON object above {_EXACT_BYTES // (1024 * 1024)} MB can't be taken apart",
            fix="Deliver an array, or one record per line",
        )
    source = f"read_json_objects({quote_literal(str(plain))}, format='array', maximum_object_size={MAX_RECORD_BYTES})"
    loaded = new_name("objects")
    try:
        create_in_order(con, loaded, f"SELECT json::VARCHAR AS line FROM {source}")
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise refused(path, f"is not valid JSON: {first_line(error)}", fix="Correct it, or deliver one record per line") from error
    con.execute(f"CREATE TEMP TABLE {quote_identifier(table)} AS SELECT line, rowid + 1 AS _row FROM {quote_identifier(loaded)}")
    drop(con, loaded)


def first_line(error: BaseException) -> str:
    """What DuckDB says, without its advice and without paths."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r'(in file|file|File) ["\'][^"\']*["\'],?\s?', "", text)
    return text[:300]


def _elements(path: Path, plain: Path, records: str | None) -> Iterator[str]:
    """The text of each element, as it is written in the document."""
    data = plain.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(
            path, f"is not valid UTF-8 at byte {error.start}", fix="Deliver it in UTF-8, or name its encoding in the contract"
        ) from error
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    try:
        if records is not None:
            yield from _inside(path, json.loads(text, parse_constant=_no_constant), records)
            return
        start = _skip(text, 0)
        if text[start : start + 1] != "[":
            json.loads(text, parse_constant=_no_constant)
            yield text.strip(" \t\r\n")
            return
        yield from _array(text, start, decoder)
    except json.JSONDecodeError as error:
        raise refused(
            path,
            f"is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}",
            fix="Correct it, or deliver one record per line",
        ) from error
    except RecursionError as error:
        raise refused(path, "is nested too deeply to be records", fix="Deliver flat records") from error


def _array(text: str, start: int, decoder: json.JSONDecoder) -> Iterator[str]:
    position = _skip(text, start + 1)
    if text[position : position + 1] == "]":
        _nothing_after(text, position + 1)
        return
    while True:
        _, end = decoder.raw_decode(text, position)
        yield text[position:end]
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark == "]":
            _nothing_after(text, position + 1)
            return
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
        position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\r", "\n"}:
        position += 1
    return position


def _nothing_after(text: str, position: int) -> None:
    end = _skip(text, position)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _no_constant(word: str) -> float:
    raise json.JSONDecodeError(f"{word} is no JSON number", word, 0)


def _inside(path: Path, document: Any, records: str) -> Iterator[str]:
    for step in records.split("."):
        if not isinstance(document, dict) or step not in document:
            raise refused(path, f"has no list of records at {records}", fix="Correct lakehouse.records in the contract")
        document = document[step]
    if not isinstance(document, list):
        raise refused(path, f"has no list of records at {records}", fix="Correct lakehouse.records in the contract")
    for element in document:
        yield json.dumps(element, ensure_ascii=False)


def _insert_elements(con: duckdb.DuckDBPyConnection, table: str, elements: Iterator[str], scratch: Path) -> None:
    _insert_rows(con, table, (Reject(number, element, "") for number, element in enumerate(elements, start=1)), scratch)


def _insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Reject], scratch: Path) -> None:
    # rejects_table writes and reads (number, text, reason) exactly; an element is the text.
    made = rejects_table(con, rows, scratch)
    con.execute(f"CREATE TEMP TABLE {quote_identifier(table)} AS SELECT record AS line, _row FROM {quote_identifier(made)}")
    drop(con, made)


def _chunk(
    con: duckdb.DuckDBPyConnection,
    lines: str,
    rejects: list[Reject],
    *,
    names: Sequence[str],
    select: Select,
    scratch: Path,
    others: Others = "ignore",
) -> Generator[Chunk]:
    kinds = new_name("kinds")
    # An object is a record; where there is no object at all, any value is a record of one column.
    con.execute(
        f"CREATE TEMP TABLE {quote_identifier(kinds)} AS SELECT *, CASE WHEN NOT json_valid(line) THEN 'bad' "
        f"WHEN json_type(line) = 'OBJECT' THEN 'object' ELSE 'value' END AS kind FROM {quote_identifier(lines)}"
    )
    counted = con.execute(f"SELECT kind, count(*) FROM {quote_identifier(kinds)} GROUP BY kind").fetchall()
    has_objects = any(kind == "object" for kind, _ in counted)
    wanted = "object" if has_objects or VALUE not in names else "value"
    if tuple(names) == (VALUE,) and not _holds_value(con, kinds):
        wanted = "value"
        con.execute(f"UPDATE {quote_identifier(kinds)} SET kind = 'value' WHERE kind = 'object'")
    listed = list(rejects)
    if any(kind != wanted for kind, _ in counted):
        bad = con.execute(f"SELECT _row, line, kind FROM {quote_identifier(kinds)} WHERE kind <> {quote_literal(wanted)}").fetchall()
        listed += [Reject(row, line, NOT_JSON if kind == "bad" else NOT_OBJECT) for row, line, kind in bad]
        con.execute(f"DELETE FROM {quote_identifier(kinds)} WHERE kind <> {quote_literal(wanted)}")
    unknown = _other_keys(con, kinds, names) if others != "ignore" and wanted == "object" else {}
    if others == "read" and unknown:
        names = _distinct([*names, *dict.fromkeys(key for keys in unknown.values() for key in keys)])[:MAX_COLUMNS]
    relation = _values_sql(con, kinds, names) if wanted == "object" else _scalar_sql(kinds, names)
    table = new_name("json")
    rows = create_in_order(con, table, select(tuple(names), relation, True))
    made = rejects_table(con, listed, scratch)
    try:
        rows_sql = f"(SELECT * FROM {quote_identifier(table)})"
        yield Chunk(tuple(names), rows_sql, rows, tuple(listed), quote_identifier(made), unknown)
    finally:
        drop(con, kinds, table, made)


def _other_keys(con: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The records' own keys that no name leads to, by the number of their file."""
    roots = {name for name in names} | {re.split(r"[.\[]", name, maxsplit=1)[0] for name in names}
    found = con.execute(
        f"SELECT DISTINCT _row >> {FILE_SHIFT}, unnest(json_keys(line)) AS key FROM {quote_identifier(table)} ORDER BY ALL"
    ).fetchall()
    keys: dict[int, tuple[str, ...]] = {}
    for number, key in found:
        if key not in roots:
            keys[number] = (*keys.get(number, ()), str(key))
    return keys


def _holds_value(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether an object has the key `value`; otherwise objects are values themselves."""
    return bool(
        con.execute(
            f"SELECT 1 FROM {quote_identifier(table)} WHERE kind = 'object' AND list_contains(json_keys(line), 'value') LIMIT 1"
        ).fetchone()
    )


def _scalar_sql(table: str, names: Sequence[str]) -> str:
    listed = ", ".join(
        f"{'json_extract_string(line, ' + chr(39) + '$' + chr(39) + ')' if name == VALUE else 'NULL::VARCHAR'} AS {quote_identifier(name)}"
        for name in names
    )
    return f"(SELECT {listed}, _row FROM {quote_identifier(table)})"


def _values_sql(con: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> str:
    """Each name's value as text, the record parsed once for all of them."""
    literal = _literal_keys(con, table, [name for name in names if "." in name or "[" in name])
    paths = [quote_literal(json_path(name, is_key=name in literal)) for name in names]
    listed = ", ".join(f"v[{number}] AS {quote_identifier(name)}" for number, name in enumerate(names, start=1))
    return (
        f"(SELECT {listed}, _row FROM (SELECT json_extract_string(line, [{', '.join(paths)}]) AS v, _row FROM {quote_identifier(table)}))"
        if names
        else f"(SELECT _row FROM {quote_identifier(table)})"
    )


def _literal_keys(con: duckdb.DuckDBPyConnection, table: str, dotted: Sequence[str]) -> set[str]:
    """Which dotted names are keys themselves in these records."""
    if not dotted:
        return set()
    keys = con.execute(f"SELECT DISTINCT unnest(json_keys(line)) FROM (FROM {quote_identifier(table)} LIMIT {_SAMPLE})").fetchall()
    return {str(key) for (key,) in keys} & set(dotted)


def json_path(name: str, *, is_key: bool = False) -> str:
    """A dotted name (`commit.author.name`, `items[0].price`) as DuckDB's JSON path."""
    if is_key:
        return "$." + _quoted_key(name)
    steps = [f"[{index}]" if index else "." + _quoted_key(key) for key, index in _STEP.findall(name)]
    return "$" + "".join(steps) if steps else "$." + _quoted_key(name)


def _quoted_key(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _found_names(con: duckdb.DuckDBPyConnection, table: str) -> tuple[str, ...]:
    """Dotted names in order of appearance: nested objects are taken apart, lists are not."""
    name = quote_identifier(table)
    lines = con.execute(f"SELECT line FROM {name} WHERE json_valid(line) ORDER BY _row LIMIT {_SAMPLE}").fetchall()
    found: dict[str, None] = {}
    for (line,) in lines:
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(record, dict):
            _collect(record, "", 1, found)
    rare = con.execute(
        f"SELECT DISTINCT unnest(json_keys(line)) AS k FROM {name} WHERE json_valid(line) AND json_type(line) = 'OBJECT' ORDER BY k"
    ).fetchall()
    roots = {key.split(".")[0] for key in found} | set(found)
    for (key,) in rare:
        if key not in roots:
            found[key] = None
    # A name that is both a value and the beginning of another is kept as the value (JSON text where it is an object).
    names = [key for key in found if not any(key.startswith(other + ".") for other in found)]
    # Nothing but scalars, empty objects or no record at all: the records themselves are the values.
    return _distinct(names) or (VALUE,)


def _collect(record: dict[str, Any], prefix: str, depth: int, found: dict[str, None]) -> None:
    for key, value in record.items():
        name = prefix + key
        if isinstance(value, dict) and value and depth < _MAX_DEPTH and "." not in key and "[" not in key:
            _collect(value, name + ".", depth + 1, found)
        elif value is not None or not any(other.startswith(name + ".") for other in found):
            found.setdefault(name)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Without names that DuckDB can't tell apart (case), does not take (the empty one) or that are reserved; the first of equals stays."""
    kept: dict[str, str] = {}
    for name in names:
        if name and name.casefold() not in {"_row", "__at", "rowid"} and "\0" not in name:
            kept.setdefault(name.casefold(), name)
    return tuple(kept.values())
