"""What a batch is compared with: the batches whose rows are there, with everything that was measured of them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest import IngestReport, ingest
from lakehouse.ingest.restoring import restore_dataset
from lakehouse.quality import PROFILES_TABLE
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.ingest.conftest import HEADER, rows_of

Deliver = Callable[..., dict[str, bool]]


@pytest.fixture
def deliver(people: DatasetContract, load: Callable[..., IngestReport], tmp_path: Path) -> Deliver:
    """Ingests a file of its own, and says which questions about the batch were answered well."""

    def make(number: int, *, tall: float = 1.7, step: float = 0.01, sex: str = "fm") -> dict[str, bool]:
        path = tmp_path / f"people-{number}.csv"
        lines = [f"P{number * 100 + one},{30 + one % 40},{tall + step * (one % 20):.3f},1980-05-17,{sex[one % 2]},0" for one in range(100)]
        path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
        return {check.id: check.passed for check in load(people, path).checks if check.id.startswith("batch.")}

    return make


def test_everything_measured_is_kept_with_the_batch(deliver: Deliver, lake: Lake) -> None:
    for number in range(9):
        last = deliver(number)
    assert last["batch.spread"]
    assert last["batch.categories"]
    wider = deliver(9, step=0.03)
    assert (wider["batch.spread"], wider["batch.categories"]) == (False, True)
    assert not deliver(10, sex="ff")["batch.categories"]
    kept = rows_of(lake, PROFILES_TABLE, "categories, distinct_values", order="batch")
    assert kept.count(('{"f": 50, "m": 50}', 2)) == 10
    [(outliers,)] = rows_of(lake, PROFILES_TABLE, "max(outliers_iqr) FILTER (batch <= 9)")
    assert outliers == 0


def test_batches_that_were_undone_are_no_history(
    deliver: Deliver, people: DatasetContract, lake: Lake, settings: Settings, now: datetime
) -> None:
    for number in range(5):
        deliver(number)
    version = lake.snapshot(people.raw).version
    for number in range(9, 15):
        deliver(number, tall=9.0)
    assert deliver(21, tall=9.0)["batch.mean"], "by now it is usual"
    restore_dataset(lake, people, version, settings=settings, run="restore", now=now)
    assert deliver(22)["batch.mean"]
    assert not deliver(23, tall=9.0)["batch.mean"]


def test_a_file_that_was_replaced_is_no_history(
    deliver: Deliver, people: DatasetContract, lake: Lake, settings: Settings, now: datetime, tmp_path: Path
) -> None:
    for number in range(3):
        deliver(number, tall=9.0)
    for number in range(3):
        path = tmp_path / f"people-{number}.csv"
        path.write_text(path.read_text(encoding="utf-8").replace("9.", "1."), encoding="utf-8")
        ingest(lake, people, [path], settings=settings, run="repair", now=now, repaired=True)
    for number in range(3, 6):
        deliver(number, tall=1.0)
    assert deliver(6, tall=1.0)["batch.mean"]
    assert not deliver(7, tall=9.0)["batch.mean"]


def test_profiles_of_an_earlier_release_can_be_read(deliver: Deliver, lake: Lake) -> None:
    """They have fewer columns; the table gets the others with the first batch."""
    with lake.connect(()) as session:
        for number in range(2):
            values = f"('people', {number - 9}::BIGINT, 'height', 1::BIGINT, 100::BIGINT, 0::BIGINT, 1.795::DOUBLE, 'r', now())"
            names = "dataset, batch, column_name, files, rows, nulls, mean, run, profiled_at"
            lake.append(session.con, PROFILES_TABLE, f"SELECT * FROM (VALUES {values}) AS p({names})", stamp=Stamp(PROFILES_TABLE, "r"))
    found = deliver(1, tall=9.0)
    assert "batch.mean" not in found, "batches of which raw knows nothing are no history"
    assert rows_of(lake, PROFILES_TABLE, "count(deviation)", order="ALL") == [(3,)]
