"""Backups in Dagster: there where a place is set, and they say what they did."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from assets.recovery import BACKUP, VERIFICATION, build_recovery_assets
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from sensors.schedules import build_schedules


@pytest.fixture
def backed_up(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LAKEHOUSE_BACKUP_URI", str(tmp_path / "backups"))
    monkeypatch.setenv("LAKEHOUSE_BACKUP_KEEP_LAST", "1")
    settings = Settings.load()
    lake = Lake.from_settings(settings)
    con = lake.open_connection()
    lake.append(con, "raw.numbers", "SELECT range AS n FROM range(10)", stamp=Stamp("test", "run"))
    con.close()
    return settings


def materialize(settings: Settings) -> dg.ExecuteInProcessResult:
    resources: Mapping[str, object] = {"workspace": Workspace(settings)}
    return dg.materialize(build_recovery_assets(settings), resources=resources)


def test_nothing_is_there_without_a_place(settings: Settings) -> None:
    assert build_recovery_assets(settings) == []
    assert not {"backup_schedule", "verify_schedule"} & {one.name for one in build_schedules(settings)}


def test_a_backup_and_its_proof(backed_up: Settings) -> None:
    assert {"backup_schedule", "verify_schedule"} <= {one.name for one in build_schedules(backed_up)}
    materialize(backed_up)
    done = materialize(backed_up)
    (backup,) = [one for one in done.asset_materializations_for_node("recovery__backup") if one.asset_key == BACKUP]
    # What is new are the digests that the verification has noted.
    assert (backup.metadata["backup/tables"].value, backup.metadata["backup/files_read"].value) == (1, 1)
    assert (backup.metadata["backup/backups_kept"].value, backup.metadata["backup/backups_removed"].value) == (1, 1)
    (check,) = done.get_asset_check_evaluations()
    assert (check.passed, check.asset_key) == (True, VERIFICATION)


def test_what_is_damaged_fails_the_check_and_is_named(backed_up: Settings) -> None:
    materialize(backed_up)
    next(Path(backed_up.tables_uri).rglob("*.parquet")).write_bytes(b"PAR1")
    (check,) = materialize(backed_up).get_asset_check_evaluations()
    assert not check.passed
    assert "raw.numbers" in (check.description or "")
