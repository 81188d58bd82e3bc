"""A person leaves a whole home: tables, originals in every wrapping, landing, logs, databases, backups; and stays out."""

import bz2
import gzip
import io
import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import PrivacyError
from lakehouse.ingest import ingest, ingest_landing
from lakehouse.monitoring import batch_volumes
from lakehouse.pipeline.erasing import erase, verify_erasure
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import decrypt_file, key
from lakehouse.privacy.erasure.files import Files
from lakehouse.privacy.erasure.subject import Identifiers, Subject
from lakehouse.privacy.erasure.suppression import rows_gone
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHO = "CUST-00042"
SUBJECT = Subject("people", "customer", WHO)
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: people
name: people
version: 1.0.0
status: active
schema:
  - name: people
    properties:
      - {name: visit, physicalName: Visit ID, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: customer, physicalName: Customer, logicalType: string}
      - {name: name, logicalType: string PROTECTION}
      - {name: amount, logicalType: integer}
"""
HEADER = "Visit ID,Customer,name,amount\n"


def rows(first: int, last: int) -> str:
    lines = [f'VISIT-{n:05d},CUST-{n % 100:05d},"Name, {n % 100}",{n}' for n in range(first, last)]
    return HEADER + "\n".join(lines) + "\n"


@pytest.fixture(params=[pytest.param("", marks=pytest.mark.slow), ", classification: restricted"])
def workspace(request: pytest.FixtureRequest, settings: Settings) -> Workspace:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "people.odcs.yaml").write_text(CONTRACT.replace(" PROTECTION", request.param), encoding="utf-8")
    return Workspace(settings.model_copy(update={"settle_s": 0.0, "backup_uri": str(settings.home_dir.parent / "backup")}))


def arrive(workspace: Workspace, files: dict[str, bytes]) -> None:
    folder = workspace.settings.landing_dir / "people"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    contract = workspace.contracts.dataset("people")
    report = ingest_landing(workspace.lake, contract, settings=workspace.settings, run="r", now=NOW)
    assert not [file.error for file in report.files if file.error]


def raw(workspace: Workspace) -> list[tuple[object, ...]]:
    with workspace.lake.connect(["raw.people"]) as session:
        return session.con.execute("SELECT visit, customer, amount, _file, _row FROM raw.people ORDER BY ALL").fetchall()


def filled(workspace: Workspace) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inner.csv", rows(300, 450))
    lines = "\n".join(json.dumps({"Visit ID": f"VISIT-{n:05d}", "Customer": f"CUST-{n % 100:05d}", "amount": n}) for n in range(450, 600))
    bad = f"V-1,{WHO},x,not a number\n{WHO}\nV-2,CUST-00043,x,no number\n"
    arrive(
        workspace,
        {
            "plain.csv": rows(0, 150).encode(),
            "packed.csv.gz": gzip.compress(rows(150, 300).encode()),
            "packed.csv.bz2": bz2.compress(rows(1150, 1300).encode()),
            "packed.zip": zipped.getvalue(),
            "lines.ndjson": lines.encode(),
            "packed.csv.zst": pa.compress(rows(600, 700).encode(), codec="zstd", asbytes=True),
            "wide.csv": rows(700, 800).encode("utf-16"),
            "bad.csv": (rows(800, 900) + bad).encode(),
        },
    )


def everywhere(workspace: Workspace, word: str = WHO) -> list[str]:
    """Files that have the word in them, unwrapped, by an eye that knows nothing of erasure but how to unwrap."""
    found: list[str] = []
    con = workspace.lake.open_connection()
    scratch = workspace.settings.home_dir.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    files = Files(con, Identifiers.of({}, [word]), keys=[key(workspace.settings)], scratch=scratch)
    for root in (workspace.settings.home_dir, workspace.settings.home_dir.parent / "backup"):
        found += [str(path) for path in root.rglob("*") if path.is_file() and (word in str(path) or files.has(path))]
    con.close()
    return sorted(found)


def test_a_person_leaves_a_home(workspace: Workspace) -> None:
    filled(workspace)
    settings = workspace.settings
    (settings.home_dir / "dbt").mkdir()
    (settings.home_dir / "dbt" / f"log_{WHO}.txt").write_text(f"built for {WHO}, {WHO}1 and {WHO}\n")
    with closing(sqlite3.connect(settings.home_dir / "events.db")) as database:
        database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT)")
        database.executemany("INSERT INTO events (body) VALUES (?)", [("x" * 6000 + f' {{"sample": "{WHO}"}}',), ("other",), (WHO,)])
        database.execute("DELETE FROM events WHERE body = 'other'")
        database.commit()
    back_up(settings, settings.backup_uri or "", now=NOW)
    assert verify_home(settings, backup=settings.backup_uri).failures == ()
    before = raw(workspace)
    assert len(everywhere(workspace)) > 10
    looked = erase(workspace, SUBJECT, run="r", now=NOW, dry_run=True)
    assert looked.document["tables"]
    assert raw(workspace) == before
    done = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC))
    assert done.is_clean, done.document["left"]
    assert everywhere(workspace) == []
    assert raw(workspace) == [row for row in before if row[1] != WHO]
    assert done.path is not None
    assert WHO not in done.path.read_text()
    assert verify_erasure(workspace, done.path, SUBJECT).left == ()
    assert verify_erasure(workspace, done.path, None).left == ()
    # Whoever looks whether everything is as it was written finds that it is: nothing was damaged.
    assert verify_home(settings, backup=settings.backup_uri).failures == ()
    # Again: there is nothing to do.
    again = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC))
    assert again.document["tables"] == again.document["files"] == []


@pytest.mark.parametrize("workspace", [""], indirect=True)
def test_other_records_of_an_original_keep_their_numbers(workspace: Workspace) -> None:
    filled(workspace)
    erase(workspace, SUBJECT, run="r", now=datetime.now(UTC))
    others = raw(workspace)
    with workspace.lake.connect(["monitoring.erased_originals"]) as session:
        kept = session.con.execute("SELECT archive, sha256_before, sha256_now FROM monitoring.erased_originals").fetchall()
    assert len(kept) == 8
    # Taken in anew, the originals give the same rows with the same numbers.
    folder = workspace.settings.home_dir.parent / "again"
    folder.mkdir()
    for path in (workspace.settings.home_dir / "tables" / "files").rglob("*"):
        if path.suffix == ".enc":
            decrypt_file(path, folder / path.name.removesuffix(".enc"), key(workspace.settings))
        elif path.is_file():
            shutil.copy(path, folder)
    fresh = Lake(folder.parent / "fresh")
    contract = workspace.contracts.dataset("people")
    report = ingest(fresh, contract, sorted(folder.iterdir()), settings=workspace.settings, run="r", now=NOW)
    assert not [file.error for file in report.files if file.error]
    with fresh.connect(["raw.people"]) as session:
        again = session.con.execute("SELECT visit, customer, amount, _row FROM raw.people ORDER BY ALL").fetchall()
    assert again == sorted((*row[:3], row[4]) for row in others)  # type: ignore[type-var]


def test_a_person_who_was_erased_does_not_come_back(workspace: Workspace) -> None:
    """Not by another file, not in quarantine, not in a line that is no record; and every row that was read is accounted for."""
    arrive(workspace, {"plain.csv": rows(0, 150).encode()})
    erase(workspace, SUBJECT, run="r", now=datetime.now(UTC))
    bad = f"V-1,{WHO},x,not a number\nonly {WHO}\nV-2,CUST-00043,x,no number\n"
    folder = workspace.settings.landing_dir / "people"
    (folder / "again.csv").write_text(rows(1000, 1150) + bad)
    contract = workspace.contracts.dataset("people")
    report = ingest_landing(workspace.lake, contract, settings=workspace.settings, run="r", now=NOW)
    [file] = [file for file in report.files if file.status == "ingested"]
    assert (file.rows_read, file.rows_accepted, file.rows_quarantined, file.rows_erased) == (153, 148, 1, 4)
    assert all(check.passed for check in report.checks if check.id == "batch.rows_conserved")
    assert not [row for row in raw(workspace) if row[1] == WHO]
    assert all(volume.conserved for volume in batch_volumes(workspace.lake, "people"))
    accepted = sum(volume.rows_accepted for volume in batch_volumes(workspace.lake, "people"))
    assert accepted == len(raw(workspace)) + rows_gone(workspace.lake, "people").raw


@pytest.mark.parametrize("workspace", [""], indirect=True)
def test_a_report_that_was_changed_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    arrive(workspace, {"plain.csv": rows(0, 150).encode()})
    path = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC)).path
    assert path is not None
    document = json.loads(path.read_text())
    document["tables"] = []
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(document))
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        verify_erasure(workspace, forged, SUBJECT)
    with pytest.raises(PrivacyError, match="is not the one"):
        verify_erasure(workspace, path, Subject("people", "customer", "CUST-00043"))


@pytest.mark.parametrize("text", ["", "people", "people:customer", "people:customer=", ":a=b", "x=y", "people:customer= "])
def test_a_subject_is_named_in_one_way(text: str) -> None:
    with pytest.raises(PrivacyError, match="can't be understood"):
        Subject.parse(text)


def test_a_subject_is_not_shown() -> None:
    assert WHO not in repr(SUBJECT)
    assert WHO not in repr(Identifiers.of({"a": [WHO]}, [WHO]))
