"""Planted leaks: each is found or can't get in; and what is honest is not accused."""

from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Split
from lakehouse.features import LABEL, FeatureSource, FeatureView, described, training_set
from lakehouse.learning import train
from lakehouse.learning.algorithms import ALGORITHMS, Task
from lakehouse.learning.candidates import cross_validate, make_folds
from lakehouse.learning.leakage import leaking_features, learned_test_rows
from lakehouse.learning.preparation import plan_columns
from lakehouse.learning.results import NEW_TEST_ROWS, NO_LEAK
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.splits import split_sql
from lakehouse.learning.straddling import straddling_groups, timeless_views
from tests.learning.conftest import model, write

TYPES = {"size": "DOUBLE", "colour": "VARCHAR", "stars": "INTEGER"}
SEEDS = st.integers(0, 10**6)


def honest(seed: int, rows: int = 400) -> tuple[dict[str, list], np.ndarray, np.random.Generator]:
    """Columns that tell something of the labels, but far from everything."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows)
    colour = random.choice(["red", "green", "blue"], rows)
    chance = 1 / (1 + np.exp(-2 * size - (colour == "red")))
    labels = np.where(random.random(rows) < chance, "yes", "no").astype(object)
    columns = {"size": size.tolist(), "colour": colour.tolist(), "stars": random.integers(0, 6, rows).tolist()}
    return columns, labels, random


def found(columns: dict[str, list], labels: np.ndarray, types: dict[str, str], *, is_classification: bool = True) -> list[str]:
    schema = FeatureSchema.of(types)
    leaks = leaking_features(schema.frame(columns), labels, schema, is_classification=is_classification, seed=7)
    return [leak.subject for leak in leaks]


@settings(max_examples=5)
@given(seed=SEEDS)
def test_honest_columns_are_not_accused(seed):
    columns, labels, random = honest(seed)
    columns |= {"order_duration": random.exponential(size=len(labels)).tolist(), "shop": random.integers(0, 60, len(labels)).tolist()}
    types = TYPES | {"order_duration": "DOUBLE", "shop": "INTEGER"}
    assert found(columns, labels, types) == []
    assert found(columns, np.asarray(columns["size"]) + random.normal(size=len(labels)), types, is_classification=False) == []


PLANTS = {
    "copy": ("VARCHAR", lambda is_yes, _: np.where(is_yes, "a", "b")),
    "code": ("INTEGER", lambda is_yes, _: np.where(is_yes, 3, 8)),
    "text of a number": (
        "VARCHAR",
        lambda is_yes, random: [f"{value:.4f}" for value in np.where(is_yes, 5, 1) + random.random(len(is_yes))],
    ),
    "not monotone": (
        "DOUBLE",
        lambda is_yes, random: np.where(is_yes, 0, random.choice([-1, 1], len(is_yes))) + random.random(len(is_yes)) / 9,
    ),
    "gaps": ("DOUBLE", lambda is_yes, random: np.where(is_yes, np.nan, random.normal(size=len(is_yes)))),
    "nearly a copy": ("INTEGER", lambda is_yes, random: np.where(random.random(len(is_yes)) < 0.01, ~is_yes, is_yes).astype(int)),
}


@settings(max_examples=18)
@given(seed=SEEDS, plant=st.sampled_from(sorted(PLANTS)))
def test_a_copy_of_the_target_is_found_however_it_is_written(seed, plant):
    columns, labels, random = honest(seed)
    kind, make = PLANTS[plant]
    columns["planted"] = list(make(labels == "yes", random))
    assert found(columns, labels, TYPES | {"planted": kind}) == ["planted"]


@settings(max_examples=12)
@given(seed=SEEDS, transform=st.sampled_from([np.sqrt, np.negative, np.abs, np.round, lambda value: value**3 + 5]))
def test_a_function_of_a_number_that_is_predicted_is_found(seed, transform):
    columns, _, random = honest(seed)
    labels = np.abs(random.standard_t(2, size=400)) + 1
    columns["planted"] = transform(np.minimum(labels, 50) * 40).tolist()
    assert "planted" in found(columns, labels, TYPES | {"planted": "DOUBLE"}, is_classification=False)


@settings(max_examples=12)
@given(seed=SEEDS, groups=st.integers(60, 130), is_classification=st.booleans())
def test_an_encoding_that_was_fitted_on_all_rows_is_found(seed, groups, is_classification):
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, 600)
    labels = np.where(random.random(600) < 0.4, "yes", "no").astype(object) if is_classification else random.normal(size=600)
    target = (labels == "yes").astype(float) if is_classification else labels
    encoded = pd.Series(target).groupby(group).transform("mean")
    of_others = (encoded * pd.Series(target).groupby(group).transform("size") + 5 * target.mean()) / (
        pd.Series(target).groupby(group).transform("size") + 5
    )
    noise = random.normal(size=groups)[group]
    types = {"encoded": "DOUBLE", "smoothed": "DOUBLE", "honest": "DOUBLE"}
    assert "encoded" in found(
        {"encoded": encoded.tolist(), "smoothed": of_others.tolist(), "honest": noise.tolist()},
        labels,
        types,
        is_classification=is_classification,
    )
    assert found({"honest": noise.tolist()}, labels, {"honest": "DOUBLE"}, is_classification=is_classification) == []


@settings(max_examples=12)
@given(seed=SEEDS, share=st.floats(0.003, 0.1), is_classification=st.booleans())
def test_what_hardly_ever_happens_is_not_taken_for_its_own_mean(seed, share, is_classification):
    random = np.random.default_rng(seed)
    lines = random.pareto(0.9, 4000).astype(int)
    happened = random.random(4000) < share * 4 / (1 + lines)
    labels = np.where(happened, "rare", "common").astype(object) if is_classification else happened * random.exponential(size=4000)
    assert found({"lines": lines.tolist()}, labels, {"lines": "INTEGER"}, is_classification=is_classification) == []


@settings(max_examples=4)
@given(seed=SEEDS, algorithm=st.sampled_from(["logistic_regression", "decision_tree", "hist_gradient_boosting", "knn"]))
def test_what_is_fitted_within_the_fold_leaves_chance_at_chance(seed, algorithm):
    random = np.random.default_rng(seed)
    schema = FeatureSchema.of({"shop": "VARCHAR", "size": "DOUBLE"})
    frame = schema.frame({"shop": [f"s{number}" for number in random.integers(0, 150, 600)], "size": random.normal(size=600)})
    labels = np.where(random.random(600) < 0.5, "yes", "no").astype(object)
    folds = make_folds(np.arange(600) % 3, labels, by_time=False, is_classification=True)
    judged = cross_validate(
        ALGORITHMS[algorithm],
        plan_columns(frame, schema),
        Task("classification", 2, 600, False, 7),
        frame=frame,
        labels=labels,
        folds=folds,
        positive="yes",
    )
    # Five standard errors of an area under the ROC curve of 600 rows without any signal.
    assert abs(judged.metrics["roc_auc"] - 0.5) < 0.12


def test_a_column_known_afterwards_is_told_only_where_the_score_leans_on_it():
    columns, labels, random = honest(5, 3000)
    is_yes = labels == "yes"
    columns["call_duration"] = (random.exponential(size=3000) * np.where(is_yes, 4, 1)).tolist()
    types = TYPES | {"call_duration": "DOUBLE"}
    schema = FeatureSchema.of(types)
    [leak] = leaking_features(schema.frame(columns), labels, schema, is_classification=True, seed=7)
    assert leak.subject == "call_duration"
    assert "known only when it has ended" in leak.reason
    assert found(columns | {"call_duration": random.exponential(size=3000).tolist()}, labels, types) == []


@settings(max_examples=10)
@given(seed=SEEDS, copies=st.integers(0, 40))
def test_copies_of_training_rows_among_the_test_rows_are_found(seed, copies):
    columns, labels, _ = honest(seed, 500)
    frame = FeatureSchema.of(TYPES).frame(columns)
    test, answers = frame.iloc[300:].copy(), labels[300:].copy()
    test.iloc[:copies], answers[:copies] = frame.iloc[:copies].to_numpy(), labels[:copies]
    leaks = learned_test_rows(frame.iloc[:300], labels[:300], test, answers, is_classification=True)
    assert bool(leaks) == (copies >= 5)
    few = frame[["stars"]]
    assert learned_test_rows(few.iloc[:300], labels[:300], few.iloc[300:], labels[300:], is_classification=True) == ()


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA staging; CREATE SCHEMA features")
    return connection


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEEDS, is_classification=st.booleans(), strategy=st.sampled_from(["random", "group"]), is_alike=st.booleans())
def test_a_group_on_both_sides_of_the_split_is_found_unless_the_split_goes_by_it(con, seed, is_classification, strategy, is_alike):
    random = np.random.default_rng(seed)
    households = random.integers(0, 60, 400)
    level = random.normal(size=60)[households] * is_alike + random.normal(size=400) * 0.3
    labels = np.where(level > 0, "poor", "fine") if is_classification else level
    visits = pd.DataFrame({"id": np.arange(400), "household_id": households, "label": labels, "size": random.normal(size=400)})
    con.register("given", visits)
    con.execute("CREATE OR REPLACE TABLE staging.visits AS SELECT * FROM given")
    split = Split(strategy, column="household_id" if strategy == "group" else None)
    contract = model("visits", problem="classification" if is_classification else "regression", split=split)
    source = described(FeatureSource(contract, ()), con)
    rows = training_set(source)
    con.execute(f"CREATE OR REPLACE TEMP TABLE parts AS {split_sql(rows.sql, contract, rows)}")
    leaks = straddling_groups(con, "parts", source, rows)
    assert [leak.subject for leak in leaks] == (["household_id"] if is_alike and strategy == "random" else [])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEEDS)
def test_an_aggregate_of_the_future_does_not_reach_the_labels(con, seed):
    random = np.random.default_rng(seed)
    days = random.permutation(60)[:20]
    con.register("drawn", pd.DataFrame({"id": random.integers(0, 4, 20), "day": days, "label": random.choice(["a", "b"], 20)}))
    con.execute(
        "CREATE OR REPLACE TABLE staging.visits AS SELECT id, TIMESTAMPTZ '2026-01-01 00:00:00Z' + to_days(CAST(day AS INTEGER)) AS seen,"
        " label, TIMESTAMPTZ '2026-06-01 00:00:00Z' AS _ingested_at FROM drawn"
    )
    # For each visit what was seen until then, and what will have been seen ten days later, dated as of the visit but known later.
    con.execute(
        "CREATE OR REPLACE TABLE features.counts AS SELECT id, seen, seen + INTERVAL 200 DAYS AS known_at, label AS answer FROM staging.visits"
        " UNION ALL SELECT id, seen, seen, 'past' FROM staging.visits"
    )
    view = FeatureView("counts", "features.counts", ("id",), "seen", "known_at")
    contract = model("visits", event_timestamp="seen")
    source = described(FeatureSource(contract, (view,)), con)
    rows = con.execute(f"SELECT answer, {LABEL} FROM ({training_set(source).sql})").fetchall()
    assert len(rows) == 20
    assert {answer for answer, _ in rows} == {"past"}
    assert timeless_views(source) == ()
    timeless = FeatureSource(contract, (replace(view, event_timestamp=None, known_timestamp=None),))
    assert [leak.subject for leak in timeless_views(timeless)] == ["feature view counts"]


def test_a_training_tells_of_its_leaks_until_a_person_has_looked_at_them(shared, lake, now):
    write(
        lake,
        "staging.leaky",
        "SELECT range AS id, if(hash(range) % 3 = 0, 'yes', 'no') AS label, if(hash(range) % 3 = 0, 9.5, 1.5) AS refund_sum,"
        " (hash(range + 7) % 1000000) / 10 AS size, range % 25 AS visitor_id FROM range(300)",
    )
    contract = model("leaky", algorithms=("decision_tree",), folds=2, exclude_features=("visitor_id",))
    report = train(shared, lake, contract, run="r", now=now)
    checks = {check.id: check for check in report.checks}
    assert (checks[NO_LEAK].passed, checks[NEW_TEST_ROWS].passed, report.passed) == (False, True, True)
    assert "refund_sum alone tells the target" in checks[NO_LEAK].detail
    trusting = replace(contract, trusted_features=("refund_sum",), digest="looked at")
    checks = {check.id: check for check in train(shared, lake, trusting, run="r", now=now).checks}
    assert checks[NO_LEAK].passed


@pytest.mark.slow
# It learns twice from 39,130 rows.
@pytest.mark.timeout(1200)
def test_calls_whose_duration_is_not_used_are_told_apart_as_well_as_the_goal_says_and_the_duration_is_warned_of(
    shared, lake, real_data, now
):
    files = real_data / "commerce" / "bank_marketing" / "*.csv"
    write(lake, "staging.calls", f"SELECT row_number() OVER () AS id, * RENAME (y AS label) FROM read_csv('{files}')")
    contract = model("calls", positive_class="true", algorithms=("hist_gradient_boosting",))
    leaky = train(shared, lake, contract, run="r", now=now)
    [check] = [one for one in leaky.checks if one.id == NO_LEAK]
    assert not check.passed
    assert "duration is leaned on" in check.detail
    assert leaky.metrics["roc_auc"] > 0.9
    honest = train(shared, lake, replace(contract, exclude_features=("duration",), algorithms=(), digest="honest"), run="r", now=now)
    assert honest.metrics["roc_auc"] >= 0.74
    assert {one.id: one.passed for one in honest.checks}[NO_LEAK]
