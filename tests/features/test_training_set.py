"""Which columns a model may learn from."""

from dataclasses import replace

import duckdb
import pytest

from lakehouse.contracts import ModelContract
from lakehouse.errors import FeatureError
from lakehouse.features import FeatureSource, FeatureView, described, prediction_set, training_set

CONTRACT = ModelContract(
    name="m",
    version="1.0.0",
    problem="classification",
    dataset="visits",
    label_table="staging.visits",
    target_column="label",
    entity=("id",),
    event_timestamp="seen",
)
VIEWS = tuple(FeatureView(name, f"features.{name}", ("id",), "seen") for name in ("a", "b"))


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA staging; CREATE SCHEMA features")
    connection.execute("CREATE TABLE staging.visits AS SELECT 1 AS id, TIMESTAMPTZ '2026-01-01 00:00:00Z' AS seen, 'x' AS label, 2 AS size")
    for name in ("a", "b"):
        connection.execute(f"CREATE TABLE features.{name} AS SELECT id, seen, 1 AS age, 2 AS only_{name}, 'x' AS Label FROM staging.visits")
    return connection


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ((), ["a__age", "only_a", "b__age", "only_b"]),
        (("age",), ["only_a", "only_b"]),
        (("AGE", "Only_A"), ["only_b"]),
        (("a__age",), ["only_a", "b__age", "only_b"]),
    ],
)
def test_what_is_excluded_stays_out_under_every_name(con, excluded, left):
    source = described(FeatureSource(replace(CONTRACT, exclude_features=excluded), VIEWS), con)
    assert list(training_set(source).features) == left
    assert list(prediction_set(source).features) == left


@pytest.mark.parametrize("key", ["exclude_features", "trusted_features"])
def test_an_exclusion_or_trust_that_is_about_nothing_is_refused(con, key):
    source = described(FeatureSource(replace(CONTRACT, **{key: ("aeg",)}), VIEWS), con)
    with pytest.raises(FeatureError, match=f"{key}: names aeg, which no table of the model has"):
        training_set(source)


def test_of_rows_that_arrived_as_one_the_same_is_predicted_every_time(con):
    contract = replace(CONTRACT, label_table="staging.twins", event_timestamp=None)
    chosen = set()
    for order in ("size", "size DESC"):
        con.execute(f"CREATE OR REPLACE TABLE staging.twins AS SELECT 1 AS id, range AS size, 'x' AS label FROM range(50) ORDER BY {order}")
        rows = prediction_set(described(FeatureSource(contract, ()), con))
        chosen.add(con.execute(f"SELECT size FROM ({rows.sql})").fetchone())
    assert chosen == {(49,)}
