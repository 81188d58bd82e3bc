"""Files that arrive in a bucket: found, fetched, ingested once, and traced to their key."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.datasets import build_dataset_assets
from lakehouse.contracts import DatasetContract
from lakehouse.errors import StorageError
from lakehouse.ingest import BucketFile, IngestReport, ingest, ingest_landing, pending
from lakehouse.ingest.known import files_of
from lakehouse.pipeline.files import arrived_files
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.tables.storage import Storage
from resources.workspace import RESOURCE_KEY
from sensors.schedules import build_fetch_schedules
from tests.dagster.conftest import SURVEY, land_survey
from tests.dagster.test_landing_sensor import Watched
from tests.ingest.conftest import HEADER, people, rows_of, write_contract
from tests.servers.fixtures import S3Server

__all__ = ["people", "write_contract"]

pytestmark = pytest.mark.servers
ROW = "P{},30,1.5,1990-05-17,f,1\n"


@pytest.fixture(params=["tables on disk", "tables on S3"])
def landed(request: pytest.FixtureRequest, s3_settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose files arrive in a bucket."""
    if request.param == "tables on disk":
        monkeypatch.delenv("LAKEHOUSE_URI")
    monkeypatch.setenv("LAKEHOUSE_LANDING", s3_server.new_root() + "/arriving/")
    monkeypatch.setenv("LAKEHOUSE_SETTLE_S", "0")
    return Settings.load()


@pytest.fixture
def bucket(landed: Settings) -> Storage:
    return Storage(landed.landing_bucket or "", landed.storage_options)


@pytest.fixture
def arrive(landed: Settings, now: datetime, people: DatasetContract) -> Callable[[], IngestReport]:
    lake = Lake.from_settings(landed)
    return lambda: ingest_landing(lake, people, settings=landed, run="r", now=now)


def test_an_object_is_ingested_once_and_traced_to_its_key(
    landed: Settings, bucket: Storage, people: DatasetContract, arrive: Callable[[], IngestReport]
) -> None:
    lake = Lake.from_settings(landed)
    assert pending(lake, people, settings=landed).ready == ()
    bucket.write("people/2026/01/é a+b.csv", (HEADER + ROW.format(1) + "bad,row\n").encode())
    bucket.write("people/half.csv.tmp", b"not yet")
    bucket.write("people/.hidden/x.csv", b"not this")
    bucket.write("others/y.csv", b"not theirs")
    (waiting,) = pending(lake, people, settings=landed).ready
    key = bucket.address("people/2026/01/é a+b.csv").removeprefix("s3://").partition("/")[2]
    assert (str(waiting.path), waiting.sha256) == (f"s3://lakehouse-tests/{key}", None)
    (report,) = arrive().files
    assert (report.status, report.rows_accepted, report.rows_quarantined, report.path) == ("ingested", 1, 1, str(waiting.path))
    assert rows_of(lake, people.raw, "_file, _row") == [(key, 1)]
    assert rows_of(lake, people.quarantine, "_file, _row") == [(key, 2)]
    (file,) = files_of(lake.history(people.raw)[0])
    assert isinstance(waiting.path, BucketFile)
    assert (file["file"], file["uri"], file["etag"]) == (key, str(waiting.path), waiting.path.etag)
    assert (lake.storage.read(file["archive"]) or b"").startswith(HEADER.encode())
    assert pending(lake, people, settings=landed).ready == ()
    # Another machine, which has never looked here, knows it from the log.
    elsewhere = landed.model_copy(update={"home": landed.home_dir / "elsewhere", "uri": landed.tables_uri})
    assert pending(lake, people, settings=elsewhere).ready == ()
    assert arrive().files == ()


def test_the_same_content_counts_once_and_a_new_content_under_a_known_key_counts(
    landed: Settings, bucket: Storage, people: DatasetContract, arrive: Callable[[], IngestReport], tmp_path: Path
) -> None:
    lake = Lake.from_settings(landed)
    bucket.write("people/a.csv", (HEADER + ROW.format(1)).encode())
    assert [file.status for file in arrive().files] == ["ingested"]
    bucket.write("people/copy of a.csv", (HEADER + ROW.format(1)).encode())
    assert [file.status for file in arrive().files] == ["already"]
    assert pending(lake, people, settings=landed).ready == ()
    bucket.write("people/a.csv", (HEADER + ROW.format(2)).encode())
    assert [file.status for file in arrive().files] == ["ingested"]
    # The folder is looked at as well, and the same content there is the same content.
    folder = landed.landing_dir / "people"
    folder.mkdir(parents=True)
    (folder / "b.csv").write_text(HEADER + ROW.format(2))
    (folder / "c.csv").write_text(HEADER + ROW.format(3))
    assert [Path(file.path).name for file in arrive().files] == ["c.csv"]
    assert rows_of(lake, people.raw, "id") == [("P1",), ("P2",), ("P3",)]


def test_a_refused_object_is_not_fetched_again(
    landed: Settings, bucket: Storage, people: DatasetContract, arrive: Callable[[], IngestReport]
) -> None:
    lake = Lake.from_settings(landed)
    bucket.write("people/bad.csv", b"\x00\x01\x02 no csv at all")
    bucket.write("people/empty.csv", b"")
    assert {file.status for file in arrive().files} == {"refused"}
    found = pending(lake, people, settings=landed)
    assert (found.ready, len(found.refused)) == ((), 2)
    assert all(Path(str(path)).name in error and "/people/" in str(path) for path, error in found.refused)


def test_an_object_that_vanishes_or_changes_while_it_is_fetched(
    landed: Settings, bucket: Storage, people: DatasetContract, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.from_settings(landed)
    for name in ("gone", "replaced", "fine"):
        bucket.write(f"people/{name}.csv", (HEADER + ROW.format(len(name))).encode())
    waiting = [file.path for file in pending(lake, people, settings=landed).ready]
    get = Storage.get
    bucket.delete(["people/gone.csv"])

    def get_while_another_writes(self: Storage, path: str, to: Path) -> None:
        get(self, path, to)
        if path.endswith("replaced.csv"):
            self.write(path, (HEADER + ROW.format(77)).encode())

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "get", get_while_another_writes)
        report = ingest(lake, people, waiting, settings=landed, run="r", now=now)
    found = {Path(file.path).stem: (file.status, file.error or "") for file in report.files}
    assert found["fine"][0] == "ingested"
    assert "does not exist any more" in found["gone"][1]
    assert "replaced while it was fetched" in found["replaced"][1]
    ready = pending(lake, people, settings=landed).ready
    ingest(lake, people, [file.path for file in ready], settings=landed, run="r", now=now)
    assert rows_of(lake, people.raw, "id") == [("P4",), ("P77",)]


def test_a_young_object_rests_first(landed: Settings, bucket: Storage, people: DatasetContract) -> None:
    patient = landed.model_copy(update={"settle_s": 3600.0})
    bucket.write("people/a.csv", (HEADER + ROW.format(1)).encode())
    found = pending(Lake.from_settings(patient), people, settings=patient)
    assert (found.ready, len(found.settling)) == ((), 1)


def test_objects_are_named_by_address_prefix_and_glob(landed: Settings, bucket: Storage, people: DatasetContract, now: datetime) -> None:
    for name in ("x/a.csv", "x/b.csv", "x/deep/c.csv", "x/d.json"):
        bucket.write(name, (HEADER + ROW.format(ord(name[-5]))).encode())

    def named(address: str) -> list[str]:
        return [str(file).removeprefix(bucket.root + "/") for file in arrived_files(landed, [address])]

    assert named(bucket.address("x/a.csv")) == ["x/a.csv"]
    assert named(bucket.address("x")) == ["x/a.csv", "x/b.csv", "x/d.json", "x/deep/c.csv"]
    assert named(bucket.address("x/*.csv")) == ["x/a.csv", "x/b.csv", "x/deep/c.csv"]
    assert named(bucket.address("*/b.csv")) == ["x/b.csv"]
    lake = Lake.from_settings(landed)
    report = ingest(lake, people, arrived_files(landed, [bucket.address("x/a.csv")]), settings=landed, run="r", now=now)
    assert report.files[0].status == "ingested"
    place = replace(people.landing, paths=(bucket.address("x/*.csv"),))
    waiting = pending(lake, replace(people, landing=place), settings=landed).ready
    assert [str(file.path).removeprefix(bucket.root + "/") for file in waiting] == ["x/b.csv", "x/deep/c.csv"]


def test_exports_that_a_contract_names_are_looked_at_by_schedule(
    landed: Settings, bucket: Storage, people: DatasetContract, now: datetime, instance: dg.DagsterInstance
) -> None:
    lake, workspace = Lake.from_settings(landed), Workspace(landed)
    exported = replace(people, landing=replace(people.landing, paths=(bucket.address("exports/crm") + "/",)))
    (schedule,) = build_fetch_schedules([exported], landed)
    assert schedule.cron_schedule == "0 */4 * * *"
    bucket.write("exports/crm/2026-01-01T00.csv", (HEADER + ROW.format(1) + ROW.format(2)).encode())
    bucket.write("exports/crm/2026-01-01T04.csv.tmp", b"not yet")
    # The sensor leaves it alone, and takes what arrives where it looks.
    assert pending(lake, exported, settings=landed, exports=False).ready == ()
    bucket.write("people/a.csv", (HEADER + ROW.format(9)).encode())
    assert len(pending(lake, exported, settings=landed, exports=False).ready) == 1

    def look() -> list[tuple[object, ...]]:
        done = dg.materialize([build_dataset_assets(exported)], instance=instance, resources={RESOURCE_KEY: workspace})
        assert done.success
        return rows_of(lake, people.raw, "id, _file")

    folder = bucket.address("exports/crm").removeprefix("s3://").partition("/")[2]
    first = look()
    assert [row[0] for row in first] == ["P1", "P2", "P9"]
    assert first[0][1] == f"{folder}/2026-01-01T00.csv"
    version = lake.version(people.raw)
    assert look() == first
    assert lake.version(people.raw) == version
    # The next export has the old one once more, under another name, and one that is late under an earlier one.
    bucket.write("exports/crm/2026-01-01T04.csv", (HEADER + ROW.format(1) + ROW.format(2)).encode())
    bucket.write("exports/crm/2025-12-31T20.csv", (HEADER + ROW.format(3)).encode())
    assert [row[0] for row in look()] == ["P1", "P2", "P3", "P9"]


def test_a_landing_bucket_that_is_not_there_is_named(landed: Settings, people: DatasetContract) -> None:
    wrong = landed.model_copy(update={"landing": "s3://no-such-bucket/x"})
    with pytest.raises(StorageError, match="bucket no-such-bucket: does not exist"):
        pending(Lake.from_settings(wrong), people, settings=wrong)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_the_sensor_starts_a_run_for_an_object_and_none_for_a_known_one(
    landed: Settings, bucket: Storage, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    watched = Watched(Workspace(landed), instance)
    assert f"{landed.landing_bucket}/{SURVEY}" in (watched.sensor.description or "")
    assert "No new file" in watched.skipped()
    local = landed.model_copy(update={"landing": str(tmp_path / "made")})
    (file,) = land_survey(local)
    bucket.put(file, f"{SURVEY}/{file.name}")
    request = watched.requested()
    assert watched.requested().run_key == request.run_key
    watched.run(request)
    assert "No new file" in watched.skipped()
    assert [row[0].rpartition("/")[2] for row in rows_of(Lake.from_settings(landed), f"raw.{SURVEY}", "DISTINCT _file")] == [file.name]
