"""What makes a model train again: the decision over any facts, and what the tables say after real trainings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts import Comparison, ModelContract, Retraining
from lakehouse.learning import predict_batch, train
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.records import newest_evaluated
from lakehouse.learning.retraining import (
    Held,
    RetrainingFacts,
    Trigger,
    decide_retraining,
    retraining_due,
    retraining_facts,
    train_when_due,
)
from lakehouse.learning.retraining.training import TABLE
from lakehouse.monitoring.drift import ModelDrift, measure_model_drift
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.learning.conftest import model, write

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Retraining(automatic=True)
KNOWN = RetrainingFacts("3", NOW - timedelta(days=2), data_changed=True)
HELD = Held("accuracy", 0.9, 0.9, 400, standard_error=0.02)


@pytest.mark.parametrize(
    ("changes", "triggers"),
    [
        ({}, ()),
        ({"version": None}, (Trigger.FIRST,)),
        ({"definition_changed": True, "data_changed": False}, (Trigger.DEFINITION,)),
        ({"new_rows": 49}, ()),
        ({"new_rows": 50}, (Trigger.NEW_ROWS,)),
        ({"new_rows": 50, "data_changed": False}, ()),
        ({"new_rows": 50, "trained_at": NOW - timedelta(minutes=59)}, ()),
        ({"new_rows": 50, "trained_at": NOW - timedelta(minutes=60)}, (Trigger.NEW_ROWS,)),
        ({"psi": 0.24}, ()),
        ({"psi": 0.25, "drifted": ("size",)}, (Trigger.DRIFT,)),
        ({"trained_at": NOW - timedelta(days=14)}, (Trigger.AGE,)),
        ({"trained_at": NOW - timedelta(days=14), "data_changed": False}, ()),
        ({"held": HELD}, ()),
        ({"held": replace(HELD, value=0.85)}, (Trigger.PERFORMANCE,)),
        ({"held": replace(HELD, value=0.84, labels=99)}, ()),
        # Of a hundred labels as much may be chance.
        ({"held": replace(HELD, value=0.83, labels=100, standard_error=0.034)}, ()),
        ({"held": replace(HELD, value=0.5, standard_error=None)}, ()),
        ({"held": Held("r2", 0.5, 0.6, 100, standard_error=0.02)}, (Trigger.PERFORMANCE,)),
        ({"held": Held("r2", 0.5, 0.6, 100, standard_error=0.2)}, ()),
        ({"held": Held("rmse", 6.0, 5.0, 100, 0.2, lower_is_better=True)}, (Trigger.PERFORMANCE,)),
        ({"held": Held("rmse", 4.0, 5.0, 100, 0.2, lower_is_better=True)}, ()),
        ({"new_rows": 80, "psi": 1.0}, (Trigger.NEW_ROWS, Trigger.DRIFT)),
    ],
)
def test_each_reason_counts_from_its_limit(changes: dict, triggers: tuple[Trigger, ...]) -> None:
    due = decide_retraining(POLICY, replace(KNOWN, **changes), now=NOW)
    assert due.triggers == triggers
    assert bool(due) == bool(triggers)
    assert due.reason


def test_a_trigger_that_is_off_never_counts() -> None:
    off = Retraining(True, None, psi_retrain=None, performance_drop=None, max_age_days=None)
    facts = replace(KNOWN, new_rows=10**6, psi=9.0, held=replace(HELD, value=0.1), trained_at=NOW - timedelta(days=999))
    assert decide_retraining(POLICY, facts, now=NOW).triggers == (Trigger.NEW_ROWS, Trigger.DRIFT, Trigger.PERFORMANCE, Trigger.AGE)
    assert not decide_retraining(off, facts, now=NOW)


FACTS = st.builds(
    RetrainingFacts,
    version=st.none() | st.just("3"),
    trained_at=st.integers(0, 40_000).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    definition_changed=st.booleans(),
    data_changed=st.booleans(),
    new_rows=st.integers(0, 200),
    psi=st.floats(0, 1),
    held=st.none() | st.builds(Held, st.just("accuracy"), st.floats(0, 1), st.floats(0, 1), st.integers(0, 500), st.floats(0, 0.1)),
)


@given(FACTS)
def test_right_after_a_training_nothing_is_due(facts: RetrainingFacts) -> None:
    trained = replace(facts, version="4", trained_at=NOW, definition_changed=False)
    assert not decide_retraining(POLICY, trained, now=NOW)
    assert not decide_retraining(POLICY, replace(trained, data_changed=False), now=NOW + timedelta(days=999))


@given(FACTS, st.integers(0, 100))
def test_more_new_rows_never_make_it_less_due(facts: RetrainingFacts, more: int) -> None:
    before = decide_retraining(POLICY, facts, now=NOW)
    after = decide_retraining(POLICY, replace(facts, new_rows=facts.new_rows + more), now=NOW)
    assert set(before.triggers) <= set(after.triggers)


BOOKINGS = model("bookings", algorithms=("decision_tree",), folds=2, retraining=POLICY)


def bookings(rows: int) -> str:
    return f"SELECT n AS id, n % 40 AS size, CASE WHEN n % 40 > 20 THEN 'yes' ELSE 'no' END AS label FROM range({rows}) t(n)"


def test_a_run_trains_only_when_it_is_due_and_the_reason_is_kept(shared: Settings, lake: Lake) -> None:
    write(lake, "staging.bookings", bookings(200))
    assert retraining_due(lake, BOOKINGS, now=NOW).triggers == (Trigger.FIRST,)
    first = train_when_due(shared, lake, BOOKINGS, run="first", now=NOW)
    assert (first.version, first.reason, first.skipped) == ("1", "it was never trained", False)

    later = NOW + timedelta(hours=2)
    write(lake, "staging.bookings", bookings(240))
    waits = train_when_due(shared, lake, BOOKINGS, run="waits", now=later)
    assert (waits.version, waits.skipped, waits.alias) == ("1", True, "champion")
    assert "40 of 50 new labelled rows since version 1" in waits.notes[-1]

    write(lake, "staging.bookings", bookings(250))
    again = train_when_due(shared, lake, BOOKINGS, run="again", now=later)
    assert (again.version, again.reason, again.skipped) == ("2", "50 new labelled rows since version 1", False)
    told = {event.kind: event.reason for event in DeltaJournal(lake).events("bookings") if event.version == "2"}
    assert told["registered"] == again.reason
    # Asked for by hand it is not put off, but the same rows give the same model.
    by_hand = train_when_due(shared, lake, BOOKINGS, run="by hand", now=later, reason="a colleague asked")
    assert (by_hand.version, by_hand.skipped) == ("2", True)
    with lake.connect([TABLE]) as session:
        rows = session.con.execute(
            f"SELECT version, trained, triggers, reason FROM {TABLE} WHERE model = 'bookings' ORDER BY retrained_at, trained DESC, version"
        ).fetchall()
    assert rows == [
        ("1", True, "first", "it was never trained"),
        ("2", True, "new_rows", "50 new labelled rows since version 1"),
        ("2", False, "", "a colleague asked"),
    ]


def test_what_the_registry_lost_is_trained_again_though_nothing_has_changed(shared: Settings, lake: Lake, tmp_path: Path) -> None:
    contract = replace(BOOKINGS, name="cruises", label_table="staging.cruises")
    write(lake, "staging.cruises", bookings(200))
    train_when_due(shared, lake, contract, run="first", now=NOW)
    assert train_when_due(shared, lake, contract, run="second", now=NOW).skipped
    elsewhere = Settings(project=shared.project, home=shared.home, threads=1, mlflow_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not train_when_due(elsewhere, lake, contract, run="third", now=NOW + timedelta(hours=2)).skipped


def test_new_labels_are_the_same_number_however_they_were_written(shared: Settings, lake: Lake) -> None:
    contract = replace(BOOKINGS, name="tours", label_table="staging.tours")
    write(lake, "staging.tours", bookings(200))
    train(shared, lake, contract, run="first", now=NOW)
    add(lake, "staging.tours", "SELECT n AS id, n % 40 AS size, CASE WHEN n < 230 THEN 'yes' END AS label FROM range(200, 240) t(n)")
    with lake.connect(()) as session:
        lake.delete(session.con, "staging.tours", "id < 5", stamp=Stamp(asset="staging.tours", run="test"))
    assert retraining_facts(lake, contract).new_rows == 25
    # Thirty rows are written anew, of which ten lose their label and one gets its first.
    anew = "SELECT n AS id, 0 AS size, CASE WHEN n >= 20 THEN 'yes' END AS label FROM range(10, 40) t(n) UNION ALL SELECT 235, 0, 'yes'"
    with lake.connect(()) as session:
        lake.merge(session.con, "staging.tours", anew, key=["id"], stamp=Stamp(asset="staging.tours", run="test"))
    assert retraining_facts(lake, contract).new_rows == 16
    for rows in (231, 225, 190):
        write(lake, "staging.tours", bookings(rows))
        assert retraining_facts(lake, contract).new_rows == max(0, rows - 200)


def test_drift_and_performance_of_the_version_in_production_are_reasons(shared: Settings, lake: Lake) -> None:
    contract = model("stays", algorithms=("decision_tree",), folds=2, retraining=replace(POLICY, new_rows=None))
    write(lake, "staging.stays", bookings(200))
    report = train(shared, lake, contract, run="first", now=NOW)
    write(lake, "staging.stays", bookings(205))
    later, stamp = NOW + timedelta(days=1), "CAST('2026-03-02 10:00:00+00' AS TIMESTAMPTZ) AS measured_at"
    assert not retraining_due(lake, contract, now=later)
    size = f"SELECT {stamp}, 'models.stays' AS subject, '1' AS version, 'size' AS column_name, 0.01::DOUBLE AS psi_by_chance, 'drifted' AS verdict"
    add(lake, "monitoring.drift", f"{size}, 'features' AS part, 0.51::DOUBLE AS psi")
    assert not retraining_due(lake, contract, now=later), "nothing says that it is new"
    add(lake, "monitoring.drift", f"{size}, 'new_features' AS part, 0.41::DOUBLE AS psi")
    due = retraining_due(lake, contract, now=later)
    assert (due.triggers, due.reason) == ((Trigger.DRIFT,), "size drifted: PSI 0.400 beyond chance, 0.25 is the limit")
    worse = report.metrics["accuracy"] * 0.8
    add(
        lake,
        "monitoring.model_performance",
        f"SELECT {stamp}, 'stays' AS model, '1' AS model_version, 400 AS rows, 'accuracy' AS metric, "
        f"{worse!r}::DOUBLE AS value, 0.01::DOUBLE AS standard_error, NULL::VARCHAR AS beside",
    )
    assert retraining_due(lake, contract, now=later).triggers == (Trigger.DRIFT, Trigger.PERFORMANCE)
    # What was measured before the newest training says nothing about what comes after it.
    train(shared, lake, contract, run="second", now=later)
    write(lake, "staging.stays", bookings(206))
    assert not retraining_due(lake, contract, now=later + timedelta(days=1))


class Deliveries:
    """A model whose rows arrive day by day, each delivery predicted and measured, and trained again for nothing but drift."""

    def __init__(self, settings: Settings, lake: Lake, contract: ModelContract) -> None:
        self.settings, self.lake, self.contract = settings, lake, contract
        self._day, self._now, self._rows = 0, NOW, list[str]()

    def arrive(self, *, days: int = 5, shift: int = 0) -> ModelDrift:
        self._rows.append(
            f"SELECT d * 40 + n AS id, TIMESTAMPTZ '2026-01-01 00:00:00+00' + INTERVAL (d) DAY AS at, (n * 7 + d) % 40 + {shift}.5 AS size, "
            f"CASE WHEN n % 3 = 0 THEN 'yes' ELSE 'no' END AS label FROM range({self._day}, {self._day + days}) days(d), range(40) rows(n)"
        )
        self._day += days
        write(self.lake, self.contract.label_table, " UNION ALL ".join(self._rows))
        self._pass_by()
        found = measure_model_drift(self.settings, self.lake, self.contract, run="measure", now=self._now)
        if retraining_due(self.lake, self.contract, now=self._later()):
            self._pass_by()
        return found

    def trained(self) -> list[str]:
        return [one.version for one in DeltaJournal(self.lake).events(self.contract.name) if one.kind == "drafted"]

    def _pass_by(self) -> None:
        train_when_due(self.settings, self.lake, self.contract, run="train", now=self._later())
        predict_batch(self.settings, self.lake, self.contract, run="predict", now=self._later())

    def _later(self) -> datetime:
        self._now += timedelta(hours=1)
        return self._now


@pytest.mark.slow
@pytest.mark.parametrize("wins", [True, False], ids=["challenger wins", "challenger loses"])
def test_a_world_that_changes_trains_once_for_each_change(shared: Settings, lake: Lake, *, wins: bool) -> None:
    only_drift = Retraining(automatic=True, new_rows=None, performance_drop=None, max_age_days=None)
    contract = model(
        f"visits_{wins}".lower(),
        algorithms=("decision_tree",),
        folds=2,
        event_timestamp="at",
        include_features=("size",),
        comparison=Comparison(required=not wins),
        retraining=only_drift,
    )
    world = Deliveries(shared, lake, contract)
    for _ in range(2):
        assert world.arrive(days=10).features.drifted == ()
    assert world.trained() == ["1"]
    assert world.arrive(days=10, shift=50).features.drifted == ("size",)
    assert world.trained() == ["1", "2"]
    for _ in range(2):
        known = world.arrive(shift=50)
        # It is still far from what the version in production was trained on, which is said; but not from what came before.
        assert (known.version, known.newest) == ("2" if wins else "1", "2")
        assert known.features.drifted == ("size",)
        assert "already so when version 2 was trained" in known.features_note
    assert world.trained() == ["1", "2"]
    for _ in range(2):
        world.arrive(days=15, shift=200)
    assert world.trained() == ["1", "2", "3"]


def add(lake: Lake, table: str, sql: str) -> None:
    with lake.connect(()) as session:
        lake.append(session.con, table, sql, stamp=Stamp(asset=table, run="test"))


class Killed(BaseException):
    """The process ends here."""


def killed(*_given: object, **_more: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("instant", "left"),
    [
        # The model is in the registry, and nothing of it in a table: what was due is due again, and is completed.
        ("lakehouse.learning.registration.remember", (0, 0, 0)),
        # Nothing is due any more, and it has no history yet.
        ("lakehouse.learning.lifecycle.operations.Lifecycle.register", (1, 0, 0)),
        ("lakehouse.learning.retraining.training._record", (1, 6, 0)),
    ],
)
def test_what_a_killed_retraining_left_is_completed_by_the_next_run(instant, left, shared: Settings, lake: Lake, monkeypatch) -> None:
    name = f"half_{instant.rpartition('.')[2].strip('_')}"
    contract = model(name, algorithms=("decision_tree",), folds=2, retraining=POLICY)
    write(lake, f"staging.{name}", bookings(200))

    def written() -> tuple[int, ...]:
        return tuple(count(lake, table, name) for table in ("models.evaluations", "models.registry_events", TABLE))

    with monkeypatch.context() as patched:
        patched.setattr(instant, killed)
        with pytest.raises(Killed):
            train_when_due(shared, lake, contract, run="killed", now=NOW)
    assert written() == left
    for run in ("next", "after"):
        train_when_due(shared, lake, contract, run=run, now=NOW + timedelta(hours=2))
        assert written() == (1, 6, 1)
    known = newest_evaluated(lake, name)
    assert known is not None
    assert DeltaJournal(lake).ledger(name).production == known.known.report.version == "1"
    with lake.connect([TABLE]) as session:
        rows = session.con.execute(f"SELECT before, version, trained, triggers, reason, state FROM {TABLE} WHERE model = '{name}'")
        assert rows.fetchall() == [(None, "1", True, "first", "it was never trained", "production")]


def count(lake: Lake, table: str, name: str) -> int:
    if not lake.exists(table):
        return 0
    with lake.connect([table]) as session:
        row = session.con.execute(f"SELECT count(*) FROM {table} WHERE model = '{name}'").fetchone()
    return row[0] if row else 0
