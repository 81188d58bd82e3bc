"""The command line from files to predictions, with tables on S3 and files that arrive there; the same content as on a disk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.sampling import households
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.tables.storage import Storage
from tests.servers.fixtures import S3Server

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1500)]
COMPARED = ("raw.household_survey", "quarantine.household_survey")
NOT_COMPARED = {"_batch", "_ingested_at", "_file", "ingested_at", "quarantined_at"}


def _lakehouse(*arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "lakehouse", *arguments, "--json"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return json.loads(done.stdout)


def _content(lake: Lake, table: str) -> list[tuple[object, ...]]:
    columns = [f'"{name}"' for name in lake.schema(table) if name not in NOT_COMPARED]
    with lake.connect([table]) as session:
        return session.con.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY _sha256, _row").fetchall()


def test_the_demo_runs_on_s3(s3_settings: Settings) -> None:
    shown = _lakehouse("demo", "--households", "600", "--commits", "300")
    assert {"raw", "quarantine", "staging", "analytics", "features", "models", "monitoring"} <= {
        one["table"].partition(".")[0] for one in shown["tables"]
    }
    assert not (s3_settings.home_dir / "tables").exists()
    # Nothing is new: nothing is done again, by Dagster or without it.
    lake = Lake.from_settings(s3_settings)
    versions = {str(table): lake.version(table) for table in lake.tables() if table.layer in {"raw", "staging", "features"}}
    _lakehouse("demo", "--households", "600", "--commits", "300", "--direct")
    assert versions == {table: lake.version(table) for table in versions}
    found = _lakehouse("query", "select count(*) as n from raw.household_survey")
    assert found["rows"][0]["n"] > 0
    trail = _lakehouse("lineage", "models.household_vulnerability_predictions")
    assert trail


def test_a_bucket_of_files_gives_the_tables_of_a_folder(
    s3_settings: Settings, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file.path for file in households(rows=400, out=tmp_path / "made", seed=3, bad_rate=0.1, files=3).files]
    landing = Storage(s3_server.new_root(), s3_server.options)
    for file in files:
        landing.put(file, f"household_survey/2026/{file.name}")
    _lakehouse("ingest", "household_survey", landing.root)
    on_s3 = Lake.from_settings(s3_settings)

    monkeypatch.delenv("LAKEHOUSE_URI")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "on disk"))
    # Pseudonyms are those of the key.
    key = Settings.load().key_file
    key.parent.mkdir(parents=True, mode=0o700)
    shutil.copy(s3_settings.key_file, key)
    _lakehouse("ingest", "household_survey", str(tmp_path / "made"))
    on_disk = Lake.from_settings(Settings.load())
    for table in COMPARED:
        assert _content(on_s3, table) == _content(on_disk, table)
