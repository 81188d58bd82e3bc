"""Without drift there is no alarm, at any size: of 20 resamples of each size at most one."""

from pathlib import Path

import duckdb
import pytest

from lakehouse.learning.schema import FeatureSchema
from lakehouse.monitoring.drift import DriftLimits, Verdict, measure_drift, profile_reference

RESAMPLES = 20
# Even, skewed, mostly zero, few values, gaps, few categories, and many of which most are rare.
COLUMNS = {
    "even": ("DOUBLE", "random()"),
    "skewed": ("DOUBLE", "exp(4 * random() * random())"),
    "zeros": ("DOUBLE", "CASE WHEN random() < 0.95 THEN 0 ELSE random() END"),
    "visits": ("BIGINT", "floor(-3 * ln(random() + 1e-9))::BIGINT"),
    "gaps": ("DOUBLE", "CASE WHEN random() < 0.7 THEN random() END"),
    "kind": ("VARCHAR", "substr('aaaabbc', 1 + floor(random() * 7)::INTEGER, 1)"),
    "place": ("VARCHAR", "'p' || floor(300 * random() ** 3)::INTEGER"),
    "flag": ("BOOLEAN", "random() < 0.02"),
}
SCHEMA = FeatureSchema.of({name: kind for name, (kind, _) in COLUMNS.items()})
POPULATION = ", ".join(f"{sql} AS {name}" for name, (_, sql) in COLUMNS.items())


def alarms(size: int, *, reference_rows: int = 20_000) -> int:
    with duckdb.connect() as con:
        con.execute("SET threads = 1")
        con.execute("SELECT setseed(0.42)")
        con.execute(f"CREATE TABLE reference AS SELECT {POPULATION} FROM range({reference_rows})")
        reference = profile_reference(con, "reference", SCHEMA)
        verdicts: list[Verdict] = []
        for _ in range(RESAMPLES):
            con.execute(f"CREATE OR REPLACE TABLE resample AS SELECT {POPULATION} FROM range({size})")
            verdicts.append(measure_drift(con, "resample", SCHEMA, reference, DriftLimits()).verdict)
    return sum(verdict is not Verdict.STABLE for verdict in verdicts)


@pytest.mark.parametrize("size", [1_000, 10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_resamples_do_not_alarm(size: int) -> None:
    assert alarms(size) <= 1


@pytest.mark.slow
def test_resamples_of_a_million_rows_do_not_alarm() -> None:
    assert alarms(1_000_000) <= 1


@pytest.mark.parametrize("size", [60, 200])
def test_small_resamples_against_small_references_do_not_alarm(size: int) -> None:
    assert alarms(size, reference_rows=200) <= 1


@pytest.mark.parametrize("size", [1_000, pytest.param(30_000, marks=pytest.mark.slow)])
def test_resamples_of_real_rows_do_not_alarm(real_data: Path, size: int) -> None:
    file = real_data / "drift" / "acs_ma" / "reference.csv"
    with duckdb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE TABLE reference AS SELECT row_number() OVER () AS n, * FROM read_csv('{file}', nullstr=['', 'N'])")
        types = {name: kind for name, kind, *_ in con.execute("DESCRIBE reference").fetchall() if name != "n"}
        schema = FeatureSchema.of(types)
        reference = profile_reference(con, "reference", schema)
        con.execute("SELECT setseed(0.42)")
        found = 0
        for _ in range(RESAMPLES):
            drawn = f"SELECT 1 + floor(random() * {reference.rows})::INTEGER AS n FROM range({size})"
            con.execute(f"CREATE OR REPLACE TABLE resample AS SELECT reference.* FROM ({drawn}) JOIN reference USING (n)")
            found += measure_drift(con, "resample", schema, reference, DriftLimits()).verdict is not Verdict.STABLE
    assert found <= 1
