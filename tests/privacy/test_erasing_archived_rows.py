"""A person's archived rows leave as well: from every tier, whatever a killed move left there, and from the backups of them."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.ingest import ingest
from lakehouse.pipeline.archiving import archive_dataset
from lakehouse.pipeline.erasing import erase, verify_erasure
from lakehouse.pipeline.keeping import enforce_contracts
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import key
from lakehouse.privacy.erasure.files import Files
from lakehouse.privacy.erasure.subject import Identifiers, Subject
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.tables.tiers import archive_tiers, spanning_sql

T = "raw.visits"
WHO = "CUST-00042"
SUBJECT = Subject("visits", "customer", WHO)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
schema:
  - name: visits
    properties:
      - {name: visit, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: customer, logicalType: string}
      - {name: at, logicalType: timestamp}
slaProperties:
  - {property: retention, value: 6, unit: y, element: visits.at}
customProperties:
  - {property: lakehouse.archive, value: {warmAfterDays: 100, coldAfterDays: 1000, by: at}}
"""


def rows(workspace: Workspace) -> list[tuple[object, ...]]:
    tiers = list(archive_tiers(workspace.settings, workspace.lake).values())
    con = workspace.lake.open_connection()
    try:
        return con.execute(f'SELECT visit, customer, "at", _file, _row FROM ({spanning_sql(tiers, T, con=con)}) ORDER BY ALL').fetchall()
    finally:
        con.close()


def holding(folder: Path, settings: Settings, *words: str) -> list[str]:
    """Files below a folder that have one of the words, unwrapped."""
    con = Lake(folder / "none").open_connection()
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    files = Files(con, Identifiers.of({}, words), keys=[key(settings)], scratch=scratch)
    found = [str(path) for path in folder.rglob("*") if path.is_file() and "keys" not in path.parts and files.has(path)]
    con.close()
    return found


@pytest.fixture(params=[pytest.param("in the home", marks=pytest.mark.slow), "elsewhere"])
def workspace(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    if request.param == "elsewhere":
        monkeypatch.setenv("LAKEHOUSE_ARCHIVE_URI", str(tmp_path / "cheap"))
    made = Workspace(Settings.load().model_copy(update={"backup_uri": str(tmp_path / "backup")}))
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "visits.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    file = tmp_path / "in" / "visits.csv"
    file.parent.mkdir()
    lines = [f"VISIT-{n:05d},CUST-{n % 100:05d},{2020 + n % 7}-0{n % 9 + 1}-01 10:00:00" for n in range(700)]
    file.write_text("visit,customer,at\n" + "\n".join(lines) + "\n")
    ingest(made.lake, made.contracts.dataset("visits"), [file], settings=made.settings, run="r", now=NOW)
    file.unlink()
    return made


def archive(workspace: Workspace) -> None:
    for instant in (datetime(2020, 11, 1, tzinfo=UTC), NOW):
        archive_dataset(workspace.settings, workspace.lake, workspace.contracts.dataset("visits"), run="r", now=instant)


@pytest.mark.parametrize("killed", ["", pytest.param("mid_archive", marks=pytest.mark.slow)])
def test_no_byte_is_left_in_any_tier(workspace: Workspace, tmp_path: Path, killed: str) -> None:
    settings, before = workspace.settings, rows(workspace)
    if killed:
        # A move that copied rows to the warm tier and never took them out above.
        command = [sys.executable, "-m", "lakehouse", "maintain", "--archive"]
        done = subprocess.run(command, env={**os.environ, "LAKEHOUSE_TEST_CRASH_AT": killed}, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
        assert workspace.lake.detail(T).rows == 700
    else:
        archive(workspace)
        tiers = archive_tiers(settings, workspace.lake).values()
        assert all(lake.detail(T).rows for lake in tiers)
    assert rows(workspace) == before
    back_up(settings, str(settings.backup_uri), now=NOW)
    own = [str(row[0]) for row in before if row[1] == WHO]
    assert len(own) == 7
    # Their rows are in the data files of tiers; by the key of their rows they are known as well.
    assert any("/warm/" in path for path in holding(tmp_path, settings, WHO, *own))
    looked = erase(workspace, SUBJECT, run="r", now=NOW, dry_run=True)
    assert any(one["table"].startswith("warm/") for one in looked.document["tables"])
    done = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC) + timedelta(hours=2))
    assert done.is_clean, (done.document["left"], done.document["waiting"])
    counted = {one["table"]: one["rows_in_files"] for one in done.document["tables"]}
    assert counted[f"warm/{T}"] >= (0 if killed else 1)
    assert holding(tmp_path, settings, WHO, *own) == []
    assert rows(workspace) == [row for row in before if row[1] != WHO]
    assert done.path is not None
    assert verify_erasure(workspace, done.path, SUBJECT).left == ()
    found = verify_home(settings, backup=settings.backup_uri)
    assert found.is_green, found.failures
    archive(workspace)
    assert rows(workspace) == [row for row in before if row[1] != WHO]
    assert erase(workspace, SUBJECT, run="r", now=datetime.now(UTC)).document["tables"] == []


def test_a_verification_sees_what_is_in_the_archive(workspace: Workspace) -> None:
    path = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC)).path
    assert path is not None
    archive(workspace)
    assert verify_erasure(workspace, path, None).left == ()
    warm = archive_tiers(workspace.settings, workspace.lake)["warm"]
    con = warm.open_connection()
    sql = f"SELECT * REPLACE ('{WHO}' AS customer) FROM ({warm.scan_sql(T, con=con)}) LIMIT 1"
    warm.append(con, T, sql, stamp=warm.history(T)[0].stamp or pytest.fail("no stamp"))
    con.close()
    assert verify_erasure(workspace, path, None).left == (f"warm/{T}: 1 rows",)
    assert any(one.startswith("warm/") for one in verify_erasure(workspace, path, SUBJECT).left)


def test_rows_over_their_period_leave_the_archive(workspace: Workspace, settings: Settings) -> None:
    archive(workspace)
    contract = settings.home_dir / "contracts" / "datasets" / "visits.odcs.yaml"
    contract.write_text(CONTRACT + "  - {property: lakehouse.retention, value: enforce}\n")
    again = Workspace(workspace.settings)
    before = rows(again)
    report = enforce_contracts(again, run="r", now=NOW)
    [one] = report.expired
    assert set(one.tables) >= {f"cold/{T}"}
    assert rows(again) == [row for row in before if str(row[2]) >= "2020-01-26"]
    assert verify_home(again.settings).failures == ()
