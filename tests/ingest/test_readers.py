"""What a file is taken for, and what is refused before it is read."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import duckdb
import pytest

from lakehouse.errors import FileRefused
from lakehouse.ingest.readers import FileFormat, sniff, stage
from lakehouse.ingest.readers import unpacking as unpacking_module
from lakehouse.ingest.readers.jsonrecords import json_path


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"preserve_insertion_order": False, "threads": 2})


def staged(con: duckdb.DuckDBPyConnection, path: Path) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    one = stage(con, path)
    return one.columns, con.execute(f'SELECT * EXCLUDE (_row) FROM "{one.relation}" ORDER BY _row').fetchall()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "x,y\n1,2\n", (",", True, ("x", "y"))),
        ("a.csv", "x;y\n1,5;2\n2,5;3\n", (";", True, ("x", "y"))),
        ("a.txt", "x\ty\n1\t2\n", ("\t", True, ("x", "y"))),
        ("a.csv", "x|y|z\na|b|c\n", ("|", True, ("x", "y", "z"))),
        ("a.csv", "1,ann\n2,bob\n", (",", False, ("column_1", "column_2"))),
        ("a.csv", "country,2008,2009\nPeru,1.5,2\n", (",", True, ("country", "2008", "2009"))),
        ("a.csv", "# made by hand\n\nx,y\n1,2\n", (",", True, ("x", "y"))),
        ("a.csv", "x,X,,x\n1,2,3,4\n", (",", True, ("x", "X_2", "column_3", "x_3"))),
        ("a.csv", "time\n10:30\n11:45\n", (",", True, ("time",))),
        ("a.csv", "x,y,\n1,2,\n", (",", True, ("x", "y", "column_3"))),
    ],
)
def test_the_dialect_is_found(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, text: str, found: tuple[str, bool, tuple[str, ...]]
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    shape = sniff(path)
    assert (shape.delimiter, shape.header, staged(con, path)[0]) == found


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("utf-8", "São Tomé"),
        ("utf-8-sig", "São Tomé"),
        ("utf-16", "São Tomé"),
        ("utf-16-le", "name"),
        ("cp1252", "São Tomé"),
        ("shift_jis", "こんにちは世界"),
        ("euc_kr", "안녕하세요"),
    ],
)
def test_the_encoding_is_found(con: duckdb.DuckDBPyConnection, tmp_path: Path, encoding: str, word: str) -> None:
    path = tmp_path / "words.csv"
    path.write_bytes(("place,n\n" + f"{word},1\n" * 20).encode(encoding))
    assert staged(con, path)[1][0] == (word, "1")


@pytest.mark.parametrize("name", ["data.csv", "data.bin", "data.csv.zip"])
def test_compression_is_told_by_content(con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"x,y\n1,2\n", mtime=0))
    assert staged(con, path)[1] == [("1", "2")]


def test_nested_json_is_addressed_by_dots(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "nested.json"
    path.write_text(json.dumps([{"a": {"b": {"c": 1}, "l": [1, 2]}}, {"a": {"b": {"c": None}}, "d": "x"}, {"e": 1.50}]), encoding="utf-8")
    columns, rows = staged(con, path)
    assert columns == ("a.b.c", "a.l", "d", "e")
    assert rows == [("1", "[1,2]", None, None), (None, None, "x", None), (None, None, None, "1.5")]


def test_json_scalars_are_one_column(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('[1, "two", null]', encoding="utf-8")
    assert staged(con, path) == (("value",), [("1",), ("two",), (None,)])


@pytest.mark.parametrize(("name", "path"), [("a.b", '$."a"."b"'), ("a[0].b", '$."a"[0]."b"'), ('q"x', '$."q\\"x"')])
def test_paths_are_quoted(name: str, path: str) -> None:
    assert json_path(name) == path


def test_records_that_are_none_keep_their_number_and_text(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(b'x,y\n1,2\n3\n\n4,\xff\n5,a\x00b\n"6,7\n8,9\n1,2,3\n')
    one = stage(con, path, file_format=FileFormat("csv"))
    rejects = con.execute(f'SELECT * FROM "{one.rejects_relation}" ORDER BY _row').fetchall()
    assert [(row, reason.split(" ")[0:4]) for row, _, reason in rejects] == [
        (2, ["has", "fewer", "fields", "than"]),
        (3, ["has", "bytes", "that", "are"]),
        (4, ["has", "a", "NUL", "character"]),
        (5, ["has", "a", "quoted", "value"]),
        (7, ["has", "more", "fields", "than"]),
    ]
    assert con.execute(f'SELECT _row, x FROM "{one.relation}" ORDER BY _row').fetchall() == [(1, "1"), (6, "8")]


def archive_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x\n1\n")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n \n", "blank lines"),
        ("long.csv", b"x" * (17 * 1024 * 1024), "first line is longer"),
        ("wide.csv", b",".join(b"c%d" % number for number in range(10_001)) + b"\n", "too many columns"),
        ("two.zip", archive_of("a.csv", "b.csv"), "exactly one file"),
        ("cut.json", b'[{"a": 1}, {"a"', "line 1, column"),
        ("deep.json", b"[" * 200_000, "nested too deeply"),
        ("late.json", b'{"a": 1} x', "line 1, column 10"),
        ("cut.gz", gzip.compress(b"x,y\n" * 10_000, mtime=0)[:40], "can't be unpacked"),
        ("no.parquet", b"PAR1 nothing here", "not a complete Parquet file"),
        ("no.xlsx", b"PK\x03\x04 nothing", "not a readable spreadsheet"),
        ("no.pdf", b"%PDF-1.7 nothing", "not a readable PDF"),
        ("noise.csv", bytes(range(256)) * 40, "is not text"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_cause(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileRefused, match=cause) as caught:
        stage(con, path)
    assert name in str(caught.value)


def test_a_bomb_is_not_unpacked(con: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking_module, "FREE_INFLATED_BYTES", 1024 * 1024)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"0" * 20_000_000, mtime=0))
    with pytest.raises(FileRefused, match="far more than honest data"):
        stage(con, path)


def test_a_record_without_end_is_refused(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    from lakehouse.ingest.readers import read_chunks

    path = tmp_path / "endless.csv"
    path.write_bytes(b"x,y\n1,2\n" + b"z" * 300_000)
    with pytest.raises(FileRefused, match="no record ends"):
        for _ in read_chunks(con, path, slice_bytes=100_000):
            pass


def test_the_sheet_with_data_is_read(con: duckdb.DuckDBPyConnection, real_data: Path) -> None:
    columns, rows = staged(con, real_data / "nasty" / "frictionless-py" / "sheet2.xls")
    assert len(columns) == 2
    assert len(rows) == 2
