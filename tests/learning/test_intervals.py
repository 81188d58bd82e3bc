"""How sure one can be of a score, and where a model errs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lakehouse.learning import TrainReport, train
from lakehouse.learning.evaluation import Predictions, measure
from lakehouse.learning.intervals import metric_intervals
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.segments import find_segments
from tests.learning.conftest import model, write

METRICS = ("roc_auc", "f1", "accuracy", "log_loss")


def answered(random: np.random.Generator, rows: int, noise: np.ndarray | float = 0.0) -> tuple[np.ndarray, Predictions]:
    """Labels and what a model that knows something says of them."""
    signal = random.normal(size=rows)
    truth = np.where(random.random(rows) < 1 / (1 + np.exp(-2 * signal - noise)), "yes", "no").astype(object)
    yes = 1 / (1 + np.exp(-2 * signal))
    said = np.where(yes > 0.5, "yes", "no").astype(object)
    return truth, Predictions(said, np.column_stack([1 - yes, yes]), ("no", "yes"), "yes")


def test_the_intervals_hold_the_scores_of_rows_to_come():
    random, trials = np.random.default_rng(3), 60
    held = dict.fromkeys(METRICS, 0)
    for trial in range(trials):
        truth, said = answered(random, 300)
        intervals = metric_intervals(truth, said, np.arange(300), seed=trial, metrics=METRICS)
        later = measure(*answered(random, 300))
        for name in METRICS:
            held[name] += intervals[name].low <= later[name] <= intervals[name].high
    # Of 60 with 95 % each, fewer than 52 come about once in two hundred times.
    assert min(held.values()) >= 52, held


def test_rows_that_resemble_each_other_count_once():
    random = np.random.default_rng(4)
    entity = np.arange(2000) // 20
    truth, said = answered(random, 100)
    rows = np.repeat(np.arange(100), 20)
    alone = metric_intervals(truth[rows], said.take(rows), np.arange(2000), seed=1, metrics=["accuracy"])["accuracy"]
    together = metric_intervals(truth[rows], said.take(rows), entity, seed=1, metrics=["accuracy"])["accuracy"]
    assert (together.high - together.low) > 3 * (alone.high - alone.low)


@pytest.mark.parametrize("rows", [40, 12_000])
def test_an_interval_is_around_its_metric_inside_its_range_and_the_same_every_time(rows):
    random = np.random.default_rng(5)
    truth, said = answered(random, rows)
    intervals = metric_intervals(truth, said, np.arange(rows), seed=1)
    assert intervals == metric_intervals(truth, said, np.arange(rows), seed=1)
    for name, value in measure(truth, said).items():
        assert 0 <= intervals[name].low <= value <= intervals[name].high
    numbers = Predictions(random.normal(size=rows))
    found = metric_intervals(numbers.predicted + random.normal(size=rows) / 9, numbers, np.arange(rows), seed=1)
    assert {"r2", "rmse", "mae", "median_ae"} <= set(found)
    assert found["r2"].high < 1


def test_of_a_handful_of_units_nothing_is_said():
    truth, said = answered(np.random.default_rng(6), 60)
    assert metric_intervals(truth, said, np.arange(60) // 10, seed=1) == {}


@pytest.mark.parametrize("planted", [True, False])
def test_a_segment_is_told_if_the_model_errs_there_and_only_then(planted):
    random = np.random.default_rng(7)
    schema = FeatureSchema.of({"district": "VARCHAR", "age": "DOUBLE", **{f"x{number}": "DOUBLE" for number in range(20)}})
    frame = schema.frame(
        pd.DataFrame({"district": random.choice(["north", "south", "east"], 1500), "age": random.normal(40, 9, 1500)}).assign(
            **{f"x{number}": random.normal(size=1500) for number in range(20)}
        )
    )
    truth, said = answered(random, 1500)
    if planted:
        spoilt = (frame["district"] == "north").to_numpy() & (random.random(1500) < 0.5)
        truth = np.where(spoilt, np.where(truth == "yes", "no", "yes"), truth).astype(object)
    found = find_segments(frame, schema, truth, said, np.arange(1500), metric="roc_auc", seed=1)
    if not planted:
        assert found == ()
        return
    assert (found[0].feature, found[0].value) == ("district", "= north")
    assert found[0].error > found[0].elsewhere + 0.15
    assert {one.feature for one in found} == {"district"}
    worst = found[0]
    assert worst.metric is not None
    assert worst.interval is not None
    assert worst.interval.low <= worst.metric <= worst.interval.high


def test_a_report_keeps_intervals_and_segments(shared, lake, now):
    write(
        lake,
        "staging.kept",
        "SELECT range AS id, if(range % 3 = 0, 'a', 'b') AS side, (hash(range) % 1000) / 1000 AS x,"
        " if(if(range % 3 = 0, hash(range + 9) % 2, (hash(range) % 1000) // 500) = 1, 'yes', 'no') AS label FROM range(1200)",
    )
    report = train(shared, lake, model("kept", algorithms=("decision_tree",), folds=2), run="r", now=now)
    assert set(report.intervals) == set(report.metrics)
    assert report.interval == report.intervals[report.metric]
    assert ("side", "= a") in {(one.feature, one.value) for one in report.segments}
    again = TrainReport.from_json(report.as_json())
    assert (dict(again.intervals), again.segments) == (dict(report.intervals), report.segments)


@pytest.mark.slow
def test_a_year_later_poverty_is_told_as_well_as_the_interval_says(shared, lake, real_data: Path, now):
    from lakehouse.learning import Registry
    from lakehouse.learning.evaluation import predict

    for year in (2018, 2019):
        file = real_data / "households" / "acs_ma" / f"ma{year}.csv"
        write(lake, f"staging.poverty{year}", f"SELECT row_number() OVER () AS id, * FROM read_csv('{file}', nullstr=['N', ''])")
    contract = model("poverty2018", target_column=None, target_sql="POVPIP < 100", positive_class="true")
    report = train(shared, lake, contract, run="r", now=now)
    loaded = Registry(shared).load("poverty2018")
    with lake.connect(["staging.poverty2019"]) as session:
        rows = loaded.spec.schema.fetch(
            session.con, "staging.poverty2019", order_by=["id"], extra=["CAST(POVPIP < 100 AS VARCHAR) AS truth"]
        ).dropna(subset=["truth"])
    said = predict(loaded.pipeline, rows[list(loaded.spec.schema.names)], positive="true")
    later = measure(rows["truth"].to_numpy(dtype=object), said)
    for name in ("roc_auc", "average_precision", "f1", "brier"):
        interval = report.intervals[name]
        assert interval.low <= later[name] <= interval.high, (name, interval, later[name])
    assert replace(report, segments=()).metrics["roc_auc"] >= 0.95
