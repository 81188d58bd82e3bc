"""The one pass over all columns: the same counts as numpy's, whatever the values, their order and how the rows are divided."""

import math
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.learning.schema import FeatureSchema
from lakehouse.monitoring.drift import DriftLimits, Verdict, measure_drift, profile_reference
from lakehouse.monitoring.drift.bins import MISSING, OTHER, Bins, count

NUMBERS = st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 3).map(float)), max_size=60)
TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "it's", '"', "ü"])), max_size=60)
SCHEMA = FeatureSchema.of({"size": "DOUBLE", "kind": "VARCHAR"})


def table(con: duckdb.DuckDBPyConnection, sizes: Sequence[float | None], kinds: Sequence[str | None]) -> None:
    rows = pa.table({"size": pa.array(sizes, pa.float64()), "kind": pa.array(kinds, pa.string())})
    con.register("given", rows)
    con.execute("CREATE OR REPLACE TABLE rows AS SELECT * FROM given")
    con.unregister("given")


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        yield connection


@settings(max_examples=30)
@given(values=NUMBERS, edges=st.lists(st.floats(-5, 5), min_size=1, max_size=20, unique=True).map(sorted))
def test_numbers_are_counted_as_numpy_does(con: duckdb.DuckDBPyConnection, values: list[float | None], edges: list[float]) -> None:
    table(con, values, [None] * len(values))
    [found] = count(con, "rows", [Bins("size", "number", edges=tuple(edges))])
    finite = [one for one in values if one is not None and math.isfinite(one)]
    expected = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=len(edges) + 1) if finite else [0] * (len(edges) + 1)
    assert list(found) == [*map(int, expected), len(values) - len(finite)]


@settings(max_examples=30)
@given(values=TEXTS)
def test_texts_are_counted_by_value(con: duckdb.DuckDBPyConnection, values: list[str | None]) -> None:
    table(con, [None] * len(values), values)
    bins = Bins("kind", "text", values=("a", "it's", '"'))
    [found] = count(con, "rows", [bins])
    filled = [one for one in values if one]
    named = [filled.count(str(one)) for one in bins.values]
    assert list(found) == [*named, len(filled) - sum(named), len(values) - len(filled)]
    assert bins.labels[-2:] == (OTHER, MISSING)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from("abc")), min_size=1, max_size=80), st.randoms())
def test_the_order_and_division_of_the_rows_do_not_matter(con: duckdb.DuckDBPyConnection, rows: list, random) -> None:
    table(con, *zip(*rows, strict=True))
    reference = profile_reference(con, "rows", SCHEMA)
    assert [one.counts for one in reference.columns] == count(con, "rows", [one.bins for one in reference.columns])
    shuffled = random.sample(rows, len(rows))
    table(con, *zip(*shuffled, strict=True))
    assert profile_reference(con, "rows", SCHEMA) == reference
    half = len(rows) // 2
    parts = []
    for part in (shuffled[:half], shuffled[half:]):
        table(con, [one[0] for one in part], [one[1] for one in part])
        parts.append(count(con, "rows", [one.bins for one in reference.columns]))
    added = [tuple(map(sum, zip(*pair, strict=True))) for pair in zip(*parts, strict=True)]
    assert added == [one.counts for one in reference.columns]


def test_psi_takes_deciles_and_ks_percentiles(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE OR REPLACE TABLE many AS SELECT range::DOUBLE AS size, 'word ' || range AS kind FROM range(5000)")
    reference = profile_reference(con, "many", SCHEMA)
    size, kind = (one.bins for one in reference.columns)
    assert (len(size.edges), len(size.coarse), kind.measure) == (99, 9, "length")
    coarse = size.coarsened(reference.columns[0].counts)
    assert (sum(coarse), len(coarse), coarse[-1]) == (5000, 11, 0)
    assert all(one == pytest.approx(500, abs=1) for one in coarse[:-1])
    assert len(size.labels) == len(coarse)


def test_nothing_but_gaps_can_be_profiled_and_compared(con: duckdb.DuckDBPyConnection) -> None:
    table(con, [None] * 100, [""] * 100)
    reference = profile_reference(con, "rows", SCHEMA)
    table(con, [1.0] * 100, ["a"] * 100)
    found = measure_drift(con, "rows", SCHEMA, reference, DriftLimits())
    assert {one.column: one.verdict for one in found.columns} == {"size": Verdict.DRIFTED, "kind": Verdict.DRIFTED}


def test_a_new_category_and_more_gaps_are_drift_and_few_rows_are_not(con: duckdb.DuckDBPyConnection) -> None:
    table(con, [1.5 * (number % 40) for number in range(400)], ["ab"[number % 2] for number in range(400)])
    reference = profile_reference(con, "rows", SCHEMA)
    table(con, [None if number % 2 else 1.5 * (number % 40) for number in range(400)], ["abc"[number % 3] for number in range(400)])
    found = measure_drift(con, "rows", SCHEMA, reference, DriftLimits())
    assert {one.column: one.verdict for one in found.columns} == {"size": Verdict.DRIFTED, "kind": Verdict.DRIFTED}
    assert dict(zip(found.columns[0].labels, found.columns[0].current, strict=True))[MISSING] in {0, 200}
    table(con, [None] * 20, ["c"] * 20)
    assert measure_drift(con, "rows", SCHEMA, reference, DriftLimits()).verdict is Verdict.UNKNOWN


def test_times_are_left_out_with_the_reason(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE OR REPLACE TABLE timed AS SELECT 1.0 AS size, TIMESTAMP '2026-01-01' AS at FROM range(60)")
    reference = profile_reference(con, "timed", FeatureSchema.of({"size": "DOUBLE", "at": "TIMESTAMP"}))
    assert [one.bins.column for one in reference.columns] == ["size"]
    assert dict(reference.left_out) == {"at": "a time moves by itself"}


def test_sentences_that_each_occur_once_are_compared_by_their_length(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE remarks AS SELECT 'remark ' || repeat('so ', n % 50) || n AS remark FROM range(900) rows(n)")
    schema = FeatureSchema.of({"remark": "VARCHAR"})
    then = profile_reference(con, "remarks", schema)
    assert [one.bins.measure for one in then.columns] == ["length"]
    longer = measure_drift(con, "(SELECT remark || repeat(' more', 60) AS remark FROM remarks)", schema, then, DriftLimits())
    assert longer.drifted == ("remark",)
