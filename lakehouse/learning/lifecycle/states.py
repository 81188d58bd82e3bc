"""The states of a model version, what may follow what, and where every version of a model stands: the sum of its events.

Everything here is pure. An event is what has happened; the ledger is what all events of a model come to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lakehouse.errors import DATA_DID_NOT_PASS, ModelError
from lakehouse.learning.lifecycle.semantic import Signature

# The guard that a version is better than the one in production.
COMPARED = "challenger_beats_champion"


class State(StrEnum):
    """Where a model version stands."""

    DRAFT = "draft"
    TRAINING = "training"
    TRAINED = "trained"
    VALIDATED = "validated"
    STAGED = "staged"
    PRODUCTION = "production"
    ARCHIVED = "archived"


ALLOWED: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.DRAFT}),
    State.DRAFT: frozenset({State.TRAINING, State.ARCHIVED}),
    State.TRAINING: frozenset({State.TRAINED, State.ARCHIVED}),
    State.TRAINED: frozenset({State.VALIDATED, State.ARCHIVED}),
    State.VALIDATED: frozenset({State.STAGED, State.ARCHIVED}),
    State.STAGED: frozenset({State.PRODUCTION, State.ARCHIVED}),
    State.PRODUCTION: frozenset({State.ARCHIVED}),
    # Back again, by a rollback, and only for what has been in production.
    State.ARCHIVED: frozenset({State.PRODUCTION}),
}


class TransitionRefused(ModelError):
    """A model version may not go from the one state to the other, or a guard does not hold."""

    exit_code = DATA_DID_NOT_PASS


class HistoryDamaged(ModelError):
    """The events of a model contradict each other."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One claim that a transition depends on; `waits` where only time or a person is missing."""

    id: str
    passed: bool
    detail: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a model version: a change of its state, or of what is known and allowed in it.

    Attributes:
        decision: of the model; all events of one decision happened together or not at all. 0 before it is written.
        number: of the event in the model's history, from 1.
        kind: drafted, training, registered, validated, staged, canary, promoted, archived, rolled_back and restored change something;
            rejected and held say what kept a new version back, approved that somebody approved it, lost that the registry has it no more;
            threshold_set and threshold_reset that the version in production answers by another threshold than its own, and no longer.
        before: the state that it was in; None for the first.
        after: the state that it is in from then on; the same for what is no transition.
        share: percent of the entities that it answers for while it is not in production; None says nothing about it.
        previous: the version that was in production before, where that changes.
        guards: what was asked, and the answers.
        semantic: the semantic version, with the event that registers it.
        signature: what decides on the next semantic version, with the same event.
        made_by: the MLflow run that made it, with the same event: a registry that was made anew counts from 1 again.
        training_set: version of its training set, with the same event.
        threshold: probability from which it answers the positive class from then on, where that changes.
        threshold_before: what it was until then.
    """

    model: str
    version: str
    kind: str
    before: State | None
    after: State
    at: datetime
    actor: str
    reason: str = ""
    run: str = ""
    share: float | None = None
    previous: str | None = None
    guards: tuple[Guard, ...] = ()
    semantic: str | None = None
    signature: Signature | None = None
    made_by: str | None = None
    training_set: int | None = None
    digest: str | None = None
    threshold: float | None = None
    threshold_before: float | None = None
    decision: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true of one version.

    Attributes:
        since: when it came into its state.
        share: percent of the entities that it answers for as a canary or in an A/B test.
        share_since: since when it has this share.
        share_step: how many shares it has had, this one included.
        approved_by: who approved it, if anybody did.
        compared_with: the version that was in production when it was last allowed to go on; with another it has to be compared anew.
        served: it has been in production.
        held_by: guards that kept it where it is when it was made.
        drafted_at: since when there is a version of this number; what was said of that number before is not about this one.
        threshold: what people have set, as long as it is in production; None for its own.
        target: digest of what it predicts; None where that was not kept.
    """

    version: str
    state: State
    since: datetime
    semantic: str | None = None
    made_by: str | None = None
    digest: str | None = None
    share: float = 0.0
    share_since: datetime | None = None
    share_step: int = 0
    approved_by: str | None = None
    compared_with: str | None = None
    served: bool = False
    held_by: tuple[str, ...] = ()
    drafted_at: datetime | None = None
    threshold: float | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where all versions of a model stand.

    Attributes:
        line: the versions in production, oldest first: the last is in production now, the one before is what a rollback returns to.
        decision: the newest.
        number: of the newest event.
        at: the latest time of an event.
        semantic: the newest semantic version.
        signature: what it was given for.
    """

    model: str
    standings: Mapping[str, Standing] = field(default_factory=dict[str, Standing])
    line: tuple[str, ...] = ()
    decision: int = 0
    number: int = 0
    at: datetime | None = None
    semantic: str | None = None
    signature: Signature | None = None

    @property
    def production(self) -> str | None:
        """The version in production."""
        return self.line[-1] if self.line else None

    @property
    def staged(self) -> Standing | None:
        """The version that is to be the next; there is at most one."""
        return next((one for one in self.standings.values() if one.state is State.STAGED), None)

    @property
    def challenger(self) -> Standing | None:
        """The newest version after the one in production that may still take its place."""
        after = int(self.production or 0)
        waiting = [one for one in self.standings.values() if one.state in _MAY_WIN and int(one.version) > after]
        return max(waiting, key=lambda one: int(one.version), default=None)

    def standing(self, version: str) -> Standing:
        """Where a version stands.

        Raises:
            TransitionRefused: the history does not know it.
        """
        found = self.standings.get(version)
        if found is None:
            known = ", ".join(sorted(self.standings, key=int)) or "none"
            raise TransitionRefused(
                f"model {self.model}@{version}",
                "has no history",
                expected=f"one of the versions {known}",
                fix=f"See `lakehouse model history {self.model}`; `lakehouse train {self.model}` completes a training that was killed",
            )
        return found

    def named(self, text: str) -> str:
        """The version that a number, or a semantic version, names.

        Raises:
            TransitionRefused: it names none.
        """
        by_semantic = next((one.version for one in self.standings.values() if one.semantic == text), None)
        return by_semantic or self.standing(text).version

    def after(self, events: Iterable[Event]) -> "Ledger":
        """The ledger when these events have happened too.

        Raises:
            HistoryDamaged: an event does not follow from what was.
        """
        ledger = self
        for event in events:
            ledger = ledger._after(event)
        return ledger

    def _after(self, event: Event) -> "Ledger":
        known = None if event.kind == "drafted" else self.standings.get(event.version)
        before = None if known is None else known.state
        is_move = event.before is not event.after
        if event.before is not before or (is_move and event.after not in ALLOWED[before]):
            raise HistoryDamaged(
                f"history of model {self.model}",
                f"says that version {event.version} went from {event.before or 'nothing'} to {event.after}",
                expected=f"from {before or 'nothing'} to {' or '.join(sorted(ALLOWED[before]))}",
                fix="Restore models.registry_events to an earlier version",
            )
        standings, line = dict(self.standings), self.line
        if event.kind == "drafted" and event.version in standings:
            # Written before it was said which versions of a registry that was made anew are lost: all of them.
            standings, line = {}, ()
        standings[event.version] = _standing(known, event, self.production)
        if event.kind == "lost":
            del standings[event.version]
            line = tuple(one for one in line if one != event.version)
        if event.after is State.PRODUCTION and is_move:
            # What is returned to, and what came after it, leave the line: nobody returns to what was rolled back.
            line = (*line[: line.index(event.version)], event.version) if event.version in line else (*line, event.version)
        elif event.before is State.PRODUCTION and is_move and event.kind == "rolled_back":
            line = tuple(one for one in line if one != event.version)
        return replace(
            self,
            standings=standings,
            line=line,
            decision=max(self.decision, event.decision),
            number=max(self.number, event.number),
            at=event.at if self.at is None else max(self.at, event.at),
            semantic=event.semantic or self.semantic,
            signature=event.signature or self.signature,
        )

    def numbered(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """The events as the next decision of this model, none of them earlier than what has happened.

        Who decides brings the time at which he began, and another may have decided since; what counts is the order.
        """
        return tuple(
            replace(
                event,
                decision=self.decision + 1,
                number=self.number + position,
                at=event.at if self.at is None else max(self.at, event.at),
            )
            for position, event in enumerate(events, start=1)
        )


_MAY_WIN = frozenset({State.TRAINED, State.VALIDATED, State.STAGED})


def _standing(known: Standing | None, event: Event, production: str | None) -> Standing:
    found = known or Standing(event.version, event.after, event.at, drafted_at=event.at)
    if event.before is not event.after:
        found = replace(found, state=event.after, since=event.at)
    if event.after is not State.STAGED:
        found = replace(found, share=0.0, share_since=None, share_step=0)
    elif event.share is not None:
        found = replace(found, share=event.share, share_since=event.at, share_step=found.share_step + 1)
    if event.kind == "staged" or any(guard.id == COMPARED for guard in event.guards if guard.passed):
        found = replace(found, compared_with=production)
    if event.kind == "approved":
        found = replace(found, approved_by=event.actor)
    if event.kind in {"threshold_set", "threshold_reset"}:
        found = replace(found, threshold=event.threshold if event.kind == "threshold_set" else None)
    elif event.after is not State.PRODUCTION:
        found = replace(found, threshold=None)
    if event.kind in {"held", "rejected"}:
        found = replace(found, held_by=tuple(guard.id for guard in event.guards))
    return replace(
        found,
        served=found.served or event.after is State.PRODUCTION,
        semantic=event.semantic or found.semantic,
        made_by=event.made_by or found.made_by,
        digest=event.digest or found.digest,
        target=event.signature.target if event.signature is not None else found.target,
    )
