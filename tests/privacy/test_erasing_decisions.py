"""What people decided on a quarantined row is about somebody as well; and originals of every format are."""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import PrivacyError
from lakehouse.ingest import ingest
from lakehouse.ingest.decisions import Author
from lakehouse.ingest.edits import export_rows
from lakehouse.ingest.replay import discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.pipeline.erasing import erase, verify_erasure
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy.erasure.subject import Subject
from lakehouse.recovery.home_checks import check_conservation
from lakehouse.settings import Settings
from tests.fuzz.files import workbook
from tests.privacy.test_erasing_a_home import CONTRACT, NOW, SUBJECT, WHO
from tests.privacy.test_erasing_archived_rows import holding

HEADER = "Visit ID,Customer,name,amount\n"


def home(settings: Settings, protection: str = "") -> Workspace:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "people.odcs.yaml").write_text(CONTRACT.replace(" PROTECTION", protection), encoding="utf-8")
    return Workspace(settings)


def write_xlsx(path: Path, rows: list[list[object]]) -> None:
    """A workbook as spreadsheet programs write it: numbers in place, texts shared."""
    texts = list(dict.fromkeys(str(cell) for row in rows for cell in row if isinstance(cell, str)))
    sheet = [
        "<row>"
        + "".join(f'<c t="s"><v>{texts.index(cell)}</v></c>' if isinstance(cell, str) else f"<c><v>{cell}</v></c>" for cell in row)
        + "</row>"
        for row in rows
    ]
    path.write_bytes(workbook([sheet]))
    with zipfile.ZipFile(path, "a") as book:
        space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{space}">' + "".join(f"<si><t>{text}</t></si>" for text in texts) + "</sst>")


def bring(workspace: Workspace, file: Path) -> None:
    report = ingest(workspace.lake, workspace.contracts.dataset("people"), [file], settings=workspace.settings, run="r", now=NOW)
    assert not [one.error for one in report.files if one.error]
    file.unlink()


@pytest.mark.parametrize("who", [pytest.param(WHO, marks=pytest.mark.slow), "42"])
def test_an_edit_that_said_whose_the_row_is(settings: Settings, tmp_path: Path, who: str) -> None:
    workspace = home(settings)
    lake, contract = workspace.lake, workspace.contracts.dataset("people")
    rows = f"V-1,,Annabel Lee,none\nV-2,{who},Someone,none\nV-3,C-99999,Another One,none\nV-4,{who},Someone,4\nV-5,C-99999,Another One,5\n"
    (tmp_path / "day.csv").write_text(HEADER + rows)
    bring(workspace, tmp_path / "day.csv")
    author = Author("ann", "run", datetime(2026, 1, 3, tzinfo=UTC), "corrected")
    edits = tmp_path / "edits.csv"
    assert export_rows(lake, contract, selection=Selection(), to=edits) == 3
    lines = edits.read_text().replace("V-1,,Annabel Lee,none", f"V-1,{who},Annabel-Lee Poe,10").splitlines()
    edits.write_text("\n".join(line for line in lines if "V-2" not in line and "V-3" not in line) + "\n")
    replay(lake, contract, edits=edits, settings=settings, author=author)
    edits.unlink()
    discard(lake, contract, selection=Selection(rule=None), settings=settings, author=author)
    before = holding(settings.home_dir / "tables" / "quarantine", settings, "Annabel Lee", "Annabel-Lee Poe")
    assert before
    done = erase(workspace, Subject("people", "customer", who), run="r", now=datetime.now(UTC) + timedelta(hours=2))
    assert done.is_clean, (done.document["left"], done.document["waiting"])
    # The row came without them, an edit gave it to them: what it was before, what it became, and what a decision says of both are gone.
    assert holding(settings.home_dir / "tables" / "quarantine", settings, "Annabel Lee", "Annabel-Lee Poe", "Someone") == []
    with lake.connect(["raw.people", "quarantine.people"]) as session:
        assert session.con.execute("SELECT visit FROM raw.people").fetchall() == [("V-5",)]
        kept = session.con.execute("SELECT DISTINCT json_extract_string(record, '/Visit ID') FROM quarantine.people").fetchall()
    assert kept == [("V-3",)]
    assert check_conservation([lake], "people") == []


@pytest.mark.slow
@pytest.mark.parametrize("protection", ["", ", classification: restricted"])
def test_originals_of_every_format_are_emptied(settings: Settings, tmp_path: Path, protection: str) -> None:
    workspace = home(settings, protection)
    records = [
        {"Visit ID": f"VISIT-{n:05d}", "Customer": f"CUST-{40 + n % 5:05d}", "name": f"Name {n % 5}", "amount": n} for n in range(50)
    ]
    shifted = [[{**one, "Visit ID": f"{kind}-{one['Visit ID']}"} for one in records] for kind in ("J", "N", "P", "X")]
    (tmp_path / "array.json").write_text(json.dumps(shifted[0], indent=1))
    (tmp_path / "lines.ndjson").write_text("\n".join(map(json.dumps, shifted[1])))
    pq.write_table(pa.Table.from_pylist(shifted[2]), tmp_path / "table.parquet")
    write_xlsx(tmp_path / "book.xlsx", [list(records[0]), *([*one.values()] for one in shifted[3])])
    for name in ("array.json", "lines.ndjson", "table.parquet", "book.xlsx"):
        bring(workspace, tmp_path / name)
    assert len(holding(settings.home_dir / "tables" / "files", settings, WHO)) == 4
    done = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC) + timedelta(hours=2))
    assert done.is_clean, (done.document["left"], done.document["waiting"])
    emptied = {
        one["path"].split(".", 1)[1].removesuffix(".enc"): one["records"] for one in done.document["files"] if one["path"][:6] == "files/"
    }
    assert emptied == dict.fromkeys(("json", "ndjson", "parquet", "xlsx"), 10)
    own = [one["Visit ID"] for listed in shifted for one in listed if one["Customer"] == WHO]
    assert holding(settings.home_dir, settings, WHO, *own) == []
    other = holding(settings.home_dir / "tables" / "files", settings, "CUST-00043")
    assert len(other) == 4
    assert workspace.lake.detail("raw.people").rows == 160
    assert done.path is not None
    assert verify_erasure(workspace, done.path, SUBJECT).left == ()


def test_a_subject_by_several_columns_is_refused(settings: Settings) -> None:
    workspace = home(settings)
    with pytest.raises(
        PrivacyError, match=r"people: a subject by several columns.*one column has to say.*Add a column to the contract"
    ) as told:
        erase(workspace, Subject.parse("people:customer=CUST-00042,name=Ann"), run="r", now=NOW)
    assert "CUST-00042" not in str(told.value)
    assert not workspace.lake.tables()
    assert erase(workspace, Subject.parse("people:customer=a,nobody=b"), run="r", now=NOW).is_clean
