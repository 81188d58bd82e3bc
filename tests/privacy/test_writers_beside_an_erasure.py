"""A process that read before an erasure and writes after it brings nobody back, whatever it was doing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.ingest import ingest
from lakehouse.pipeline.erasing import ErasureReport, erase
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy.erasure.subject import Subject
from lakehouse.recovery.home_checks import check_conservation
from lakehouse.settings import Settings
from lakehouse.tables import Stamp
from lakehouse.tables.tiers import archive_tiers, rows_over
from tests.privacy.test_erasing_archived_rows import CONTRACT, NOW, WHO, T, holding

STAMP = Stamp(asset="staging.visits", run="r", inputs={T: 0})
HELD = "staging.visits"
# What a child does, and where it waits with what it has read in its hands.
CHILD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from lakehouse.errors import LakehouseError
from lakehouse.ingest import ingest
from lakehouse.ingest.batch import Batch
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.pipeline.archiving import archive_dataset
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Stamp, tiers
from lakehouse.tables.writing import TableWriter

folder = Path(sys.argv[1])
workspace = Workspace(Settings.load())
lake, stamp = workspace.lake, Stamp(asset="test", run="child", inputs={"staging.visits": 0})
waited = []

def wait():
    if not waited:
        waited.append(1)
        (folder / "ready").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)

def waiting(owner, name):
    before = getattr(owner, name)
    def paused(*arguments, **named):
        wait()
        return before(*arguments, **named)
    setattr(owner, name, paused)

def held():
    session = lake.connect(["staging.visits"])
    session.con.execute("CREATE TEMP TABLE held AS SELECT * FROM staging.visits")
    return session.con

def build():
    con = held()
    wait()
    lake.overwrite(con, "analytics.visits", "SELECT * FROM held", stamp=stamp)

def merge():
    con = held()
    waiting(TableWriter, "change")
    lake.merge(con, "staging.visits", "SELECT * FROM held", key=["visit"], stamp=stamp)

def compact():
    waiting(TableWriter, "change")
    lake.compact("staging.visits", stamp=stamp)

def delete():
    waiting(TableWriter, "change")
    lake.delete(lake.open_connection(), "staging.visits", "visit = 'VISIT-00001'", stamp=stamp)

def bring():
    contract = workspace.contracts.dataset("visits")
    report = ingest(lake, contract, [folder / "later.csv"], settings=workspace.settings, run="r", now=datetime(2026, 2, 1, tzinfo=UTC))
    print(report.files[0].rows_read, report.files[0].rows_accepted, report.files[0].rows_quarantined, report.files[0].rows_erased)

def bring_judged():
    waiting(Batch, "_commit")
    bring()

def bring_written():
    waiting(PiecewiseAppend, "commit")
    bring()

def move():
    waiting(TableWriter, "create")
    archive_dataset(workspace.settings, lake, workspace.contracts.dataset("visits"), run="r", now=datetime(2026, 1, 31, tzinfo=UTC))

def move_copied():
    waiting(tiers, "reached")
    archive_dataset(workspace.settings, lake, workspace.contracts.dataset("visits"), run="r", now=datetime(2026, 1, 31, tzinfo=UTC))

try:
    globals()[sys.argv[2]]()
    print("done")
except LakehouseError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def workspace(settings: Settings, tmp_path: Path) -> Workspace:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "visits.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    made = Workspace(settings)
    file = tmp_path / "in" / "visits.csv"
    file.parent.mkdir()
    lines = [f"VISIT-{n:05d},CUST-{n % 100:05d},2020-0{n % 9 + 1}-01 10:00:00" for n in range(300)]
    file.write_text("visit,customer,at\n" + "\n".join(lines) + "\n")
    ingest(made.lake, made.contracts.dataset("visits"), [file], settings=settings, run="r", now=NOW)
    file.unlink()
    con = made.lake.open_connection()
    for part in range(3):
        made.lake.append(con, HELD, f"SELECT * FROM ({made.lake.scan_sql(T, con=con)}) WHERE _row % 3 = {part}", stamp=STAMP)
    con.close()
    return made


def beside(tmp_path: Path, doing: str, work: Callable[[], ErasureReport]) -> tuple[str, ErasureReport]:
    """What a process says that reads, waits until the work is done, and writes."""
    folder = tmp_path / "child"
    folder.mkdir()
    late = [f"LATER-{n:05d},CUST-{n % 100:05d},2020-01-01 10:00:00" for n in range(100)]
    (folder / "later.csv").write_text("visit,customer,at\n" + "\n".join([*late, f"BAD,{WHO},never"]) + "\n")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), doing], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        while not (folder / "ready").exists():
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        report = work()
        (folder / "go").touch()
        said = child.communicate(timeout=120)[0].strip()
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0
    (folder / "later.csv").unlink()
    return said, report


@pytest.mark.parametrize(
    ("doing", "says"),
    [
        ("build", "ErasedMeanwhile"),
        pytest.param("merge", "ErasedMeanwhile", marks=pytest.mark.slow),
        pytest.param("compact", "done", marks=pytest.mark.slow),
        pytest.param("delete", "done", marks=pytest.mark.slow),
        pytest.param("bring_judged", "101 99 0 2\ndone", marks=pytest.mark.slow),
        pytest.param("bring_written", "101 99 0 2\ndone", marks=pytest.mark.slow),
        pytest.param("move", "ErasedMeanwhile", marks=pytest.mark.slow),
        pytest.param("move_copied", "done", marks=pytest.mark.slow),
    ],
)
def test_nobody_comes_back(workspace: Workspace, tmp_path: Path, doing: str, says: str) -> None:
    subject = Subject("visits", "customer", WHO)

    def leave() -> ErasureReport:
        return erase(workspace, subject, run="r", now=datetime.now(UTC))

    said, report = beside(tmp_path, doing, leave)
    assert said == says
    if not report.is_clean or doing == "bring_judged":
        # Files that a writer holds, and has not committed, are said to be there; the next erasure finds whether they went.
        # And an original that arrived meanwhile is kept as it arrived, until then.
        assert doing != "build"
        report = erase(workspace, subject, run="r", now=datetime.now(UTC))
    assert report.is_clean, (report.document["left"], report.document["waiting"])
    assert holding(workspace.settings.home_dir, workspace.settings, WHO) == []
    tiers = list(archive_tiers(workspace.settings, workspace.lake).values())
    assert rows_over(tiers, T) == 297 + (99 if doing.startswith("bring") else 0)
    assert check_conservation(tiers, "visits") == []
    assert workspace.lake.detail(HELD).rows == (296 if doing == "delete" else 297)


def test_who_begins_after_an_erasure_writes(workspace: Workspace) -> None:
    subject = Subject("visits", "customer", WHO)
    with workspace.lake.connect([HELD]) as before, workspace.lake.connect(()) as other:
        workspace.lake.append(other.con, "analytics.ones", "SELECT 1 AS n", stamp=STAMP)
        erase(workspace, subject, run="r", now=datetime.now(UTC))
        with pytest.raises(Exception, match="before somebody was erased"):
            workspace.lake.append(before.con, "analytics.ones", "SELECT 2 AS n", stamp=STAMP)
        # An erasure with --dry-run stops nobody; nor does one that is over.
        erase(workspace, subject, run="r", now=datetime.now(UTC), dry_run=True)
        with workspace.lake.connect([HELD]) as after:
            workspace.lake.append(after.con, "analytics.ones", "SELECT 3 AS n", stamp=STAMP)
    assert workspace.lake.detail("analytics.ones").rows == 2
    assert not [path for path in workspace.lake.storage.walk("analytics/ones") if path.path.endswith(".parquet")][2:]
