"""The sensor: one run for the same facts, one at a time, and after a run that brought nothing later and later."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts import ModelContract, Retraining
from lakehouse.learning import TrainReport
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.records import Origin, remember
from lakehouse.learning.retraining import RetrainingDue, Trigger
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import Stamp
from resources.workspace import RESOURCE_KEY
from sensors.retraining import (
    DUE_TAG,
    MODEL_TAG,
    VERSION_TAG,
    Attempt,
    build_retraining_schedules,
    build_retraining_sensors,
    decide,
    ended_runs,
    unfinished_run,
    wait_after,
)
from tests.learning.conftest import model

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTRACT = model("guests", retraining=Retraining(automatic=True, schedule="0 3 * * 1"))
REPORT = TrainReport(
    model="guests",
    version="3",
    algorithm="decision_tree",
    problem="classification",
    metrics={},
    baseline={},
    checks=(),
    metric="roc_auc",
    interval=None,
    candidates=(),
    columns=(),
    rows_train=80,
    rows_test=20,
    alias="champion",
    inputs={"staging.guests": 0},
    training_set_version=0,
    model_digest="",
)
DUE = RetrainingDue((Trigger.DRIFT,), "size drifted", "3")


def asked(due: RetrainingDue = DUE, *, history: list[Attempt] | None = None, busy: str | None = None, now: datetime = NOW):
    return decide(CONTRACT, due, history=history or [], busy=busy, now=now)


def test_what_is_due_starts_one_run_that_says_why() -> None:
    first, again = asked(), asked(replace(DUE, reason="size and kind drifted"))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(again, dg.RunRequest)
    # Dagster starts one run per key.
    assert first.run_key == again.run_key
    assert first.tags == {MODEL_TAG: "guests", VERSION_TAG: "3", DUE_TAG: "size drifted"}


@pytest.mark.parametrize(
    ("due", "busy", "said"),
    [
        (RetrainingDue((), "nothing has changed", "3"), None, "nothing has changed"),
        (RetrainingDue((Trigger.FIRST,), "it was never trained"), None, "the run that brings its first rows trains it"),
        (DUE, "abc", "run abc is in progress"),
    ],
)
def test_what_is_not_to_be_started_says_why(due: RetrainingDue, busy: str | None, said: str) -> None:
    skipped = asked(due, busy=busy)
    assert isinstance(skipped, dg.SkipReason)
    assert said in str(skipped.skip_message)


def test_what_brought_nothing_is_tried_again_later_and_later() -> None:
    failed = Attempt("r1", "3", NOW - timedelta(minutes=59))
    assert isinstance(asked(history=[failed]), dg.SkipReason)
    second = asked(history=[failed], now=NOW + timedelta(minutes=1))
    assert isinstance(second, dg.RunRequest)
    assert second.run_key != asked().run_key
    more = [replace(failed, run_id=f"r{number}") for number in range(4)]
    assert isinstance(asked(history=more, now=NOW + timedelta(hours=7)), dg.SkipReason)
    assert isinstance(asked(history=more, now=NOW + timedelta(hours=8)), dg.RunRequest)
    # A new version begins anew.
    assert isinstance(asked(history=[replace(failed, version="2")]), dg.RunRequest)


@given(st.integers(1, 100), st.floats(0, 100_000))
def test_waits_grow_and_end_at_a_day_or_the_debounce(attempts: int, debounce: float) -> None:
    policy = Retraining(debounce_minutes=debounce)
    assert wait_after(policy, attempts) <= wait_after(policy, attempts + 1) <= max(timedelta(days=1), timedelta(minutes=debounce))


@given(st.lists(st.sampled_from(["ask", "fail", "hour"]), max_size=30))
def test_whatever_happens_no_two_requests_have_the_same_key_unless_nothing_ended_between(happens: list[str]) -> None:
    now, history, started = NOW, list[Attempt](), list[str]()
    for what in happens:
        if what == "hour":
            now += timedelta(hours=1)
        elif what == "fail" and started:
            history.insert(0, Attempt(f"r{len(history)}", "3", now))
        else:
            answer = asked(history=history, now=now)
            if isinstance(answer, dg.RunRequest):
                started.append(str(answer.run_key))
    ended = len(history)
    assert len(set(started)) <= ended + 1


@dg.op
def nothing() -> None: ...


@dg.job
def idle() -> None:
    nothing()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_runs_of_the_model_are_found_by_their_tags(instance: dg.DagsterInstance) -> None:
    assert (unfinished_run(instance, CONTRACT), ended_runs(instance, "guests")) == (None, [])
    tags = {MODEL_TAG: "guests", VERSION_TAG: "3"}
    done = idle.execute_in_process(instance=instance, tags=tags)
    [attempt] = ended_runs(instance, "guests")
    assert (attempt.run_id, attempt.version) == (done.run_id, "3")
    assert abs((datetime.now(UTC) - attempt.ended_at).total_seconds()) < 60
    waiting = instance.create_run_for_job(idle, tags=tags)
    assert unfinished_run(instance, CONTRACT) == waiting.run_id
    assert unfinished_run(instance, model("others")) is None


def test_a_run_for_new_files_that_trains_the_model_is_seen(instance: dg.DagsterInstance) -> None:
    @dg.asset(key=dg.AssetKey(["models", "guests"]))
    def guests() -> None: ...

    job = dg.Definitions(assets=[guests], jobs=[dg.define_asset_job("landed", [guests])]).get_repository_def().get_job("landed")
    landed = instance.create_run_for_job(job, tags={"lakehouse/dataset": "guests"}, status=dg.DagsterRunStatus.STARTED)
    assert landed.asset_selection is None
    assert unfinished_run(instance, CONTRACT) == landed.run_id
    assert unfinished_run(instance, model("others")) is None


def test_what_keeps_failing_is_tried_every_day_for_ever() -> None:
    now, history, keys = NOW, list[Attempt](), list[str | None]()
    for number in range(60):
        now += timedelta(days=1)
        answer = asked(history=history[:20], now=now)
        assert isinstance(answer, dg.RunRequest)
        keys.append(answer.run_key)
        history.insert(0, Attempt(f"r{number}", "3", now))
    assert len(set(keys)) == 60


def test_only_contracts_that_say_when_have_a_sensor_and_a_schedule() -> None:
    contracts: list[ModelContract] = [CONTRACT, model("others"), model("untimed", retraining=Retraining(automatic=True))]
    sensors, schedules = build_retraining_sensors(contracts), build_retraining_schedules(contracts)
    assert [one.name for one in sensors] == ["guests_retraining_is_due", "untimed_retraining_is_due"]
    assert "50 new labelled rows, or PSI 0.25 beyond chance, or 5% less" in (sensors[0].description or "")
    assert [(one.name, one.cron_schedule) for one in schedules] == [("guests_retraining_schedule", "0 3 * * 1")]


def test_the_sensor_asks_the_tables_each_time(instance: dg.DagsterInstance, workspace: Workspace) -> None:
    sensor = build_retraining_sensors([CONTRACT])[0]

    def answer() -> object:
        return sensor(dg.build_sensor_context(instance=instance, resources={RESOURCE_KEY: workspace}))

    def why_not() -> str:
        skipped = answer()
        assert isinstance(skipped, dg.SkipReason)
        return str(skipped.skip_message)

    assert "the run that brings its first rows trains it" in why_not()
    lake = workspace.lake
    for rows in (100, 160):
        with lake.connect(()) as session:
            sql = f"SELECT n AS id, 'yes' AS label FROM range({rows}) t(n)"
            lake.overwrite(session.con, "staging.guests", sql, stamp=Stamp(asset="staging.guests", run="test"))
        if rows == 100:
            origin = Origin("guests", CONTRACT.digest, code_digest(), {"staging.guests": 0})
            remember(lake, REPORT, origin, made_by="run", run="test", now=datetime.now(UTC) - timedelta(days=1))
            assert why_not() == "guests: nothing has changed since version 3 was trained."
    request = answer()
    assert isinstance(request, dg.RunRequest)
    assert request.tags[DUE_TAG] == "60 new labelled rows since version 3"
    idle.execute_in_process(instance=instance, tags=request.tags)
    assert "1 runs brought no new version" in why_not()
