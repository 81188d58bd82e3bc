"""What is asked of a version before it goes further, and what takes it back: decisions over facts, without a look at the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from lakehouse.contracts import Rollout
from lakehouse.learning.judging import BEYOND_CHANCE
from lakehouse.learning.lifecycle.states import COMPARED, Guard, Ledger, Standing, State

MINIMUMS = "metrics_reach_their_minimums"
TARGET = "predicts_what_the_contract_asks_for"
FREE = "no_other_version_is_staged"
STAGED_LONG = "is_staged_long_enough"
APPROVED = "is_approved"
ERRORS = "errors_are_rare"
LATENCY = "answers_are_fast"
METRIC = "holds_on_new_labels"
STEPS = "rollout_is_over"
# Of a normal distribution one-sided, 5 %: an A/B test ends once.
_SURELY = 1.645


@dataclass(frozen=True, slots=True)
class Observed:
    """What was measured of a version since it has its present state and share; of answers in production only the newest.

    Attributes:
        requests: answers that were asked of it.
        errors: those it could not give.
        latency_ms: of an answer, on average.
        metric: its value on labels that arrived after it was trained.
        labels: how many those were.
        lower_is_better: of the metric.
    """

    requests: int = 0
    errors: int = 0
    latency_ms: float | None = None
    metric: float | None = None
    labels: int = 0
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards of one version are asked about.

    Attributes:
        minimums: whether it reaches the contract's minimums.
        comparison: whether it beats the version in production; None where they were not compared.
        observed: what was measured of it.
        reference: what was measured of the version that it is judged by.
        standard_error: of the difference of both metrics; None where chance can't be told.
        target: says that the contract has another target by now; None where it has not.
    """

    minimums: tuple[Guard, ...] = ()
    comparison: Guard | None = None
    observed: Observed = Observed()
    reference: Observed = Observed()
    standard_error: float | None = None
    target: Guard | None = None

    @property
    def outdated(self) -> tuple[Guard, ...]:
        """Why it is of no use to the contract any more."""
        return (self.target,) if self.target is not None else ()

    @property
    def worse(self) -> float | None:
        """By how much the metric is worse than the reference's; None where they were not measured."""
        seen, beside = self.observed.metric, self.reference.metric
        if seen is None or beside is None:
            return None
        return seen - beside if self.observed.lower_is_better else beside - seen

    @property
    def labels(self) -> int:
        """How many labels there are of the one that has fewer."""
        return min(self.observed.labels, self.reference.labels)


class Verdict(StrEnum):
    """What is to be done with a version that answers."""

    WAIT = "wait"
    GO_ON = "go_on"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do with which version, and why."""

    verdict: Verdict
    version: str | None
    reason: str
    guards: tuple[Guard, ...] = ()


def health(rollout: Rollout, facts: Facts) -> tuple[Guard, ...]:
    """Whether a version that answers is well: errors, latency, and its metric beside the reference's."""
    seen = facts.observed
    rate = seen.errors / seen.requests if seen.requests else 0.0
    enough = seen.requests >= rollout.min_rows or (seen.requests > 0 and seen.errors == seen.requests)
    few = f"{seen.requests:,} answers, of fewer than {rollout.min_rows:,} nothing is concluded"
    errors = f"{rate:.2%} of {seen.requests:,} answers failed, {rollout.max_error_rate:.2%} may"
    found = [Guard(ERRORS, not enough or rate <= rollout.max_error_rate, errors if enough else few)]
    if rollout.max_latency_ms is not None:
        slow = seen.latency_ms is not None and seen.requests >= rollout.min_rows and seen.latency_ms > rollout.max_latency_ms
        shown = "not measured" if seen.latency_ms is None else f"{seen.latency_ms:.1f} ms"
        found.append(Guard(LATENCY, not slow, f"an answer takes {shown}, {rollout.max_latency_ms:g} ms are allowed"))
    found.append(_metric_holds(rollout, facts))
    return tuple(found)


def _metric_holds(rollout: Rollout, facts: Facts) -> Guard:
    """A version is worse if it is so by more than is allowed, and by more than chance brings."""
    seen, beside, worse = facts.observed, facts.reference, facts.worse
    if worse is None or facts.standard_error is None or facts.labels < rollout.min_rows:
        labels = f"{seen.labels:,} and {beside.labels:,} new labels, of fewer than {rollout.min_rows:,} nothing is concluded"
        return Guard(METRIC, passed=True, detail=labels, waits=True)
    chance = BEYOND_CHANCE * facts.standard_error
    holds = worse <= _allowed(rollout, beside) or worse <= chance
    said = f"{seen.metric:.4f} on {seen.labels:,} new labels, beside {beside.metric:.4f} on {beside.labels:,}: "
    return Guard(METRIC, holds, f"{said}{rollout.max_metric_drop:.0%} less is allowed, {chance:.4f} may be chance")


def _have_decided(rollout: Rollout, facts: Facts) -> Guard:
    """Labels have decided when they say, beyond chance, that a version is not worse by more than is allowed."""
    found, worse = "new_labels_have_decided", facts.worse
    if worse is None or facts.standard_error is None or facts.labels < rollout.min_rows:
        return Guard(found, passed=False, detail=f"{facts.labels:,} of {rollout.min_rows:,} labels", waits=True)
    most, allowed = worse + _SURELY * facts.standard_error, _allowed(rollout, facts.reference)
    said = f"on {facts.labels:,} labels it may be worse by {max(most, 0.0):.4f}, {allowed:.4f} is allowed"
    return Guard(found, most <= allowed, said, waits=most > allowed)


def _allowed(rollout: Rollout, beside: Observed) -> float:
    return rollout.max_metric_drop * abs(beside.metric or 0.0)


def before_validation(facts: Facts) -> tuple[Guard, ...]:
    """What a trained version has to show to be validated."""
    return facts.minimums or (Guard(MINIMUMS, passed=True, detail="the contract demands nothing"),)


def before_staging(ledger: Ledger, rollout: Rollout, facts: Facts, *, by_hand: bool) -> tuple[Guard, ...]:
    """What a validated version has to show to be staged."""
    found = [*facts.outdated]
    if facts.comparison is not None and ledger.production is not None:
        found.append(facts.comparison)
    other = ledger.staged
    # A version nobody approves must not keep all later ones waiting.
    waits = other is not None and not by_hand and not (rollout.approval and other.approved_by is None)
    detail = f"version {other.version} is" if other is not None else "none is"
    found.append(Guard(FREE, not waits, detail, waits=waits))
    return tuple(found)


def before_production(ledger: Ledger, standing: Standing, rollout: Rollout, facts: Facts, *, now: datetime) -> tuple[Guard, ...]:
    """What a staged version has to show to go on: to its next share, or into production."""
    found = [*facts.outdated]
    if ledger.production is not None and ledger.production != standing.compared_with:
        # The champion is another than the one that it was compared with, such as after a rollback.
        anew = f"it was compared with version {standing.compared_with}, and version {ledger.production} is in production"
        found.append(facts.comparison or Guard(COMPARED, passed=False, detail=anew))
    if rollout.staged_hours and not standing.share_step:
        found.append(_long_enough(STAGED_LONG, standing.since, rollout.staged_hours, now))
    if rollout.approval:
        by = standing.approved_by
        detail = f"by {by}" if by else f"by nobody: lakehouse model approve {ledger.model}@{standing.version}"
        found.append(Guard(APPROVED, by is not None, detail, waits=by is None))
    found.extend(health(rollout, facts))
    return tuple(found)


def next_share(ledger: Ledger, standing: Standing, rollout: Rollout) -> float | None:
    """The share that a staged version gets next; None if it has had them all, or if there is no champion to share with."""
    if ledger.production is None:
        return None
    # By the share and not by its place: the contract's steps may be others than when it had its last one.
    return next((share for share in rollout.steps if share > standing.share), None)


def step_is_over(ledger: Ledger, standing: Standing, rollout: Rollout, facts: Facts, *, now: datetime) -> tuple[Guard, ...]:
    """Whether the present share, or the time as a shadow, has lasted long enough."""
    if ledger.production is None or rollout.strategy == "direct":
        return ()
    if rollout.strategy == "shadow":
        return (_long_enough(STEPS, standing.since, rollout.step_hours, now),)
    if not standing.share_step or standing.share_since is None:
        return ()
    found = [_long_enough(STEPS, standing.share_since, rollout.step_hours, now)]
    if rollout.strategy == "ab":
        found.append(_have_decided(rollout, facts))
    return tuple(found)


def _long_enough(guard: str, since: datetime, hours: float, now: datetime) -> Guard:
    until = since + timedelta(hours=hours)
    passed = now >= until
    return Guard(guard, passed, f"since {_shown(since)}, until {_shown(until)}", waits=not passed)


def _shown(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def judge(ledger: Ledger, rollout: Rollout, *, candidate: Facts, champion: Facts, now: datetime) -> Judgement:
    """What is to be done now with the version that is rolled out, or else with the one in production.

    `candidate` is about the staged version, or where none is about the challenger.

    A candidate that is not well, or predicts what the contract no longer asks for, is taken back at once, whatever its step. The version
    in production is taken back for errors and latency at any time, for its metric only while it is on probation (as long as a step
    lasts), and only if there is one to return to.
    """
    staged = ledger.staged
    if staged is not None:
        ill = [one for one in (*candidate.outdated, *health(rollout, candidate)) if not one.passed]
        if ill:
            return Judgement(Verdict.ROLL_BACK, staged.version, _reason(ill), tuple(ill))
    production = ledger.production
    if production is not None and len(ledger.line) > 1:
        on_probation = now < ledger.standings[production].since + timedelta(hours=rollout.step_hours)
        ill = [one for one in health(rollout, champion) if not one.passed and (one.id != METRIC or on_probation)]
        if ill:
            return Judgement(Verdict.ROLL_BACK, production, _reason(ill), tuple(ill))
    if staged is not None:
        asked = (
            *before_production(ledger, staged, rollout, candidate, now=now),
            *step_is_over(ledger, staged, rollout, candidate, now=now),
        )
        missing = [one for one in asked if not one.passed]
        if missing:
            return Judgement(Verdict.WAIT, staged.version, _reason(missing), asked)
        return Judgement(Verdict.GO_ON, staged.version, "every guard holds", asked)
    return _of_waiting(ledger, rollout, candidate)


def _of_waiting(ledger: Ledger, rollout: Rollout, candidate: Facts) -> Judgement:
    """What to do with a version that only waited for the one before it to be through."""
    waiting = ledger.challenger
    if waiting is None or waiting.state is not State.VALIDATED or waiting.held_by != (FREE,):
        return Judgement(Verdict.WAIT, ledger.production, "nothing is rolled out")
    missing = [one for one in before_staging(ledger, rollout, candidate, by_hand=False) if not one.passed]
    if missing:
        # Such as after the version that it waited for has taken over: with that one nobody has compared it.
        return Judgement(Verdict.WAIT, waiting.version, _reason(missing), tuple(missing))
    return Judgement(Verdict.GO_ON, waiting.version, "it is validated, and no other version is staged")


def _reason(guards: Sequence[Guard]) -> str:
    return "; ".join(f"{one.id} does not hold: {one.detail}" for one in guards)
