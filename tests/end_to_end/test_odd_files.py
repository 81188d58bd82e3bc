"""Every file of the robustness corpus, through the command line: rows, or one clear error."""

import csv
import re
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Cli

LIMIT_S = 60


def expected_rows(python_reader: str) -> int | None:
    """Rows the manifest's reader saw: `ok 3488x2` and the like; of a workbook, those of the first sheet that has any."""
    shapes = [int(rows) for rows in re.findall(r"(\d+)x\d+", python_reader)]
    return next((rows for rows in shapes if rows), 0) if shapes else None


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_each_file_ends_in_rows_or_in_one_clear_error(lakehouse: Cli, real_data: Path) -> None:
    folder = real_data / "nasty"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as lines:
        entries = list(csv.DictReader(lines))
    wrong: list[str] = []
    for number, entry in enumerate(entries):
        file, name = folder / entry["path"], f"odd_{number}"
        added = lakehouse("add", file, "--name", name, "--json", timeout=LIMIT_S, code=None)
        if added.code:
            message = added.json["message"]
            if file.name not in message or len(message) < len(file.name) + 10:
                wrong.append(f"{entry['path']}: the error does not name the file and the cause: {message}")
            if entry["expected"] == "ok":
                wrong.append(f"{entry['path']}: refused, though it is sound: {message}")
            continue
        report = lakehouse("ingest", name, file, "--json", timeout=LIMIT_S, code=None).json["files"][0]
        if report["status"] == "refused":
            if file.name not in report["error"]:
                wrong.append(f"{entry['path']}: refused without its name: {report['error']}")
        elif report["rows_read"] != report["rows_accepted"] + report["rows_quarantined"]:
            wrong.append(f"{entry['path']}: rows are lost: {report}")
        rows = expected_rows(entry["python_reader"])
        if entry["expected"] == "ok" and (report["status"] != "ingested" or (rows is not None and report["rows_accepted"] != rows)):
            wrong.append(f"{entry['path']}: not ingested whole: {report}, the manifest says {entry['python_reader']}")
    assert not wrong, "\n".join(wrong)
