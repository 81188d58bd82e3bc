"""Quality scores and sizes, on real tables."""

from datetime import datetime

import pytest

from lakehouse.contracts import Column, DatasetContract
from lakehouse.monitoring import batch_volumes, latest_quality, measure_storage, profile_dataset, quality_trend, score_of
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


def contract() -> DatasetContract:
    columns = (
        Column(name="id", source="id", logical_type="integer", sql_type="INTEGER", primary_key=True),
        Column(name="size", source="size", logical_type="integer", sql_type="INTEGER"),
    )
    return DatasetContract(name="things", version="1.0.0", columns=columns, primary_key=("id",))


def ingested(lake: Lake, sql: str, *, read: int, accepted: int) -> None:
    file = {"sha256": "0" * 64, "rows_read": read, "rows_accepted": accepted, "rows_quarantined": read - accepted}
    with lake.connect(()) as session:
        lake.append(session.con, "raw.things", sql, stamp=Stamp(asset="raw.things", run="r", source={"files": [file]}))


def test_score_is_the_mean_of_what_could_be_judged(lake: Lake, now: datetime) -> None:
    ingested(lake, "SELECT * FROM (VALUES (1, 10), (2, NULL), (2, 30), (4, 40)) AS rows(id, size)", read=5, accepted=4)
    profile = profile_dataset(lake, contract(), run="r", now=now)
    assert profile is not None
    score = score_of(profile)
    assert (score.validity, score.completeness, score.uniqueness) == (4 / 5, 7 / 8, 3 / 4)
    assert (score.consistency, score.timeliness) == (None, None)
    assert score.score == pytest.approx((0.8 + 0.875 + 0.75) / 3)
    assert latest_quality(lake, "things") == score


def test_a_version_is_scored_once(lake: Lake, now: datetime) -> None:
    ingested(lake, "SELECT 1 AS id, 1 AS size", read=1, accepted=1)
    first = profile_dataset(lake, contract(), run="r1", now=now)
    assert profile_dataset(lake, contract(), run="r2", now=now.replace(year=2027)) == first
    assert lake.version("monitoring.quality_scores") == 0
    ingested(lake, "SELECT 2 AS id, 1 AS size", read=1, accepted=1)
    assert profile_dataset(lake, contract(), run="r3", now=now) != first
    assert [one.version for one in quality_trend(lake, "raw.things")] == [0, 1]


def test_a_large_table_is_left_to_the_quality_job(lake: Lake, now: datetime) -> None:
    ingested(lake, "SELECT range AS id, 1 AS size FROM range(11)", read=11, accepted=11)
    assert profile_dataset(lake, contract(), run="r", now=now, most_rows=10) is None


def test_nothing_ingested_has_no_score_and_no_batches(lake: Lake, now: datetime) -> None:
    assert profile_dataset(lake, contract(), run="r", now=now) is None
    assert batch_volumes(lake, "things") == []


def test_volumes_are_the_logs(lake: Lake) -> None:
    ingested(lake, "SELECT 1 AS id, 1 AS size", read=3, accepted=1)
    ingested(lake, "SELECT 2 AS id, 1 AS size", read=1, accepted=1)
    volumes = batch_volumes(lake, "things")
    assert [(volume.rows_read, volume.rows_accepted, volume.rows_quarantined) for volume in volumes] == [(3, 1, 2), (1, 1, 0)]
    assert all(volume.conserved for volume in volumes)
    assert batch_volumes(lake, "things", limit=1) == volumes[1:]


def test_sizes_are_recorded(lake: Lake, now: datetime) -> None:
    ingested(lake, "SELECT 1 AS id, 1 AS size", read=1, accepted=1)
    sizes = measure_storage(lake, run="r", now=now)
    assert [(size.table, size.version, size.rows) for size in sizes] == [("raw.things", 0, 1)]
    assert lake.version("raw.things") == 0
    with lake.connect(["monitoring.storage"]) as session:
        assert session.con.execute('SELECT "table", rows FROM monitoring.storage').fetchall() == [("raw.things", 1)]


def test_an_empty_lake_has_no_sizes(lake: Lake, now: datetime) -> None:
    assert measure_storage(lake, run="r", now=now) == []
    assert not lake.exists("monitoring.storage")
