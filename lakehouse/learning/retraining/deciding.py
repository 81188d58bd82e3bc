"""Whether a model is to be trained again, and why: a decision over facts, without a look at the world."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from lakehouse.contracts import Retraining
from lakehouse.learning.judging import BEYOND_CHANCE


class Trigger(StrEnum):
    """What makes a model train again."""

    FIRST = "first"
    DEFINITION = "definition"
    NEW_ROWS = "new_rows"
    DRIFT = "drift"
    PERFORMANCE = "performance"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Held:
    """How the version in production holds on labels that came later.

    Attributes:
        expected: the same metric on the test rows, or on the labels that had come before a later version was trained.
        standard_error: of the difference of both, by chance; None where it can't be told.
        lower_is_better: of the metric.
    """

    metric: str
    value: float
    expected: float
    labels: int
    standard_error: float | None
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class RetrainingFacts:
    """What is known of a model before it is decided.

    Attributes:
        version: the newest; None if it was never trained.
        trained_at: when that was.
        definition_changed: the contract or the code is another than that it was made by.
        data_changed: a table that it learned from has other rows now.
        new_rows: labelled rows more than it learned from.
        psi: beyond chance, of the column of the version in production that has moved most, measured since it was trained; 0 if none has.
            Only what is new: of what was already arriving when `version` was trained it has learned what there is to learn.
        drifted: the columns that have drifted, for people.
        held: beside the test rows; None before labels came.
        held_since: beside what it was when `version` was trained; None if `version` is in production itself, or nothing was measured before.
            Only a further drop is new: of what was so already `version` has learned what there is to learn.
        min_labels: of fewer nothing is concluded.
    """

    version: str | None
    trained_at: datetime | None = None
    definition_changed: bool = False
    data_changed: bool = False
    new_rows: int = 0
    psi: float = 0.0
    drifted: tuple[str, ...] = ()
    held: Held | None = None
    held_since: Held | None = None
    min_labels: int = 100


@dataclass(frozen=True, slots=True)
class RetrainingDue:
    """Whether it is due: it is if there is a trigger; `reason` says why, or why not."""

    triggers: tuple[Trigger, ...]
    reason: str
    version: str | None = None

    def __bool__(self) -> bool:
        """Whether the model is to be trained."""
        return bool(self.triggers)


def decide_retraining(policy: Retraining, facts: RetrainingFacts, *, now: datetime) -> RetrainingDue:
    """Whether a model is to be trained again.

    Nothing that is not new is trained on: the same rows, contract and code give the same model. A changed contract does not wait.

    Args:
        policy: of the contract.
        facts: of the model.
        now: the time.
    """
    if facts.version is None or facts.trained_at is None:
        return RetrainingDue((Trigger.FIRST,), "it was never trained")
    if facts.definition_changed:
        return RetrainingDue((Trigger.DEFINITION,), f"contract or code have changed since version {facts.version}", facts.version)
    if not facts.data_changed:
        return RetrainingDue((), f"nothing has changed since version {facts.version} was trained", facts.version)
    until = facts.trained_at + timedelta(minutes=policy.debounce_minutes)
    if now < until:
        return RetrainingDue(
            (), f"version {facts.version} was trained at {facts.trained_at:%Y-%m-%d %H:%M}, the next at {until:%H:%M}", facts.version
        )
    found = dict(_reasons(policy, facts, now))
    if found:
        return RetrainingDue(tuple(found), "; ".join(found.values()), facts.version)
    limit = f" of {policy.new_rows:,}" if policy.new_rows is not None else ""
    return RetrainingDue(
        (), f"{facts.new_rows:,}{limit} new labelled rows since version {facts.version}, no new drift, no new drop", facts.version
    )


def _reasons(policy: Retraining, facts: RetrainingFacts, now: datetime) -> list[tuple[Trigger, str]]:
    found: list[tuple[Trigger, str]] = []
    if policy.new_rows is not None and facts.new_rows >= policy.new_rows:
        found.append((Trigger.NEW_ROWS, f"{facts.new_rows:,} new labelled rows since version {facts.version}"))
    if policy.psi_retrain is not None and facts.psi >= policy.psi_retrain:
        columns = ", ".join(facts.drifted[:5]) or "a column"
        found.append((Trigger.DRIFT, f"{columns} drifted: PSI {facts.psi:.3f} beyond chance, {policy.psi_retrain:g} is the limit"))
    if policy.performance_drop is not None and facts.held is not None:
        held, since = facts.held, facts.held_since
        if all(_has_dropped(one, policy.performance_drop, facts.min_labels) for one in (held, since) if one is not None):
            said = f"{held.metric} {held.value:.4f} on {held.labels:,} new labels, {held.expected:.4f} on the test rows"
            said += f", {since.expected:.4f} when version {facts.version} was trained" if since is not None else ""
            found.append((Trigger.PERFORMANCE, said))
    age = (now - facts.trained_at) / timedelta(days=1) if facts.trained_at is not None else 0.0
    if policy.max_age_days is not None and age >= policy.max_age_days:
        found.append((Trigger.AGE, f"version {facts.version} is {age:.1f} days old, {policy.max_age_days:g} is the limit"))
    return found


def _has_dropped(held: Held, share: float, min_labels: int) -> bool:
    """Whether it is worse than expected by more than the share, and by more than chance brings on these and on those rows."""
    drop = held.value - held.expected if held.lower_is_better else held.expected - held.value
    if held.labels < min_labels or held.standard_error is None:
        return False
    return drop > max(share * abs(held.expected), BEYOND_CHANCE * held.standard_error)
