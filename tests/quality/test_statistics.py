"""The statistical level: what is unusual is a warning, what the contract demands is what it says."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from lakehouse.contracts import DatasetContract, Severity, load_dataset
from lakehouse.quality import (
    BatchProfile,
    CheckResult,
    ColumnProfile,
    check_batch,
    checks_not_made,
    profile_sql,
    read_profiles,
    results_sql,
)
from lakehouse.settings import Settings

TEXT = """
apiVersion: v3.1.0
kind: DataContract
id: things
name: things
version: 1.0.0
status: active
schema:
  - name: things
    physicalType: table
    properties:
      - name: size
        logicalType: integer
        physicalType: INTEGER
        quality:
          - {name: size_is_filled, type: library, metric: nullValues, unit: percent, mustBeLessThan: 10, severity: error}
          - {name: size_is_stable, type: custom, engine: lakehouse,
             implementation: {level: statistical, check: mean_drift, baseline: 5, maxSigma: 3}}
    quality:
      - {name: has_rows, type: sql, query: "SELECT count(*) FROM things", mustBeGreaterThan: 1}
"""
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def contract(tmp_path: Path) -> DatasetContract:
    path = tmp_path / "things.odcs.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return load_dataset(path)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def profile(batch: int, *, rows: int = 100, nulls: int = 0, mean: float = 10.0, files: int = 1) -> BatchProfile:
    return BatchProfile(batch, files, rows, {"size": ColumnProfile(nulls, mean)})


def results(
    con: duckdb.DuckDBPyConnection, contract: DatasetContract, now: BatchProfile, history: list[BatchProfile]
) -> dict[str, CheckResult]:
    sql = "SELECT unnest([1, 2, NULL])::INTEGER AS size"
    return {result.id: result for result in check_batch(con, contract, now, history, rows_sql=sql)}


def test_the_contracts_rules_are_measured_on_the_rows(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    found = results(con, contract, profile(1), [])
    assert not found["size_is_filled"].passed
    assert found["size_is_filled"].severity is Severity.ERROR
    assert found["has_rows"].passed
    assert found["size_is_stable"].passed
    assert "batch.volume" not in found


def test_the_usual_is_not_reported(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    history = [profile(number, mean=10 + number / 10) for number in range(1, 8)]
    found = results(con, contract, profile(8, mean=10.5), history)
    assert all(found[name].passed for name in ("batch.volume", "batch.null_rate", "batch.mean", "size_is_stable"))


@pytest.mark.parametrize(
    ("now", "failed"),
    [
        (profile(9, rows=5), "batch.volume"),
        (profile(9, rows=900), "batch.volume"),
        (profile(9, nulls=50), "batch.null_rate"),
        (profile(9, mean=90.0), "batch.mean"),
        (profile(9, mean=90.0), "size_is_stable"),
    ],
)
def test_the_unusual_is_a_warning(con: duckdb.DuckDBPyConnection, contract: DatasetContract, now: BatchProfile, failed: str) -> None:
    history = [profile(number, mean=10 + number / 10) for number in range(1, 9)]
    found = results(con, contract, now, history)
    assert not found[failed].passed
    assert found[failed].is_warning


def test_a_batch_of_many_files_is_compared_per_file(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    history = [profile(number) for number in range(1, 5)]
    assert results(con, contract, profile(9, rows=3000, files=30), history)["batch.volume"].passed


def test_a_rule_that_cannot_be_measured_fails_with_the_reason(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    found = check_batch(con, contract, profile(1), [], rows_sql="SELECT 1 AS other")
    assert "can't be measured" in next(result.detail for result in found if result.id == "size_is_filled")


@pytest.mark.parametrize("query", ["SELECT max(size) FROM things WHERE size > 99", "SELECT NULL", "SELECT 1 WHERE false"])
def test_a_statistic_that_comes_out_as_nothing_does_not_pass(con: duckdb.DuckDBPyConnection, tmp_path: Path, query: str) -> None:
    path = tmp_path / "things.odcs.yaml"
    path.write_text(TEXT.replace("SELECT count(*) FROM things", query), encoding="utf-8")
    found = results(con, load_dataset(path), profile(1), [])["has_rows"]
    assert (found.passed, found.severity) == (False, Severity.ERROR)
    assert "can't be measured" in found.detail


def test_a_batch_without_rows_is_not_judged_and_says_so(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    sql = "SELECT 1::INTEGER AS size WHERE false"
    empty = BatchProfile(9, 1, 0, {"size": ColumnProfile(0)})
    found = {result.id: result for result in check_batch(con, contract, empty, [profile(1)], rows_sql=sql)}
    for name in ("size_is_filled", "size_is_stable"):
        assert found[name].passed
        assert "not judged: the batch has no accepted rows" in found[name].detail
        assert found[name].metadata == {"judged": False}
    assert not found["has_rows"].passed


def test_a_mean_without_numbers_does_not_pass(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    history = [profile(number) for number in range(1, 9)]
    now = BatchProfile(9, 1, 100, {"size": ColumnProfile(100)})
    found = results(con, contract, now, history)["size_is_stable"]
    assert not found.passed
    assert "size has no number in 100 rows" in found.detail
    assert "not judged" in results(con, contract, profile(9), history[:2])["size_is_stable"].detail


def test_a_check_that_nobody_knows_is_not_taken_for_passed(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "things.odcs.yaml"
    path.write_text(TEXT.replace("mean_drift", "mean_drfit"), encoding="utf-8")
    found = results(con, load_dataset(path), profile(1), [])["size_is_stable"]
    assert found.is_warning
    assert "not made" in found.detail


def test_a_check_for_another_engine_is_reported_as_not_made(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "things.odcs.yaml"
    path.write_text(TEXT.replace("engine: lakehouse", "engine: soda"), encoding="utf-8")
    contract = load_dataset(path)
    found = results(con, contract, profile(1), [])["size_is_stable"]
    assert found.is_warning
    assert "needs the engine soda, which does not run here; it was not made" in found.detail
    assert checks_not_made(contract) == {"size_is_stable": "needs the engine soda, which does not run here"}


def test_the_doctor_names_checks_that_are_not_made(settings: Settings) -> None:
    from lakehouse.pipeline.doctor import Health, examine

    path = settings.home_dir / "contracts" / "datasets" / "things.odcs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT.replace("engine: lakehouse", "engine: soda"), encoding="utf-8")
    finding = next(one for one in examine() if one.check == "contracts" and one.health is Health.WARNING)
    assert "things: not made: size_is_stable needs the engine soda" in finding.detail
    assert str(path) in finding.fix


def test_profiles_come_back_as_they_were_written(con: duckdb.DuckDBPyConnection) -> None:
    written = [BatchProfile(number, 2, 10 * number, {"a": ColumnProfile(number, 1.5), "b": ColumnProfile(0)}) for number in range(1, 6)]
    parts = [profile_sql(one, dataset="x", run="r'1", at=AT) for one in written]
    parts.append(profile_sql(profile(9), dataset="y", run="r", at=AT))
    sql = " UNION ALL ".join(f"({part})" for part in parts)
    assert read_profiles(con, sql, dataset="x", limit=3) == written[-3:]


def test_results_become_rows(con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    found = check_batch(con, contract, profile(1), [], rows_sql="SELECT 1 AS size")
    rows = con.execute(f"SELECT check_id, passed FROM ({results_sql(found, batch=1, run='r', at=AT)})").fetchall()
    assert rows == [(result.id, result.passed) for result in found]
