"""Rows that were archived are part of the home: verified, counted, backed up, and brought back, wherever the archive is."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.ingest import ingest
from lakehouse.pipeline.archiving import archive_dataset
from lakehouse.pipeline.workspace import Workspace
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.pruning import prune
from lakehouse.recovery.repairing import repair
from lakehouse.recovery.restoring import restore_home
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.tiers import archive_tiers, spanning_sql
from tests.recovery.test_verify import flip, problems

Clock = Callable[[], datetime]
T = "raw.visits"
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
      - {name: at, logicalType: timestamp}
customProperties:
  - {property: lakehouse.archive, value: {warmAfterDays: 100, coldAfterDays: 1000, by: at}}
"""


def tiers_of(settings: Settings) -> list[Lake]:
    return list(archive_tiers(settings, Lake.from_settings(settings)).values())


def everything(settings: Settings) -> list[tuple[object, ...]]:
    tiers = tiers_of(settings)
    con = tiers[0].open_connection()
    try:
        return con.execute(f"SELECT visit, _file, _row FROM ({spanning_sql(tiers, T, con=con)}) ORDER BY ALL").fetchall()
    finally:
        con.close()


def archived_home(settings: Settings, folder: Path) -> Settings:
    """A home with hot, warm and cold rows of two files."""
    contract = settings.home_dir / "contracts" / "datasets" / "visits.odcs.yaml"
    contract.parent.mkdir(parents=True)
    contract.write_text(CONTRACT, encoding="utf-8")
    workspace = Workspace(settings)
    dataset = workspace.contracts.dataset("visits")
    for name, year in (("one", 2020), ("two", 2026)):
        file = folder / f"{name}.csv"
        file.write_text("visit,at\n" + "".join(f"{name}-{n},{year}-0{n}-01 10:00:00\n" for n in range(1, 10)))
        ingest(workspace.lake, dataset, [file], settings=settings, run="r", now=NOW)
    # First what is warm by then, then on to the cold tier.
    archive_dataset(settings, workspace.lake, dataset, run="r", now=datetime(2020, 11, 1, tzinfo=UTC))
    archive_dataset(settings, workspace.lake, dataset, run="r", now=NOW)
    return settings


@pytest.fixture(params=["in the home", "elsewhere"])
def archived(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    at = {} if request.param == "in the home" else {"archive_uri": str(tmp_path / "cheap" / "archive")}
    return archived_home(settings.model_copy(update=at), tmp_path)


def test_a_home_with_an_archive_is_lost_and_comes_back(archived: Settings, place: str, clock: Clock, tmp_path: Path) -> None:
    before = everything(archived)
    assert len(before) == 18
    assert [lake.detail(T).rows for lake in tiers_of(archived)] == [9, 2, 7]
    back_up(archived, place, now=clock())
    report = back_up(archived, place, now=clock())
    assert (report.files_read, report.objects_added) == (0, 0)
    prune(archived, place, keep_last=1, now=clock())
    shutil.rmtree(archived.home_dir)
    shutil.rmtree(archived.archive_root, ignore_errors=True)
    other = tmp_path / "other"
    restore_home(archived, place, now=clock(), to=other)
    assert everything(Settings(project=archived.project, home=other)) == before
    restored = restore_home(archived, place, now=clock())
    assert restored.tables[T] == Lake.from_settings(archived).version(T)
    assert everything(archived) == before
    found = verify_home(archived, backup=place)
    assert found.is_green, found.failures
    assert {T, f"warm/{T}", f"cold/{T}"} <= set(found.tables)


def test_damage_in_the_archive_is_named_and_put_back(archived: Settings, place: str, clock: Clock) -> None:
    back_up(archived, place, now=clock())
    before = everything(archived)
    cold = tiers_of(archived)[2]
    victim = Path(cold.snapshot(T).files[0].uri)
    flip(victim, 40)
    (failure,) = verify_home(archived, backup=place).failures
    assert (failure.subject, failure.path) == (f"cold/{T}", f"archive/cold/raw/visits/{victim.name}")
    assert failure.fix == f"lakehouse restore-backup {place} --only cold/{T}"
    assert repair(archived, place, [f"cold/{T}"]).replaced == (failure.path,)
    shutil.rmtree(Path(tiers_of(archived)[1].uri) / "raw" / "visits")
    repair(archived, place, [f"warm/{T}"])
    assert verify_home(archived, backup=place).is_green
    assert everything(archived) == before


def test_rows_lost_in_the_archive_are_missed(archived: Settings) -> None:
    assert verify_home(archived).is_green
    warm = tiers_of(archived)[1]
    con = warm.open_connection()
    warm.append(con, T, f"SELECT * FROM ({warm.scan_sql(T, con=con)}) LIMIT 1", stamp=Stamp("by hand", "r"))
    con.close()
    assert problems(verify_home(archived)) == {("rows_are_conserved", T)}
    lake = Lake.from_settings(archived)
    before = lake.snapshot(T)
    con = lake.open_connection()
    # What a move would leave that lost rows on the way: they went, and nothing below has them.
    lake.delete(con, T, "true", stamp=Stamp("maintenance", "r"), operation="archive", expect_version=before.version)
    con.close()
    assert ("rows_are_conserved", T) in problems(verify_home(archived))
