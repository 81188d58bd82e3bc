"""Files made to take a machine down: each is refused by name or accounted for, in less than a minute and 2 GB."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.fuzz.files import workbook

MOST_MEMORY_BYTES = 2 * 1024**3
LONGEST_S = 60
MB = 1024**2


@dataclass(frozen=True)
class Ended:
    code: int
    document: dict[str, Any]
    err: str
    peak_bytes: int


# A process counts as its own what the one that started it held: a small one in between keeps the tests' memory out.
_MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(done.returncode)
"""


def run(home: Path, *arguments: str) -> Ended:
    """One command as a user's process."""
    program = "import sys; from lakehouse.cli.main import main; main()"
    measured = home.with_name("peak")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(measured), sys.executable, "-c", program, *arguments, "--json"],
        capture_output=True,
        env={**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_PROJECT": str(PROJECT)},
        cwd=PROJECT,
        timeout=LONGEST_S,
        check=False,
    )
    return Ended(done.returncode, json.loads(done.stdout or "{}"), done.stderr.decode(), int(measured.read_text()) * 1024)


def _gzip_bomb(folder: Path) -> Path:
    path = folder / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"id,name\n")
        for _ in range(300):
            file.write(b"0" * MB)
    return path


def _zip_bomb(folder: Path) -> Path:
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.csv", "w", force_zip64=True) as member:
        member.write(b"id,name\n")
        for _ in range(300):
            member.write(b"0,\n" * (MB // 3))
    return path


def _nested_zips(folder: Path) -> Path:
    inner = _zip_bomb(folder)
    path = folder / "nested.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "inner.zip")
    inner.unlink()
    return path


def _lying_zip(folder: Path) -> Path:
    """Its directory says ten bytes, its stream holds 100 MB."""
    path = folder / "lying.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", b"id\n" + b"1\n" * (50 * MB))
    data = path.read_bytes()
    size = (3 + 100 * MB).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    return path


def _ten_million_columns(folder: Path) -> Path:
    path = folder / "wide.csv"
    path.write_text(",".join(f"c{number}" for number in range(10_000_000)) + "\n" + "1,2,3\n", encoding="ascii")
    return path


def _line_of_a_gigabyte(folder: Path) -> Path:
    path = folder / "line.csv"
    with path.open("wb") as file:
        file.write(b"id,name\n1,")
        for _ in range(1024):
            file.write(b"x" * MB)
        file.write(b"\n2,b\n")
    return path


def _json_line_of_a_gigabyte(folder: Path) -> Path:
    path = folder / "line.ndjson"
    with path.open("wb") as file:
        file.write(b'{"id": 1}\n{"id": "')
        for _ in range(1024):
            file.write(b"x" * MB)
        file.write(b'"}\n{"id": 3}\n')
    return path


def _zeros(folder: Path) -> Path:
    path = folder / "zeros.csv"
    with path.open("wb") as file:
        file.write(b"id,name\n1,a\n")
        file.truncate(1024 * MB)
    return path


def _deep_json(folder: Path) -> Path:
    path = folder / "deep.json"
    path.write_text("[" * 2_000_000, encoding="ascii")
    return path


def _deep_json_lines(folder: Path) -> Path:
    path = folder / "deep.ndjson"
    path.write_text('{"id": 1}\n' + '{"a":' * 200_000 + "1" + "}" * 200_000 + "\n", encoding="ascii")
    return path


def _open_quote(folder: Path) -> Path:
    path = folder / "quote.csv"
    with path.open("wb") as file:
        file.write(b'id,name\n1,"')
        for _ in range(200):
            file.write(b"2,b\n" * (MB // 4))
    return path


def _far_cell(folder: Path) -> Path:
    path = folder / "far.xlsx"
    far = '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    path.write_bytes(workbook([['<row r="1"><c r="A1"><v>1</v></c></row>', far]]))
    return path


def _workbook_bomb(folder: Path) -> Path:
    path = folder / "bomb.xlsx"
    path.write_bytes(workbook([["<row>" + '<c t="inlineStr"><is><t>' + "A" * (400 * MB) + "</t></is></c></row>"]]))
    return path


def _random_bytes(folder: Path) -> Path:
    import random

    path = folder / "noise.csv"
    path.write_bytes(random.Random(7).randbytes(200_000))
    return path


MONSTERS: dict[str, Callable[[Path], Path]] = {
    "a gzip bomb": _gzip_bomb,
    "a zip bomb": _zip_bomb,
    "a zip in a zip": _nested_zips,
    "a zip that lies about its size": _lying_zip,
    "a header of ten million columns": _ten_million_columns,
    "a line of a gigabyte": _line_of_a_gigabyte,
    "a JSON line of a gigabyte": _json_line_of_a_gigabyte,
    "a gigabyte of NUL bytes": _zeros,
    "a document nested two million deep": _deep_json,
    "a JSON line nested 200,000 deep": _deep_json_lines,
    "200 MB behind an open quote": _open_quote,
    "a workbook with its only cells far apart": _far_cell,
    "a workbook with a text of 400 MB": _workbook_bomb,
    "random bytes": _random_bytes,
}
QUICK = {"a zip that lies about its size", "a document nested two million deep", "a workbook with its only cells far apart", "random bytes"}


@pytest.mark.parametrize("what", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MONSTERS])
def test_a_monster_is_refused_or_accounted_for(what: str, tmp_path: Path, home: Path) -> None:
    path = MONSTERS[what](tmp_path)
    try:
        for arguments in (("add", str(path), "--name", "monster"), ("ingest", "commits", str(path))):
            ended = run(home, *arguments)
            assert ended.code in {0, 1}, ended.err[-3000:]
            assert ended.peak_bytes < MOST_MEMORY_BYTES
            assert "Traceback" not in ended.err
            if ended.code == 1:
                assert path.name in ended.err
                assert len(ended.err) < 3000
            for file in ended.document.get("files", []):
                assert file["rows_read"] == file["rows_accepted"] + file["rows_quarantined"]
    finally:
        path.unlink()


ODD_NAMES = [
    "-rf.csv",
    "a b.csv",
    "quote'.csv",
    'double".csv',
    "glob[1]*?.csv",
    "percent%20.csv",
    "new\nline.csv",
    "semi;colon.csv",
    "$(touch pwned).csv",
    "etc%2f..%2f..csv",
    "e\u0301.csv",
    "😀.csv",
    "\u202egnp.csv",
    "{brace}.csv",
    "back\\slash.csv",
    "x" * 240 + ".csv",
    "CON.csv",
    "#hash.csv",
]


def _project_files() -> set[str]:
    """What lies in the project's folder, but for what measuring coverage leaves there."""
    return {path.name for path in PROJECT.iterdir() if not path.name.startswith(".coverage")}


def test_names_of_files_are_only_names(tmp_path: Path, home: Path) -> None:
    first = tmp_path / "first.csv"
    first.write_text("id,name\n0,zero\n", encoding="utf-8")
    assert run(home, "add", str(first), "--name", "odd", "--key", "id").code == 0
    folder = tmp_path / "odd names"
    folder.mkdir()
    for number, name in enumerate(ODD_NAMES, start=1):
        (folder / name).write_text(f"id,name\n{number},{number}th\n", encoding="utf-8")
    before = _project_files()
    ended = run(home, "ingest", "odd", str(folder))
    assert ended.code == 0, ended.err
    assert [file["status"] for file in ended.document["files"]] == ["ingested"] * len(ODD_NAMES)
    found = run(home, "query", "SELECT _file FROM raw.odd ORDER BY id")
    assert sorted(row["_file"] for row in found.document["rows"]) == sorted(ODD_NAMES)
    assert _project_files() == before


def test_links_lead_nowhere_they_should_not(tmp_path: Path, home: Path) -> None:
    """A link to a file is that file; one that leads round, nowhere or to a device is left alone or refused by name."""
    data = tmp_path / "data.csv"
    data.write_text("id,name\n1,one\n", encoding="utf-8")
    assert run(home, "add", str(data), "--name", "linked", "--key", "id").code == 0
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "good.csv").symlink_to(data)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere.csv").symlink_to(tmp_path / "missing.csv")
    (folder / "device.csv").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.csv")
    ended = run(home, "ingest", "linked", str(folder))
    assert ended.code == 0, ended.err
    assert [Path(file["path"]).name for file in ended.document["files"]] == ["good.csv"]
    for name in ("nowhere.csv", "device.csv", "pipe.csv"):
        named = run(home, "ingest", "linked", str(folder / name))
        assert named.code in {1, 2}
        assert name in named.err
        assert "Traceback" not in named.err


def test_formulas_stay_text(tmp_path: Path, home: Path) -> None:
    """What a spreadsheet would run is data here."""
    path = tmp_path / "formulas.csv"
    cells = ["=1+1", "+SUM(A1)", "-2+3", "@cmd", '=HYPERLINK("http://x";"y")', "|cmd"]
    path.write_text("id,note\n" + "".join(f'{number},"{cell.replace(chr(34), chr(34) * 2)}"\n' for number, cell in enumerate(cells)))
    assert run(home, "add", str(path), "--name", "formulas", "--key", "id").code == 0
    assert run(home, "ingest", "formulas", str(path)).code == 0
    found = run(home, "query", "SELECT note FROM raw.formulas ORDER BY id")
    assert [row["note"] for row in found.document["rows"]] == cells
