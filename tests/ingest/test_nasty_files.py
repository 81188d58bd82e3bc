"""150 files that break readers: each ends in rows that add up, or in one error that names it."""

import csv
import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract, Landing, infer_dataset, load_dataset
from lakehouse.errors import FileRefused, LakehouseError
from lakehouse.ingest import ingest
from lakehouse.ingest.readers import stage
from lakehouse.settings import Settings
from lakehouse.tables import Lake

SHAPE = re.compile(r"(\d+)x\d+")


def expected_rows(reader: str) -> int | None:
    """How many rows the manifest's reader saw, where it says so; of a workbook the first sheet with data counts."""
    if match := re.match(r"ok (\d+) (?:pages|lines)", reader):
        return int(match.group(1))
    shapes = [(int(rows), int(columns)) for rows, columns in re.findall(r"(\d+)x(\d+)", reader)]
    with_data = [rows for rows, columns in shapes if columns]
    return with_data[0] if with_data else None


def inferred_contract(lake: Lake, path: Path, folder: Path) -> DatasetContract:
    with lake.connect(()) as session:
        staged = stage(session.con, path)
        shape = staged.file_format
        landing = Landing(paths=(path.name,), format=shape.format, encodings=(shape.encoding,))
        inferred = infer_dataset(session.con, staged.relation, name="nasty", landing=landing)
    contract = folder / "nasty.odcs.yaml"
    contract.write_text(inferred.text, encoding="utf-8")
    return load_dataset(contract)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_every_nasty_file_is_accounted_for(real_data: Path, settings: Settings, now: datetime, tmp_path: Path, every: int) -> None:
    folder = real_data / "nasty"
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    assert len(cases) == 150
    problems: list[str] = []
    for number, case in enumerate(cases[::every]):
        path = folder / case["path"]
        lake = Lake(tmp_path / "lakes" / str(number), memory_limit="1GB", threads=2, spill_dir=settings.spill_dir)
        began = time.monotonic()
        try:
            contract = inferred_contract(lake, path, tmp_path)
            report = ingest(lake, contract, [path], settings=settings, run="nasty", now=now)
        except FileRefused as error:
            if case["expected"] == "ok":
                problems.append(f"{case['path']}: refused: {error}")
            elif path.name not in str(error):
                problems.append(f"{case['path']}: the error does not name it: {error}")
            continue
        except LakehouseError as error:
            problems.append(f"{case['path']}: {type(error).__name__}: {error}")
            continue
        if time.monotonic() - began > 60:
            problems.append(f"{case['path']}: took more than a minute")
        result = report.files[0]
        if result.rows_read != result.rows_accepted + result.rows_quarantined:
            problems.append(f"{case['path']}: {result}")
        if result.status == "refused" and path.name not in str(result.error):
            problems.append(f"{case['path']}: the error does not name it: {result.error}")
        wanted = expected_rows(case["python_reader"]) if case["expected"] == "ok" else None
        if wanted is not None and result.rows_accepted != wanted:
            problems.append(f"{case['path']}: {case['python_reader']}, but {result}")
        stored = lake.detail(contract.raw).rows if lake.exists(contract.raw) else 0
        if stored != result.rows_accepted:
            problems.append(f"{case['path']}: raw has {stored} rows, the report says {result.rows_accepted}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("reader", "rows"),
    [("ok 3488x2", 3488), ("ok Sheet1:0x0,Sheet2:2x2", 2), ("ok 3 pages 70 chars", 3), ("ok 2 lines", 2), ("ok dict", None)],
)
def test_the_manifest_is_understood(reader: str, rows: int | None) -> None:
    assert expected_rows(reader) == rows
