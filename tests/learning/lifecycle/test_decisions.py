"""What a rollout comes to, guard by guard."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse.contracts import Rollout
from lakehouse.learning.lifecycle import (
    Facts,
    HistoryDamaged,
    Ledger,
    Observed,
    Signature,
    State,
    TransitionRefused,
    Verdict,
    judge,
    next_version,
)
from lakehouse.learning.lifecycle.board import Posted, wanted_aliases
from lakehouse.learning.lifecycle.deciding import set_threshold
from lakehouse.learning.lifecycle.rollout import COMPARED, TARGET
from lakehouse.learning.lifecycle.states import Guard
from tests.learning.lifecycle.worlds import START, Fuse, MemoryBoard, MemoryJournal, World

CANARY = Rollout("canary", steps=(5.0, 25.0))


def world(rollout: Rollout) -> World:
    board = MemoryBoard(Fuse())

    def post() -> tuple[str, str]:
        version = str(len(board.versions) + 1)
        board.versions[version] = Posted(f"run {version}")
        return version, f"run {version}"

    return World(rollout, MemoryJournal(Fuse()), board, post)


def trained(rollout: Rollout, versions: int = 2, **how) -> World:
    made = world(rollout)
    for _ in range(versions):
        made.train(**({"reaches": True, "beats": True, "algorithm": "a", "features": "x"} | how))
    return made


def ledger_of(made: World) -> Ledger:
    return made.journal.ledger(made.model)


def kinds(events) -> list[tuple[str, str]]:
    return [(one.version, one.kind) for one in events]


def test_with_nothing_asked_a_training_goes_into_production_in_one_decision() -> None:
    made = trained(Rollout())
    events = made.journal.events(made.model)
    assert kinds(events)[:6] == [("1", kind) for kind in ("drafted", "training", "registered", "validated", "staged", "promoted")]
    assert kinds(events)[-3:] == [("2", "staged"), ("1", "archived"), ("2", "promoted")]
    assert {one.decision for one in events} == {1, 2}
    assert ledger_of(made).line == ("1", "2")
    assert made.board.aliases("walked") == {"champion": "2"}


def test_a_canary_goes_step_by_step_and_the_first_version_straight() -> None:
    made = trained(CANARY)
    assert made.board.aliases("walked") == {"champion": "1", "challenger": "2", "staged": "2", "canary": "2"}
    well = made.facts()
    assert not made.watch(well, well).events
    made.pass_time(25)
    (step,) = made.watch(well, well).events
    assert (step.kind, step.share) == ("canary", 25.0)
    made.pass_time(25)
    assert kinds(made.watch(well, well).events) == [("1", "archived"), ("2", "promoted")]
    assert made.board.aliases("walked") == {"champion": "2"}


def test_a_canary_has_the_next_larger_share_of_what_the_contract_says_by_then() -> None:
    made = trained(CANARY)
    for steps, share in (((25.0, 50.0), 25.0), ((10.0, 40.0), 40.0)):
        made.rollout = replace(CANARY, steps=steps)
        made.pass_time(25)
        (step,) = made.watch(made.facts(), made.facts()).events
        assert (step.kind, step.share) == ("canary", share)
    made.rollout = replace(CANARY, steps=(5.0,))
    made.pass_time(25)
    assert kinds(made.watch(made.facts(), made.facts()).events) == [("1", "archived"), ("2", "promoted")]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        (Facts(observed=Observed(requests=100, errors=6)), "errors_are_rare"),
        (Facts(observed=Observed(requests=3, errors=3)), "errors_are_rare"),
        (Facts(observed=Observed(requests=100, latency_ms=200.5)), "answers_are_fast"),
        (
            Facts(observed=Observed(metric=0.84, labels=100), reference=Observed(metric=0.9, labels=100), standard_error=0.02),
            "holds_on_new_labels",
        ),
        (
            Facts(
                observed=Observed(metric=10.6, labels=100, lower_is_better=True),
                reference=Observed(metric=10, labels=100),
                standard_error=0.2,
            ),
            "holds_on_new_labels",
        ),
        (Facts(target=Guard(TARGET, passed=False, detail="the contract asks for income now")), "the contract asks for income now"),
    ],
)
def test_a_canary_that_is_not_well_is_taken_back_and_kept(facts, named) -> None:
    made = trained(replace(CANARY, max_latency_ms=200))
    assert judge(ledger_of(made), made.rollout, candidate=facts, champion=Facts(), now=START).verdict is Verdict.ROLL_BACK
    (event,) = made.watch(facts, Facts()).events
    assert (event.kind, event.after) == ("rolled_back", State.ARCHIVED)
    assert named in event.reason
    assert made.board.aliases("walked") == {"champion": "1"}
    assert set(made.board.posted("walked")) == {"1", "2"}


@pytest.mark.parametrize(
    "facts",
    [
        Facts(observed=Observed(requests=100, errors=5)),
        Facts(observed=Observed(requests=99, errors=50)),
        Facts(observed=Observed(metric=0.1, labels=99), reference=Observed(metric=0.9, labels=100), standard_error=0.04),
        Facts(observed=Observed(metric=0.86, labels=100), reference=Observed(metric=0.9, labels=100), standard_error=0.001),
        # More than is allowed, and no more than chance brings; or nobody knows what chance brings.
        Facts(observed=Observed(metric=0.76, labels=100), reference=Observed(metric=0.8, labels=1900), standard_error=0.041),
        Facts(observed=Observed(metric=0.76, labels=100), reference=Observed(metric=0.9, labels=100)),
    ],
)
def test_of_little_or_of_what_is_allowed_nothing_is_concluded(facts) -> None:
    made = trained(CANARY)
    assert judge(ledger_of(made), CANARY, candidate=facts, champion=Facts(), now=START).verdict is Verdict.WAIT


@pytest.mark.parametrize(
    ("metric", "error", "verdict"),
    [
        (0.9, 0.02, Verdict.GO_ON),
        (0.9, 0.05, Verdict.WAIT),
        (0.88, 0.01, Verdict.GO_ON),
        (0.88, 0.03, Verdict.WAIT),
        (0.8, 0.03, Verdict.ROLL_BACK),
    ],
)
def test_an_ab_test_ends_when_labels_say_beyond_chance_that_the_new_version_is_no_worse(metric, error, verdict) -> None:
    made = trained(Rollout("ab", steps=(50.0,)))
    measured = Facts(observed=Observed(metric=metric, labels=300), reference=Observed(metric=0.9, labels=300), standard_error=error)
    later = START + timedelta(hours=25)
    assert judge(ledger_of(made), made.rollout, candidate=measured, champion=Facts(), now=later).verdict is verdict


def test_a_version_in_production_goes_back_for_errors_at_any_time_and_for_its_metric_on_probation() -> None:
    made = trained(Rollout())
    worse = Facts(observed=Observed(metric=0.5, labels=200), reference=Observed(metric=0.9, labels=200), standard_error=0.04)
    later = START + timedelta(days=2)
    assert judge(ledger_of(made), made.rollout, candidate=Facts(), champion=worse, now=START).verdict is Verdict.ROLL_BACK
    assert judge(ledger_of(made), made.rollout, candidate=Facts(), champion=worse, now=later).verdict is Verdict.WAIT
    made.pass_time(48)
    failing = Facts(observed=Observed(requests=500, errors=400))
    assert kinds(made.watch(Facts(), failing).events) == [("2", "rolled_back"), ("1", "restored")]
    # There is nothing else to return to: what fails is kept, for nobody else would answer.
    assert not made.watch(Facts(), failing).events


def test_a_rollback_goes_one_back_each_time_and_never_to_what_was_rolled_back() -> None:
    made = trained(Rollout(), versions=3)
    assert made.roll_back(None).ledger.production == "2"
    assert made.roll_back(None).ledger.production == "1"
    with pytest.raises(TransitionRefused, match="no version was in production before"):
        made.roll_back(None)
    # By name it is possible: a person may know better.
    assert made.roll_back("3").ledger.line == ("1", "3")


def test_approval_holds_a_version_and_a_newer_one_takes_the_place_of_one_that_nobody_approved() -> None:
    made = trained(Rollout(approval=True))
    assert ledger_of(made).production is None
    assert [one.state for one in ledger_of(made).standings.values()] == [State.ARCHIVED, State.STAGED]
    with pytest.raises(TransitionRefused, match=r"may not go from staged to production \(found is_approved"):
        made.promote(None)
    made.approve(None)
    assert made.promote(None).ledger.production == "2"
    assert ledger_of(made).standing("2").approved_by == "bob"


def test_a_version_waits_while_another_is_rolled_out_and_follows_when_that_is_taken_back() -> None:
    made = trained(CANARY, versions=3)
    assert [one.state for one in ledger_of(made).standings.values()] == [State.PRODUCTION, State.STAGED, State.VALIDATED]
    ill = made.facts(errors=150)
    assert kinds(made.watch(ill, Facts()).events) == [("2", "rolled_back")]
    assert kinds(made.watch(made.facts(), Facts()).events) == [("3", "staged"), ("3", "canary")]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda made: made.archive("2"), "may not go from production to archived"),
        (lambda made: made.promote("2"), "it is there already"),
        (lambda made: made.promote("1"), "only by a rollback"),
        (lambda made: made.promote("9"), "has no history"),
        (lambda made: made.approve("1"), "can't be approved"),
        (lambda made: made.promote(None), "has no version that waits to be promoted"),
        (lambda made: made.roll_back("2"), "it is there already"),
    ],
)
def test_what_is_forbidden_is_refused_and_leaves_no_trace(what, message) -> None:
    made = trained(Rollout())
    before = made.journal.events(made.model)
    with pytest.raises(TransitionRefused, match=message):
        what(made)
    assert made.journal.events(made.model) == before


def test_a_version_below_its_minimums_is_the_challenger_until_they_are_lowered() -> None:
    made = trained(Rollout())
    made.train(reaches=False, beats=True, algorithm="a", features="x")
    assert made.journal.events(made.model)[-1].kind == "rejected"
    assert wanted_aliases(ledger_of(made)) == {"champion": "2", "challenger": "3"}
    with pytest.raises(TransitionRefused, match="metrics_reach_their_minimums"):
        made.promote("3", reaches=False)
    assert made.promote("3", reaches=True).ledger.production == "3"


def test_events_that_contradict_each_other_are_named() -> None:
    made = trained(Rollout())
    events = made.journal.events(made.model)
    with pytest.raises(HistoryDamaged, match="version 1 went from validated to staged"):
        Ledger("walked").after([one for one in events if one.kind != "validated"])


def test_a_registry_that_was_made_anew_begins_a_new_history_after_the_old_one() -> None:
    made = trained(Rollout())
    made.board.versions.clear()  # pyright: ignore[reportAttributeAccessIssue]
    made.board.shown.clear()  # pyright: ignore[reportAttributeAccessIssue]
    made._post = lambda: (made.board.versions.setdefault("1", Posted("anew")) and "1", "anew")  # pyright: ignore
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    assert ledger_of(made).line == ("1",)
    assert made.board.aliases("walked") == {"champion": "1"}
    assert ledger_of(made).standing("1").semantic == "1.0.2"


A, OTHER = Signature("forest", "t", "f"), Signature("forest", "t", "g")


@pytest.mark.parametrize(
    ("before", "was", "now", "expected"),
    [
        (None, None, A, "1.0.0"),
        ("1.0.0", A, A, "1.0.1"),
        ("1.0.9", A, OTHER, "1.1.0"),
        ("1.1.3", A, replace(OTHER, algorithm="ridge"), "2.0.0"),
        ("1.1.3", A, replace(A, target="u"), "2.0.0"),
    ],
)
def test_what_changed_says_which_number_goes_up(before, was, now, expected) -> None:
    assert next_version(before, was, now) == expected


def test_a_reader_that_somebody_overtakes_does_not_undo_a_rollback() -> None:
    made = trained(Rollout())
    assert isinstance(made.board, MemoryBoard)
    made.board.before_posted = lambda: made.roll_back(None)
    made.look()
    assert ledger_of(made).production == "1"
    assert made.board.aliases("walked") == {"champion": "1"}


def test_a_version_that_was_compared_with_the_one_before_does_not_take_over() -> None:
    made = trained(Rollout(approval=True), versions=1)
    made.approve(None)
    made.promote(None)
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    made.approve("2")
    made.rollout = Rollout()
    assert isinstance(made.journal, MemoryJournal)
    # Version 3 is trained beside version 1; before that is written, somebody promotes version 2.
    made.journal.before_add = lambda: made.promote("2")
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    assert ledger_of(made).production == "2"
    held = made.journal.events("walked")[-1]
    assert (held.version, held.kind, [one.id for one in held.guards]) == ("3", "held", [COMPARED])
    made.compare("3", "2", beats=True)
    assert made.promote("3").ledger.production == "3"


def test_a_canary_waits_when_the_champion_that_it_was_compared_with_is_rolled_back() -> None:
    made = trained(Rollout())
    made.rollout = CANARY
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    made.roll_back("1")
    made.pass_time(25)
    well = made.facts()
    judged = judge(ledger_of(made), CANARY, candidate=made.beside(ledger_of(made), "3", well), champion=well, now=made.now)
    assert (judged.verdict, judged.version) == (Verdict.WAIT, "3")
    assert "was not compared with version 1" in judged.reason
    assert not made.watch(well, well).events
    with pytest.raises(TransitionRefused, match="was not compared with version 1"):
        made.promote("3")
    made.compare("3", "1", beats=True)
    assert kinds(made.watch(well, well).events) == [("3", "canary")]


def test_of_a_registry_that_was_restored_only_what_it_lacks_is_forgotten() -> None:
    made = trained(Rollout(), versions=3)
    made.train(reaches=True, beats=False, algorithm="a", features="x")
    made.lose({"4"})
    made._post = lambda: (made.board.versions.setdefault("4", Posted("anew")) and "4", "anew")  # pyright: ignore
    made.train(reaches=True, beats=False, algorithm="a", features="x")
    assert ledger_of(made).line == ("1", "2", "3")
    assert kinds(made.journal.events("walked"))[-6:] == [
        ("4", "lost"),
        *(("4", kind) for kind in ("drafted", "training", "registered", "validated", "held")),
    ]
    assert made.board.aliases("walked") == {"champion": "3", "challenger": "4"}


def test_where_the_version_in_production_is_lost_the_newest_before_it_answers_until_another_beats_that() -> None:
    made = trained(Rollout(), versions=3)
    made.lose({"2", "3"})
    made._post = lambda: (made.board.versions.setdefault("2", Posted("anew")) and "2", "anew")  # pyright: ignore
    # It was compared with version 3, which was in production when the training began.
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    assert ledger_of(made).production == "1"
    assert made.board.aliases("walked") == {"champion": "1", "challenger": "2"}
    made.compare("2", "1", beats=True)
    assert made.promote(None).ledger.line == ("1", "2")


def test_a_threshold_belongs_to_the_version_in_production_while_it_is_there() -> None:
    made = trained(Rollout())

    def put(version: str, threshold: float | None):
        return made.do(lambda ledger: set_threshold(ledger, version, threshold, own=0.5, author=made.author("ann")))

    assert [(one.kind, one.threshold_before, one.threshold) for one in put("2", 0.4).events] == [("threshold_set", 0.5, 0.4)]
    assert not put("2", 0.4).events
    assert ledger_of(made).standing("2").threshold == 0.4
    assert [(one.kind, one.threshold_before, one.threshold) for one in put("2", 0.3).events] == [("threshold_set", 0.4, 0.3)]
    with pytest.raises(TransitionRefused, match="another version in production"):
        put("1", 0.4)
    made.roll_back(None)
    assert {ledger_of(made).standing(version).threshold for version in ("1", "2")} == {None}
    put("1", 0.6)
    assert [(one.kind, one.threshold_before, one.threshold) for one in put("1", None).events] == [("threshold_reset", 0.6, 0.5)]
    assert not put("1", None).events
    made.require_sound()


def test_a_decision_of_a_run_that_began_earlier_is_not_earlier_than_what_has_happened() -> None:
    made = trained(CANARY)
    made.pass_time(48)
    made.watch(made.facts(), made.facts())
    latest = made.journal.events(made.model)[-1].at
    made.pass_time(-30)
    (event,) = made.archive("2").events
    assert (event.at, event.kind) == (latest, "archived")
    # Steps and probation count from what is written.
    assert ledger_of(made).standing("2").since == ledger_of(made).at == latest
    made.pass_time(60)
    made.train(reaches=True, beats=True, algorithm="a", features="x")
    assert ledger_of(made).at == made.now
    made.require_sound()
