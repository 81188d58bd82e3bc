"""How a version in production holds on later labels, beside its test rows: what is chance there, and what is new."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.contracts import Retraining
from lakehouse.learning.evaluation import Interval
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.lifecycle.observing import PERFORMANCE
from lakehouse.learning.records import Origin, remember
from lakehouse.learning.results import TrainReport
from lakehouse.learning.retraining import RetrainingDue, retraining_due, retraining_facts
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.learning.conftest import model, write
from tests.monitoring.histories import has_happened

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CONTRACT = model("guests", retraining=Retraining(automatic=True, new_rows=None, psi_retrain=None, max_age_days=None))
REPORT = TrainReport(
    model="guests",
    version="1",
    algorithm="decision_tree",
    problem="classification",
    metrics={"accuracy": 0.9},
    baseline={},
    checks=(),
    metric="accuracy",
    interval=None,
    candidates=(),
    columns=(),
    rows_train=1600,
    rows_test=400,
    alias="champion",
    inputs={"staging.guests": 0},
    training_set_version=0,
    model_digest="",
    intervals={"accuracy": Interval(0.86, 0.94)},
)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """Version 1 in production, and rows that nobody has learned from."""
    lake = Lake.from_settings(settings)
    for rows in (2000, 2001):
        write(lake, CONTRACT.label_table, f"SELECT n AS id, 'yes' AS label FROM range({rows}) t(n)")
    trained(lake, REPORT, NOW)
    has_happened(lake, NOW, ("1", 0, "promoted"), model="guests")
    return lake


def trained(lake: Lake, report: TrainReport, at: datetime) -> None:
    origin = Origin("guests", CONTRACT.digest, code_digest(), dict(report.inputs))
    remember(lake, report, origin, made_by=f"run {at}", run="test", now=at)


@pytest.fixture
def measured(lake: Lake) -> Callable[..., RetrainingDue]:
    """Writes how version 1 did on later labels, and says what is due then."""

    def measure(value: float, at: datetime, *, error: float = 0.015, labels: int = 400) -> RetrainingDue:
        row = (
            f"SELECT TIMESTAMPTZ '{at}' AS measured_at, 'guests' AS model, '1' AS model_version, {labels} AS rows, 'accuracy' AS metric, "
            f"{value}::DOUBLE AS value, {error}::DOUBLE AS standard_error, NULL::VARCHAR AS beside"
        )
        with lake.connect(()) as session:
            lake.append(session.con, PERFORMANCE, row, stamp=Stamp(asset=PERFORMANCE, run="test"))
        return retraining_due(lake, CONTRACT, now=at + timedelta(hours=2))

    return measure


def test_rows_of_one_entity_are_not_counted_as_so_many_chances(lake: Lake, measured: Callable[..., RetrainingDue]) -> None:
    # Were each row for itself, 400 could not bring 0.8 for 0.9.
    assert measured(0.8, NOW + DAY).triggers == ("performance",)
    due = measured(0.8, NOW + 2 * DAY, error=0.05)
    assert not due
    held = retraining_facts(lake, CONTRACT).held
    assert held is not None
    assert held.standard_error == pytest.approx(math.hypot(0.05, 0.08 / (2 * 1.96 * math.sqrt(2))))


def test_of_rows_that_are_all_right_a_bootstrap_alone_would_see_no_chance(lake: Lake, measured: Callable[..., RetrainingDue]) -> None:
    trained(lake, replace(REPORT, metrics={"accuracy": 1.0}, intervals={"accuracy": Interval(1.0, 1.0)}), NOW + DAY)
    measured(1.0, NOW + 2 * DAY, error=0.0, labels=100)
    assert not measured(0.99, NOW + 3 * DAY, error=0.0, labels=100)
    held = retraining_facts(lake, CONTRACT).held
    assert held is not None
    assert held.standard_error == pytest.approx(math.sqrt(0.998 * 0.002 * (1 / 100 + 1 / 400)))


def test_a_drop_that_was_there_when_a_challenger_lost_is_no_reason_to_train_again(
    lake: Lake, measured: Callable[..., RetrainingDue]
) -> None:
    assert measured(0.7, NOW + DAY).triggers == ("performance",)
    trained(lake, replace(REPORT, version="2"), NOW + 1.5 * DAY)
    for day, value in enumerate((0.7, 0.69, 0.71, 0.67), start=2):
        assert not measured(value, NOW + day * DAY), "the same drop"
    due = measured(0.55, NOW + 6 * DAY)
    assert due.triggers == ("performance",)
    assert due.reason == "accuracy 0.5500 on 400 new labels, 0.9000 on the test rows, 0.7000 when version 2 was trained"
    trained(lake, replace(REPORT, version="3"), NOW + 6.5 * DAY)
    assert not measured(0.55, NOW + 7 * DAY)
    # It is well again, also when the next is trained: after that the same drop is a new one.
    assert not measured(0.9, NOW + 8 * DAY)
    trained(lake, replace(REPORT, version="4"), NOW + 8.5 * DAY)
    assert measured(0.7, NOW + 9 * DAY).triggers == ("performance",)


@pytest.mark.parametrize("labels", [99, 100])
def test_what_few_labels_said_before_the_training_holds_nothing_back(
    lake: Lake, measured: Callable[..., RetrainingDue], labels: int
) -> None:
    measured(0.7, NOW + DAY, labels=labels)
    trained(lake, replace(REPORT, version="2"), NOW + 1.5 * DAY)
    assert bool(measured(0.7, NOW + 2 * DAY)) == (labels < CONTRACT.rollout.min_rows)


def test_what_a_version_of_the_same_number_in_an_earlier_registry_was_holds_nothing_back(
    lake: Lake, measured: Callable[..., RetrainingDue]
) -> None:
    measured(0.7, NOW - DAY)
    trained(lake, replace(REPORT, version="2"), NOW + DAY)
    assert measured(0.7, NOW + 2 * DAY).triggers == ("performance",)
