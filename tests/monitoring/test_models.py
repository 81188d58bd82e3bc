"""Performance on labels that arrived later, the spread of predictions, and the recorded answers of checks."""

from dataclasses import replace
from datetime import datetime

import pytest

from lakehouse.contracts import Level, ModelContract, Severity
from lakehouse.monitoring import measure_performance, newest_checks, prediction_spread
from lakehouse.quality import CHECKS_TABLE, CheckResult, results_sql
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp

CLASSES = ModelContract(
    name="churn",
    version="1.0.0",
    problem="classification",
    dataset="people",
    label_table="staging.people",
    target_column="left",
    entity=("id",),
    event_timestamp="at",
)
NUMBERS = replace(CLASSES, problem="regression")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


def write(lake: Lake, table: str, columns: str, values: str) -> None:
    with lake.connect(()) as session:
        sql = f"SELECT * FROM (VALUES {values}) AS rows({columns})"
        lake.overwrite(session.con, table, sql, stamp=Stamp(asset=table, run="r"))


def test_only_labels_the_model_had_not_learned_are_judged(lake: Lake, now: datetime) -> None:
    write(lake, "staging.people", 'id, "at", "left"', "(1, 1, 'yes'), (2, 1, 'no'), (3, 1, 'no'), (4, 1, NULL)")
    write(lake, "models.churn_training_set", 'id, "at", _label', "(1, 1, 'yes')")
    write(
        lake,
        "models.churn_predictions",
        'id, "at", prediction, model_version',
        "(1, 1, 'no', '3'), (2, 1, 'no', '3'), (3, 1, 'yes', '3'), (4, 1, 'yes', '3')",
    )
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.metric, measured.value, measured.model_version) == (2, "accuracy", 0.5, "3")


def test_labels_learned_meanwhile_are_judged_by_what_the_earlier_model_said(lake: Lake, now: datetime) -> None:
    write(lake, "staging.people", 'id, "at", "left"', "(1, 1, 'yes'), (2, 1, 'no')")
    write(lake, "models.churn_training_set", 'id, "at", _label', "(1, 1, 'yes')")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', "(1, 1, 'yes', '1'), (2, 1, 'no', '1')")
    write(lake, "models.churn_training_set", 'id, "at", _label', "(1, 1, 'yes'), (2, 1, 'no')")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', "(1, 1, 'yes', '2'), (2, 1, 'yes', '2')")
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.value, measured.model_version) == (1, 1.0, "1")


@pytest.mark.parametrize(
    ("target", "said"), [("label = 'bad'", "(1, 1, TRUE, '1'), (2, 1, FALSE, '1')"), ("label", "(1, 1, 'bad', '1'), (2, 1, 'good', '1')")]
)
def test_the_target_may_be_made_of_a_column_of_any_name(lake: Lake, now: datetime, target: str, said: str) -> None:
    write(lake, "staging.people", 'id, "at", label', "(1, 1, 'bad'), (2, 1, 'good')")
    write(lake, "models.churn_training_set", 'id, "at", _label', "(9, 1, 'true')")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', said)
    measured = measure_performance(lake, replace(CLASSES, target_column=None, target_sql=target), run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.value) == (2, 1.0)


def test_numbers_are_judged_by_r2(lake: Lake, now: datetime) -> None:
    write(lake, "staging.people", 'id, "at", "left"', "(1, 1, 1.0), (2, 1, 2.0), (3, 1, 3.0)")
    write(lake, "models.churn_training_set", 'id, "at", _label', "(9, 1, 1.0)")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', "(1, 1, 1.0, '1'), (2, 1, 2.0, '1'), (3, 1, 4.0, '1')")
    measured = measure_performance(lake, NUMBERS, run="r", now=now)
    assert measured is not None
    assert measured.value == pytest.approx(0.5)


def test_a_model_without_predictions_is_not_judged(lake: Lake, now: datetime) -> None:
    assert measure_performance(lake, CLASSES, run="r", now=now) is None
    assert prediction_spread(lake, CLASSES) is None


def test_spread_of_classes_and_numbers(lake: Lake) -> None:
    write(lake, "models.churn_predictions", "prediction", "('a'), ('b'), ('a')")
    spread = prediction_spread(lake, CLASSES)
    assert spread is not None
    assert spread.by_class == {"a": 2, "b": 1}
    write(lake, "models.churn_predictions", "prediction", "(0.0), (1.0), (10.0), ('NaN'::DOUBLE)")
    numbers = prediction_spread(lake, NUMBERS)
    assert numbers is not None
    assert sum(numbers.counts) == 3
    assert (numbers.edges[0], numbers.edges[-1]) == (0.0, pytest.approx(10.0))
    assert len(numbers.edges) == len(numbers.counts) + 1


def test_newest_checks_are_those_of_the_newest_batch(lake: Lake, now: datetime) -> None:
    assert newest_checks(lake, "people") == []
    for batch, passed in ((1, False), (2, True)):
        result = CheckResult("age.minimum", "people", "raw.people", Level.SEMANTIC, Severity.ERROR, passed, 0 if passed else 3, "age >= 0")
        with lake.connect(()) as session:
            lake.append(
                session.con, CHECKS_TABLE, results_sql([result], batch=batch, run="r", at=now), stamp=Stamp(asset=CHECKS_TABLE, run="r")
            )
    [newest] = newest_checks(lake, "people")
    assert (newest.id, newest.passed, newest.level) == ("age.minimum", True, Level.SEMANTIC)


def test_a_label_finds_what_was_said_although_the_entity_has_a_newer_row(lake: Lake, now: datetime) -> None:
    write(lake, "models.churn_training_set", 'id, "at", _label', "(9, 1, 'yes')")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', "(1, 1, 'yes', '1'), (2, 1, 'no', '1')")
    write(lake, "models.churn_predictions", 'id, "at", prediction, model_version', "(1, 2, 'no', '1'), (2, 1, 'yes', '1')")
    write(lake, "staging.people", 'id, "at", "left"', "(1, 1, 'yes'), (2, 1, 'yes'), (1, 2, NULL)")
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.value) == (2, 1.0)
