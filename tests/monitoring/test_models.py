"""Performance on labels that arrived later, the spread of predictions, and the recorded answers of checks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from lakehouse.contracts import Level, ModelContract, Severity
from lakehouse.learning.lifecycle import Event, State
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.monitoring import measure_performance, newest_checks, prediction_spread
from lakehouse.monitoring.judged import JUDGED, judged_rows
from lakehouse.monitoring.performance import TABLE
from lakehouse.quality import CHECKS_TABLE, CheckResult, results_sql
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.monitoring.histories import has_happened

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
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 1, "promoted"))
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.value, measured.model_version) == (1, 1.0, "1")


def said(lake: Lake, version: str, ids: range, right: str, table: str = "models.churn_predictions") -> None:
    """A batch; answers are right where `right`, of the id n, says so."""
    with lake.connect(()) as session:
        sql = f"SELECT n AS id, 1 AS at, CASE WHEN ({right}) THEN {TRUTH} ELSE {OTHER} END AS prediction, '{version}' AS model_version"
        lake.overwrite(session.con, table, f"{sql} FROM range({ids.start}, {ids.stop}) t(n)", stamp=Stamp(asset=table, run="r"))


TRUTH, OTHER = "CASE WHEN n % 2 = 0 THEN 'yes' ELSE 'no' END", "CASE WHEN n % 2 = 0 THEN 'no' ELSE 'yes' END"


def labelled(lake: Lake, table: str, column: str, ids: range) -> None:
    with lake.connect(()) as session:
        sql = f"SELECT n AS id, 1 AS at, {TRUTH} AS {column} FROM range({ids.start}, {ids.stop}) t(n)"
        lake.overwrite(session.con, table, sql, stamp=Stamp(asset=table, run="r"))


def measured_rows(lake: Lake, which: str) -> list[tuple]:
    with lake.connect([TABLE]) as session:
        return session.con.execute(
            f"SELECT rows, value, other_rows, other_value FROM {TABLE} WHERE {which} ORDER BY measured_at"
        ).fetchall()


def test_labels_that_come_between_trainings_add_up(lake: Lake, now: datetime) -> None:
    labelled(lake, "staging.people", '"left"', range(40))
    labelled(lake, "models.churn_training_set", "_label", range(40))
    said(lake, "1", range(400), "n % 10 > 0")
    has_happened(lake, now, ("1", 0, "promoted"))
    rows = []
    for run in range(1, 5):
        # Each run brings forty labels, and another version that learns them and goes no further.
        labelled(lake, "staging.people", '"left"', range(40 + 40 * run))
        labelled(lake, "models.churn_training_set", "_label", range(40 + 40 * run))
        said(lake, "1", range(400), "n % 10 > 0")
        measured = measure_performance(lake, CLASSES, run="r", now=now + timedelta(days=run))
        assert measured is not None
        rows.append((measured.model_version, measured.rows, measured.value))
    assert rows == [("1", 40, 0.9), ("1", 80, 0.9), ("1", 120, 0.9), ("1", 160, 0.9)]


class Watched:
    """A connection that tells how many rows each join brought in the tables that were made."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con, self.joined = con, list[int]()

    def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        if sql.startswith(f"CREATE TEMP TABLE {JUDGED}"):
            [(_, plan)] = self._con.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()
            self.joined += rows_of(json.loads(plan), "HASH_JOIN")
            self._con.execute(f"DROP TABLE IF EXISTS {JUDGED}")
        return self._con.execute(sql)

    def __getattr__(self, name: str) -> object:
        return getattr(self._con, name)


def rows_of(plan: dict, operator: str) -> Iterator[int]:
    for part in plan.get("children", []):
        if part["operator_name"] == operator:
            yield part["operator_cardinality"]
        yield from rows_of(part, operator)


def test_answers_about_labels_that_every_version_has_learned_are_not_gone_through(
    lake: Lake, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled(lake, "staging.people", '"left"', range(1000))
    labelled(lake, "models.churn_training_set", "_label", range(900))
    labelled(lake, "models.churn_training_set", "_label", range(980))
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 1, "promoted"))
    for version in ("1", "1", "1", "2"):
        said(lake, version, range(1000), "true")
    opened, watched = lake.open_connection, list[Watched]()
    monkeypatch.setattr(lake, "open_connection", lambda: watched.append(Watched(opened())) or watched[-1])
    with judged_rows(lake, CLASSES) as found:
        assert found is not None
        assert found.rows == 100 + 20
    # A join with the labels brings each once; one with the answers about them brought each as often as it was answered.
    assert max(rows for one in watched for rows in one.joined) == 1000


def test_a_shadow_is_judged_beside_the_champion_row_by_row(lake: Lake, now: datetime) -> None:
    labelled(lake, "models.churn_training_set", "_label", range(100))
    labelled(lake, "models.churn_training_set", "_label", range(200))
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 1, "staged"))
    said(lake, "1", range(1000), "n % 10 > 0")
    said(lake, "2", range(1000), "n % 10 > 1", "models.churn_shadow_predictions")
    said(lake, "1", range(1000), "n % 10 > 0")
    labelled(lake, "staging.people", '"left"', range(600))
    measure_performance(lake, CLASSES, run="r", now=now)
    assert measured_rows(lake, "beside = '1' AND model_version = '2'") == [(400, 0.8, 400, 0.9)]
    assert measured_rows(lake, "beside IS NULL AND model_version = '1'") == [(500, 0.9, None, None)]
    with lake.connect([TABLE]) as session:
        [(error,)] = session.con.execute(f"SELECT standard_error FROM {TABLE} WHERE beside = '1'").fetchall()
    # Both err on the same tenth of the rows: only the other tenth is chance, not the whole of both.
    assert error == pytest.approx((0.1 * 0.9 / 400) ** 0.5, rel=0.15)


def test_a_version_that_took_over_is_compared_on_rows_that_both_were_asked_for(lake: Lake, now: datetime) -> None:
    labelled(lake, "models.churn_training_set", "_label", range(100))
    labelled(lake, "models.churn_training_set", "_label", range(200))
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 1, "promoted"))
    said(lake, "1", range(500), "n % 10 > 0")
    said(lake, "2", range(300, 800), "n % 10 > 1")
    labelled(lake, "staging.people", '"left"', range(800))
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.model_version, measured.rows) == ("2", 500)
    assert measured_rows(lake, "beside = '1' AND model_version = '2'") == [(200, 0.8, 200, 0.9)]


def test_the_metric_of_the_contract_is_measured_on_later_labels(lake: Lake, now: datetime) -> None:
    rare = replace(CLASSES, positive_class="yes", metric="roc_auc")
    labelled(lake, "models.churn_training_set", "_label", range(-1, 0))
    with lake.connect(()) as session:
        for table, sql in {
            "staging.people": "SELECT n AS id, 1 AS at, CASE WHEN n % 33 = 0 THEN 'yes' ELSE 'no' END AS \"left\"",
            "models.churn_predictions": "SELECT n AS id, 1 AS at, 'no' AS prediction, 0.03 AS probability_yes, 0.97 AS probability_no, '1' AS model_version",
        }.items():
            lake.overwrite(session.con, table, f"{sql} FROM range(1000) t(n)", stamp=Stamp(asset=table, run="r"))
    measured = measure_performance(lake, rare, run="r", now=now)
    assert measured is not None
    # It has become blind, and its accuracy does not show that.
    assert (measured.metric, measured.value) == ("roc_auc", 0.5)
    assert measured_rows(lake, "metric = 'accuracy'") == [(1000, pytest.approx(0.969), None, None)]
    # Of few rows of a class nothing is said about it.
    write(lake, "staging.people", 'id, "at", "left"', ", ".join(f"({33 * n}, 1, 'yes')" for n in range(9)))
    measured = measure_performance(lake, rare, run="r", now=now)
    assert measured is not None
    assert measured.metric == "accuracy"


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


def adjusted(lake: Lake, positive: str, *, candidate: bool) -> None:
    """A batch of version 1, which by itself is right of nine rows in ten, and which people let say yes of all; of the odd fifths another's."""
    answers = "CASE WHEN n % 10 = 0 THEN 0.25 WHEN n % 2 = 0 THEN 0.35 ELSE 0.25 END"
    source = {"model": "models.churn@1", "model_digest": "one"}
    source |= {"threshold": 0.05 if positive == "yes" else 0.95, "positive": positive, "own_threshold": 0.3 if positive == "yes" else 0.7}
    version, said = "'1'", "'yes'"
    if candidate:
        source |= {"candidate": "models.churn@2", "candidate_digest": "two"}
        version, said = "if(n % 5 = 3, '2', '1')", f"if(n % 5 = 3, {TRUTH}, 'yes')"
    columns = f"{said} AS prediction, {version} AS model_version, 1 - probability_yes AS probability_no, probability_yes"
    with lake.connect(()) as session:
        sql = f"SELECT n AS id, 1 AS at, {columns} FROM (SELECT n, {answers} AS probability_yes FROM range(1000) t(n))"
        table = "models.churn_predictions"
        lake.overwrite(session.con, table, sql, stamp=Stamp(asset=table, run="r", source=source))


@pytest.mark.parametrize(("positive", "is_named"), [("yes", True), ("no", False)])
def test_a_threshold_that_people_set_is_not_held_against_the_version(lake: Lake, now: datetime, positive: str, is_named: bool) -> None:
    contract = replace(CLASSES, positive_class=positive if is_named else None, metric="accuracy")
    labelled(lake, "staging.people", '"left"', range(1000))
    labelled(lake, "models.churn_training_set", "_label", range(0))
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 0, "staged"))
    adjusted(lake, positive, candidate=False)
    measured = measure_performance(lake, contract, run="r", now=now)
    assert measured is not None
    # By what was said half of the rows are right.
    assert (measured.model_version, measured.rows, measured.value) == ("1", 1000, 0.9)
    adjusted(lake, positive, candidate=True)
    measure_performance(lake, contract, run="r", now=now)
    # What version 1 said before of the rows that the other answers for counts as well.
    assert measured_rows(lake, "beside = '1'") == [(200, 1.0, 1000, 0.9)]


def test_what_a_version_was_like_long_ago_does_not_hide_what_it_is_like_now(lake: Lake, now: datetime) -> None:
    labelled(lake, "staging.people", '"left"', range(4000))
    labelled(lake, "models.churn_training_set", "_label", range(0))
    has_happened(lake, now, ("1", 0, "promoted"))
    said(lake, "1", range(2500), "true")
    said(lake, "1", range(2500, 3400), "false")
    said(lake, "1", range(3400, 4000), "false")
    measured = measure_performance(lake, CLASSES, run="r", now=now)
    assert measured is not None
    assert (measured.rows, measured.value) == (1500, 0.0)


def test_a_version_that_was_restored_is_compared_by_what_it_says_since_then(lake: Lake, now: datetime) -> None:
    labelled(lake, "staging.people", '"left"', range(400))
    labelled(lake, "models.churn_training_set", "_label", range(0))
    has_happened(lake, now, ("1", 0, "promoted"), ("2", 0, "promoted"))
    said(lake, "1", range(200), "true")
    said(lake, "2", range(200), "false")
    measure_performance(lake, CLASSES, run="r", now=now)
    measured = [(200, 0.0, 200, 1.0)]
    assert measured_rows(lake, "beside = '1'") == measured
    goes_back_and_forth(lake, datetime.now(UTC))
    measure_performance(lake, CLASSES, run="r", now=now + timedelta(days=1))
    assert measured_rows(lake, "beside = '1'") == measured
    said(lake, "2", range(100, 300), "true")
    measure_performance(lake, CLASSES, run="r", now=now + timedelta(days=2))
    assert measured_rows(lake, "beside = '1'") == [*measured, (100, 1.0, 100, 1.0)]


def goes_back_and_forth(lake: Lake, at: datetime) -> None:
    """Version 2 is taken back, and somebody restores it."""
    journal = DeltaJournal(lake)
    for taken, kind, given in (("2", "rolled_back", "1"), ("1", "archived", "2")):
        out = Event("churn", taken, kind, State.PRODUCTION, State.ARCHIVED, at, "test")
        back = Event("churn", given, "restored", State.ARCHIVED, State.PRODUCTION, at, "test", previous=taken)
        assert journal.add(journal.ledger("churn").numbered([out, back]))
    assert journal.ledger("churn").line[-2:] == ("1", "2")
