"""Files as strategies: honest ones in every format, and what transport, editors and attackers make of them."""

import bz2
import csv
import gzip
import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

NAMES = ["id", "age", "height", "born", "sex", "children"]
_ODD_TEXTS = [
    "",
    " ",
    "NULL",
    "nan",
    "-inf",
    "1e400",
    "0x1F",
    "1_000",
    "1,5",
    "\u0661\u0662",
    "\uff12\uff10",
    '=HYPERLINK("http://x")',
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "'; DROP TABLE people; --",
    "{{ 7*7 }}",
    "../../../etc/passwd",
    "a\nb",
    "a\r\nb",
    'say "hi"',
    '"',
    "\u202egnp.exe",
    "\ufeff",
    "é",
    "e\u0301",
    "😀",
    "x" * 5000,
    "2020-02-30",
    "0000-00-00",
    "9999-12-31",
    "10000-01-01",
    "1970-01-01T00:00:00+25:00",
    "99999999999999999999",
    "-9223372036854775809",
    "1.7976931348623157e309",
]
cells = st.one_of(
    st.integers(0, 120).map(str),
    st.integers(0, 99).map(lambda number: f"P{number}"),
    st.sampled_from(["f", "m", "1.75", "2001-02-03"]),
    st.sampled_from(_ODD_TEXTS),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
tables = st.lists(st.lists(cells, min_size=len(NAMES), max_size=len(NAMES)), max_size=12)


@dataclass(frozen=True)
class FuzzedFile:
    """A file to ingest."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"FuzzedFile({self.name!r}, {len(self.data)} bytes: {self.data[:200]!r})"


@st.composite
def csv_files(draw: DrawFn) -> FuzzedFile:
    rows = draw(tables)
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=ends, quoting=quoting)
    writer.writerow(NAMES)
    for row in rows:
        # What an honest writer can't say in CSV (a NUL, a lone line end of the other kind) is for the damaged files.
        writer.writerow([cell.replace("\0", "").replace("\r", " ").replace("\n", " ") for cell in row])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1", "shift_jis", "utf-32"]))
    data = buffer.getvalue().encode(encoding, "replace")
    return FuzzedFile(draw(st.sampled_from(["a.csv", "a.tsv", "a.txt", "no_ending", "ä ö.csv"])), data)


@st.composite
def json_values(draw: DrawFn) -> Any:
    return draw(
        st.recursive(
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=6),
                st.sampled_from(_ODD_TEXTS),
                st.integers(2**64, 2**70),
            ),
            lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
            max_leaves=6,
        )
    )


records = st.one_of(
    st.fixed_dictionaries({name: cells for name in NAMES}),
    st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), json_values(), max_size=5),
)


@st.composite
def ndjson_files(draw: DrawFn) -> FuzzedFile:
    objects = draw(st.lists(records, max_size=10))
    is_ascii = draw(st.booleans())
    text = "".join(json.dumps(one, ensure_ascii=is_ascii) + draw(st.sampled_from(["\n", "\r\n", "\n\n", ""])) for one in objects)
    return FuzzedFile(draw(st.sampled_from(["a.ndjson", "a.jsonl", "a.json"])), text.encode("utf-8", "surrogatepass"))


@st.composite
def json_files(draw: DrawFn) -> FuzzedFile:
    objects = draw(st.lists(records, max_size=10))
    shape = draw(st.sampled_from(["array", "wrapped", "scalar", "nested", "deep", "single"]))
    value: Any = {
        "array": objects,
        "wrapped": {"data": objects, "next": None},
        "scalar": draw(st.sampled_from([1, "x", None, True])),
        "nested": [objects],
        "single": objects[0] if objects else {},
        "deep": objects,
    }[shape]
    text = json.dumps(value, indent=draw(st.sampled_from([None, 2])))
    if shape == "deep":
        depth = draw(st.sampled_from([10, 500, 5000, 100_000]))
        text = draw(st.sampled_from(["[", '{"a":'])) * depth
    return FuzzedFile("a.json", text.encode("utf-8", "surrogatepass"))


_SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{rows}</sheetData></worksheet>'
_WORKBOOK = (
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>{sheets}</sheets></workbook>'
)
_RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{relations}</Relationships>'
_TYPE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
_CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
    "</Types>"
)


def _cell(value: str, kind: str) -> str:
    text = escape("".join(sign for sign in value if sign.isprintable()))
    return {
        "text": f'<c t="inlineStr"><is><t>{text}</t></is></c>',
        "number": f"<c><v>{text}</v></c>",
        "error": '<c t="e"><v>#DIV/0!</v></c>',
        "formula": f"<c><f>{text}</f><v>1</v></c>",
        "bool": '<c t="b"><v>1</v></c>',
        "date": '<c t="d"><v>2020-01-01T00:00:00</v></c>',
        "shared": '<c t="s"><v>99999</v></c>',
        "far": f'<c r="XFD1048576" t="inlineStr"><is><t>{text}</t></is></c>',
    }[kind]


def _store(archive: zipfile.ZipFile, name: str, content: str | bytes) -> None:
    """Without the time of day: hypothesis makes a file again and expects the same bytes."""
    archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)


def workbook(sheets: list[list[str]]) -> bytes:
    """A minimal workbook of sheets, each a list of row elements."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _store(archive, "[Content_Types].xml", _CONTENT_TYPES)
        _store(
            archive,
            "_rels/.rels",
            _RELATIONS.format(relations=f'<Relationship Id="r" Type="{_TYPE}officeDocument" Target="xl/workbook.xml"/>'),
        )
        names = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}"/>' for n, _ in enumerate(sheets, 1))
        _store(archive, "xl/workbook.xml", _WORKBOOK.format(sheets=names))
        relations = "".join(
            f'<Relationship Id="r{n}" Type="{_TYPE}worksheet" Target="worksheets/sheet{n}.xml"/>' for n, _ in enumerate(sheets, 1)
        )
        _store(archive, "xl/_rels/workbook.xml.rels", _RELATIONS.format(relations=relations))
        for number, rows in enumerate(sheets, 1):
            _store(archive, f"xl/worksheets/sheet{number}.xml", _SHEET.format(rows="".join(rows)))
    return buffer.getvalue()


@st.composite
def excel_files(draw: DrawFn) -> FuzzedFile:
    kinds = st.sampled_from(["text", "text", "text", "number", "error", "formula", "bool", "date", "shared", "far"])
    sheets: list[list[str]] = []
    for _ in range(draw(st.integers(0, 2))):
        header = "<row>" + "".join(_cell(name, "text") for name in NAMES) + "</row>"
        rows = ["<row>" + "".join(_cell(cell, draw(kinds)) for cell in row) + "</row>" for row in draw(tables)[:5]]
        sheets.append([header, *rows] if draw(st.booleans()) else rows)
    return FuzzedFile(draw(st.sampled_from(["a.xlsx", "a.xls", "a.xlsb", "a.csv"])), workbook(sheets))


_PARQUET_COLUMNS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), cells),
    (pa.large_string(), cells),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.integers(-700_000, 2_900_000)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("us", tz="Europe/Berlin"), st.integers(-(2**55), 2**55)),
    (pa.time64("us"), st.integers(0, 86_399_999_999)),
    (pa.duration("us"), st.integers(-(2**40), 2**40)),
    (pa.binary(), st.binary(max_size=8)),
    (pa.list_(pa.int32()), st.lists(st.integers(0, 9), max_size=3)),
    (pa.struct([("a", pa.int32()), ("b", pa.string())]), st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text(max_size=3)})),
    (pa.map_(pa.string(), pa.int32()), st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=2)),
    (pa.dictionary(pa.int8(), pa.string()), cells),
    (pa.null(), st.none()),
]


@st.composite
def parquet_files(draw: DrawFn) -> FuzzedFile:
    names = draw(st.one_of(st.just(NAMES), st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), max_size=4)))
    rows = draw(st.integers(0, 6))
    arrays: list[pa.Array] = []
    for _ in names:
        kind, values = draw(st.sampled_from(_PARQUET_COLUMNS))
        column = draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows))
        arrays.append(pa.array(column).cast(kind) if pa.types.is_dictionary(kind) and rows else pa.array(column, type=kind))
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(arrays, names=list(names)),
        buffer,
        compression=draw(st.sampled_from(["none", "snappy", "zstd", "gzip"])),
    )
    return FuzzedFile(draw(st.sampled_from(["a.parquet", "a.csv", "a"])), buffer.getvalue())


honest = st.one_of(csv_files(), csv_files(), ndjson_files(), json_files(), excel_files(), parquet_files())


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


@st.composite
def damaged(draw: DrawFn, files: st.SearchStrategy[FuzzedFile]) -> FuzzedFile:
    """A file after bytes were lost, changed, doubled or put in."""
    file = draw(files)
    data = file.data
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            break
        position = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["truncate", "behead", "flip", "delete", "double", "insert", "zero", "swap", "shuffle_ends"])):
            case "truncate":
                data = data[:position]
            case "behead":
                data = data[position:]
            case "flip":
                data = _flipped(data, position, draw(st.integers(0, 7)))
            case "delete":
                data = data[:position] + data[position + length :]
            case "double":
                data = data[:position] + data[position : position + length] * draw(st.integers(2, 200)) + data[position:]
            case "insert":
                odd = st.sampled_from(
                    [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b"\n", b",", b"\x1a", b"\\", b"{", b"]", b"\xc3", b"\x80"]
                )
                data = data[:position] + draw(st.one_of(odd, st.binary(min_size=1, max_size=32))) + data[position:]
            case "zero":
                data = data[:position] + b"\0" * min(length, len(data) - position) + data[position + length :]
            case "swap":
                other = draw(st.integers(0, len(data) - 1))
                first, second = min(position, other), max(position, other)
                data = data[second:] + data[first:second] + data[:first]
            case _:
                data = data.replace(b"\n", draw(st.sampled_from([b"\r", b"\r\n", b"\n\r", b"\x0b", b"\xe2\x80\xa8"])))
    return FuzzedFile(file.name, data)


def _zipped(name: str, data: bytes, members: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(members):
            _store(archive, f"{number}{name}" if number else name, data)
    return buffer.getvalue()


@st.composite
def packed(draw: DrawFn, files: st.SearchStrategy[FuzzedFile]) -> FuzzedFile:
    """A file in an archive, perhaps one that tells tricks."""
    file = draw(files)
    tricks = ["../../a.csv", "/etc/a.csv", "a\\..\\b.csv", "."]
    how = draw(st.sampled_from(["gzip", "bz2", "zstd", "zip", "path", "many", "twice"]))
    name, data = {
        "gzip": lambda: (file.name + ".gz", gzip.compress(file.data, mtime=0)),
        "bz2": lambda: (file.name + ".bz2", bz2.compress(file.data)),
        "zstd": lambda: (file.name + ".zst", zstandard.compress(file.data)),
        "zip": lambda: (file.name + ".zip", _zipped(file.name, file.data, 1)),
        "path": lambda: ("a.zip", _zipped(draw(st.sampled_from(tricks)), file.data, 1)),
        "many": lambda: ("a.zip", _zipped(file.name, file.data, draw(st.integers(0, 3)))),
        "twice": lambda: (file.name + ".gz", gzip.compress(gzip.compress(file.data, mtime=0), mtime=0)),
    }[how]()
    return FuzzedFile(name, data)


files = st.one_of(honest, damaged(honest), damaged(honest), packed(honest), damaged(packed(honest)), packed(damaged(honest)))
