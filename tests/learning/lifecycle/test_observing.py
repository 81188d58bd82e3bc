"""What is held against a version: what was measured of it since it stands where it stands, and nothing from before it was there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from lakehouse.contracts import Comparison, Rollout
from lakehouse.learning.comparison import ModelComparison
from lakehouse.learning.lifecycle import Author, Facts, Ledger, Made, Signature, Verdict, judge
from lakehouse.learning.lifecycle.deciding import Decision, register, roll_back
from lakehouse.learning.lifecycle.observing import PERFORMANCE, SERVICE, Answers, comparison_guard, facts_of, record_answers
from lakehouse.learning.records import record_comparison
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEFT = model("left")


def after(ledger: Ledger, decision: Decision) -> Ledger:
    return ledger.after(ledger.numbered(decision.events))


def registered(ledger: Ledger, version: str, at: datetime, *, run: str = "") -> Ledger:
    signature = Signature.of(algorithm="a", problem="classification", target="t", features=["x"])
    made = Made(version, f"{run} {version}", "digest", signature, 0)
    posted = {one: f"{run} {one}" for one in [*ledger.standings, version]} if not run else {version: made.made_by}
    return after(ledger, register(ledger, made, LEFT.rollout, lambda _: Facts(), Author("train", at), posted=posted))


def measured(lake: Lake, at: datetime) -> None:
    said = "'left' AS model, '2' AS model_version, 500 AS rows, 'accuracy' AS metric, 0.2::DOUBLE AS value"
    said += ", 0.03::DOUBLE AS standard_error, '1' AS beside, 500 AS other_rows, 0.8::DOUBLE AS other_value"
    write(lake, PERFORMANCE, f"SELECT {said}, TIMESTAMPTZ '{at}' AS measured_at")


def test_a_version_that_a_person_restores_is_not_taken_back_by_what_was_measured_before(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    ledger = registered(registered(Ledger("left"), "1", NOW), "2", NOW)
    measured(lake, NOW + HOUR)

    def judged(at: datetime) -> Verdict:
        return judge(ledger, LEFT.rollout, candidate=Facts(), champion=facts_of(lake, LEFT, ledger, "2"), now=at).verdict

    assert judged(NOW + HOUR) is Verdict.ROLL_BACK
    ledger = after(ledger, roll_back(ledger, "1", Author("watch", NOW + 2 * HOUR)))
    month = NOW + timedelta(days=30)
    ledger = after(ledger, roll_back(ledger, "2", Author("ann", month, "the labels were wrong")))
    assert judged(month + HOUR) is Verdict.WAIT
    measured(lake, month + 2 * HOUR)
    assert judged(month + 2 * HOUR) is Verdict.ROLL_BACK


def test_a_version_of_another_target_than_the_contract_asks_for_now_is_of_no_use(settings: Settings) -> None:
    lake, canary = Lake.from_settings(settings), replace(LEFT, rollout=Rollout("canary", steps=(5.0,)))
    signature = Signature.of(algorithm="a", problem="classification", target=canary.target, features=["x"])
    ledger = Ledger("left")
    for version in "12":
        made = Made(version, f"run {version}", "digest", signature, 0)
        ledger = after(ledger, register(ledger, made, canary.rollout, lambda _: Facts(), Author("train", NOW), posted={}))
    assert facts_of(lake, canary, ledger, "2").target is None
    other = replace(canary, target_column="income")
    found = facts_of(lake, other, ledger, "2")
    assert found.target is not None
    assert 'asks for "income" now' in found.target.detail
    assert judge(ledger, other.rollout, candidate=found, champion=Facts(), now=NOW).verdict is Verdict.ROLL_BACK
    assert facts_of(lake, other, ledger, "1").target is None, "somebody has to answer until another version takes its place"


def test_a_version_that_has_answered_well_for_long_is_taken_back_when_it_answers_no_more(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    ledger = registered(registered(Ledger("left"), "1", NOW), "2", NOW)
    rollout = replace(LEFT.rollout, max_latency_ms=200.0)
    asks = replace(LEFT, rollout=rollout)

    def answered(hours: float, requests: int, errors: int = 0, latency_ms: float | None = 1.0) -> tuple[str, ...]:
        at = NOW + hours * HOUR
        record_answers(lake, [Answers("left", "2", requests, errors, at, at, latency_ms)], run="test")
        judged = judge(ledger, rollout, candidate=Facts(), champion=facts_of(lake, asks, ledger, "2"), now=at)
        assert (judged.verdict is Verdict.ROLL_BACK) == bool(judged.guards)
        return tuple(one.id for one in judged.guards)

    assert answered(1, 100_000) == ()
    assert answered(2, 60, latency_ms=900.0) == (), "of so few nothing is concluded by themselves"
    assert answered(3, 40, latency_ms=900.0) == ("answers_are_fast",)
    assert answered(4, 500) == ()
    assert answered(5, 4, errors=4, latency_ms=None) == ()
    assert answered(6, 500, errors=500, latency_ms=None) == ("errors_are_rare",)
    assert answered(7, 95) == ("errors_are_rare",), "the answers before these still count"
    assert answered(8, 95) == ()


def test_in_a_registry_that_was_made_anew_nothing_is_held_against_a_version_that_an_earlier_one_of_its_number_did(
    settings: Settings,
) -> None:
    lake = Lake.from_settings(settings)
    old = registered(registered(Ledger("left"), "1", NOW), "2", NOW)
    measured(lake, NOW + HOUR)
    record_answers(lake, [Answers("left", "2", 500, 400, NOW + HOUR, NOW + HOUR)], run="test")
    compared = ModelComparison("1", "2", "accuracy", reason="it can't be loaded", free=True)
    record_comparison(lake, "left", compared, run="test", now=NOW + HOUR)
    asks = model("left", comparison=Comparison())
    guard = comparison_guard(lake, asks, after(old, roll_back(old, "1", Author("ann", NOW))), None, version="2")
    assert guard is not None
    assert guard.passed

    anew = NOW + timedelta(days=1)
    ledger = registered(registered(old, "1", anew, run="anew"), "2", anew, run="anew")
    ledger = after(ledger, roll_back(ledger, "1", Author("ann", anew)))
    assert list(ledger.standings) == ["1", "2"]
    facts = facts_of(lake, asks, ledger, "2")
    assert (facts.observed.requests, facts.observed.labels) == (0, 0)
    assert facts.comparison is not None
    assert not facts.comparison.passed
    assert "was not compared with version 1" in facts.comparison.detail
    assert lake.exists(SERVICE)
