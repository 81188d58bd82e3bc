"""What may happen next to a model version: each action gives the events of one decision, or says why it is refused. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from lakehouse.contracts import Rollout
from lakehouse.learning.lifecycle.rollout import Facts, before_production, before_staging, before_validation, next_share, step_is_over
from lakehouse.learning.lifecycle.semantic import Signature, next_version
from lakehouse.learning.lifecycle.states import Event, Guard, Ledger, State, TransitionRefused

_ORDER = (State.DRAFT, State.TRAINING, State.TRAINED, State.VALIDATED, State.STAGED, State.PRODUCTION)
_NEVER_STAYS = 8


@dataclass(frozen=True, slots=True)
class Author:
    """Who acts, when and why."""

    actor: str
    now: datetime
    reason: str = ""
    run: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A version that a training has registered; `reason` says why it was trained."""

    version: str
    made_by: str
    digest: str
    signature: Signature
    training_set: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens, and what keeps it from going further."""

    events: tuple[Event, ...]
    missing: tuple[Guard, ...] = ()


def register(
    ledger: Ledger,
    made: Made,
    rollout: Rollout,
    facts: Callable[[Ledger], Facts],
    author: Author,
    *,
    posted: Mapping[str, str] | None = None,
) -> Decision:
    """Take a trained version into the history, and let it go as far as the guards allow; nothing if it is there already.

    Args:
        ledger: of the model.
        made: the version.
        rollout: of the contract.
        facts: of the version beside the one that is in production by a ledger.
        author: the training.
        posted: the versions that the registry has now, with the runs that made them. They are asked where the number was given before:
            then the registry is another, or an older one, and what it lacks is lost.
    """
    known = ledger.standings.get(made.version)
    if known is not None and known.made_by == made.made_by:
        return Decision(())
    lost = tuple(_lost(ledger, made.version, posted or {}, author)) if known is not None else ()
    decision = _registered(ledger.after(lost), made, rollout, facts(ledger.after(lost)), author)
    return Decision((*lost, *decision.events), decision.missing)


def _lost(ledger: Ledger, number: str, posted: Mapping[str, str], author: Author) -> Iterator[Event]:
    """What is lost of a history whose registry was made anew, or restored; the newest that is left in its line answers again."""
    told = replace(author, reason=f"the registry has given number {number} again, and no longer has this version")
    gone = {
        version
        for version, standing in ledger.standings.items()
        if version == number or version not in posted or standing.made_by not in {None, posted[version]}
    }
    for version in sorted(gone, key=int):
        yield _event(ledger, version, "lost", ledger.standing(version).state, told)
    left = [version for version in ledger.line if version not in gone]
    if left and ledger.production in gone:
        back = replace(author, reason=f"version {ledger.production} is lost")
        yield replace(_event(ledger, left[-1], "restored", State.PRODUCTION, back), previous=ledger.production)


def _registered(ledger: Ledger, made: Made, rollout: Rollout, facts: Facts, author: Author) -> Decision:
    semantic = next_version(ledger.semantic, ledger.signature, made.signature)
    drafted = _event(ledger, made.version, "drafted", State.DRAFT, author)
    drafted = replace(drafted, before=None, made_by=made.made_by, digest=made.digest, reason=made.reason)
    training = replace(drafted, kind="training", before=State.DRAFT, after=State.TRAINING)
    registered = replace(
        training,
        kind="registered",
        before=State.TRAINING,
        after=State.TRAINED,
        semantic=semantic,
        signature=made.signature,
        training_set=made.training_set,
    )
    events = (drafted, training, registered)
    further = advance(ledger.after(events), made.version, rollout, facts, author)
    events = (*events, *further.events)
    if further.missing:
        # Why it went no further is told once, when it was made.
        state = ledger.after(events).standing(made.version).state
        stays = _event(ledger.after(events), made.version, "rejected" if state is State.TRAINED else "held", state, author)
        events = (*events, replace(stays, guards=further.missing, reason=_told(further.missing)))
    return Decision(events, further.missing)


def advance(ledger: Ledger, version: str, rollout: Rollout, facts: Facts, author: Author) -> Decision:
    """Let a version go as far towards production as the guards allow, at most one share of a rollout at a time.

    Raises:
        TransitionRefused: the version is unknown, archived, or in production already.
    """
    state = ledger.standing(version).state
    if state not in _ORDER[:-1]:
        raise _refused(ledger, version, State.PRODUCTION, "only by a rollback" if state is State.ARCHIVED else "it is there already")
    events: list[Event] = []
    for _ in range(_NEVER_STAYS):
        now = ledger.after(events)
        step = _step(now, version, rollout, facts, author)
        events.extend(step.events)
        if step.missing or not step.events or step.events[-1].kind in {"canary", "promoted"}:
            return Decision(tuple(events), step.missing)
    return Decision(tuple(events))


def _step(ledger: Ledger, version: str, rollout: Rollout, facts: Facts, author: Author) -> Decision:
    standing = ledger.standing(version)
    if standing.state is State.TRAINED:
        return _if_held(before_validation(facts), _event(ledger, version, "validated", State.VALIDATED, author))
    if standing.state is State.VALIDATED:
        guards = before_staging(ledger, rollout, facts, by_hand=author.by_hand)
        decision = _if_held(guards, _event(ledger, version, "staged", State.STAGED, author))
        other = ledger.staged
        if decision.events and other is not None:
            superseded = _event(ledger, other.version, "archived", State.ARCHIVED, author)
            return Decision((replace(superseded, reason=f"version {version} takes its place"), *decision.events))
        return decision
    guards = before_production(ledger, standing, rollout, facts, now=author.now)
    share = next_share(ledger, standing, rollout)
    guards = (*guards, *step_is_over(ledger, standing, rollout, facts, now=author.now))
    if share is not None:
        decision = _if_held(guards, _event(ledger, version, "canary", State.STAGED, author))
        return Decision(tuple(replace(event, share=share) for event in decision.events), decision.missing)
    decision = _if_held(guards, _event(ledger, version, "promoted", State.PRODUCTION, author))
    before = ledger.production
    promoted = tuple(replace(event, previous=before) for event in decision.events)
    if promoted and before is not None:
        replaced = _event(ledger, before, "archived", State.ARCHIVED, author)
        promoted = (replace(replaced, reason=f"version {version} takes its place"), *promoted)
    return Decision(promoted, decision.missing)


def _if_held(guards: Iterable[Guard], event: Event) -> Decision:
    asked = tuple(guards)
    missing = tuple(one for one in asked if not one.passed)
    if missing:
        return Decision((), missing)
    return Decision((replace(event, guards=asked, reason=event.reason or _told(asked)),))


def promote(ledger: Ledger, version: str | None, rollout: Rollout, facts: Facts, author: Author) -> Decision:
    """Let a version, or the newest that may win, go as far as the guards allow.

    Raises:
        TransitionRefused: it can't go anywhere; the message names the guards that do not hold.
    """
    wanted = version or candidate_of(ledger)
    decision = advance(ledger, wanted, rollout, facts, author)
    if not decision.events:
        raise _refused(ledger, wanted, _next_of(ledger, wanted), _told(decision.missing))
    return decision


def candidate_of(ledger: Ledger) -> str:
    """The version that would be promoted if none is named.

    Raises:
        TransitionRefused: there is none.
    """
    found = ledger.staged or ledger.challenger
    if found is None:
        raise TransitionRefused(
            f"model {ledger.model}",
            "has no version that waits to be promoted or approved",
            found=f"version {ledger.production} in production" if ledger.production else "no version",
            fix=f"Run `lakehouse train {ledger.model}`",
        )
    return found.version


def roll_back(ledger: Ledger, to: str | None, author: Author, *, guards: tuple[Guard, ...] = ()) -> Decision:
    """Return to an earlier version in production; without one that is named, take back the staged version's share first, if it has any.

    Raises:
        TransitionRefused: there is nothing to return to, or the version has never been in production.
    """
    staged, production = ledger.staged, ledger.production
    if to is None and staged is not None and staged.share > 0:
        return withdraw(ledger, author, guards=guards)
    if production is None or (to is None and len(ledger.line) < 2):
        raise TransitionRefused(
            f"model {ledger.model}",
            "can't be rolled back: no version was in production before, and was not taken back since",
            found=f"version {production} in production" if production else "none in production",
            fix=_others_that_served(ledger) or f"See `lakehouse model history {ledger.model}`",
        )
    wanted = to or ledger.line[-2]
    standing = ledger.standing(wanted)
    if standing.state is not State.ARCHIVED or not standing.served:
        why = "it is there already" if standing.state is State.PRODUCTION else "it has never been in production: promote it"
        raise _refused(ledger, wanted, State.PRODUCTION, why)
    # Who goes on to a version that was rolled back before may still return from it.
    kind = "rolled_back" if wanted in ledger.line else "archived"
    ended = replace(_event(ledger, production, kind, State.ARCHIVED, author), guards=guards)
    restored = replace(_event(ledger, wanted, "restored", State.PRODUCTION, author), previous=production)
    return Decision((ended, restored))


def _others_that_served(ledger: Ledger) -> str | None:
    served = [one.version for one in ledger.standings.values() if one.served and one.version != ledger.production]
    if not served:
        return None
    return f"Name the one to return to, of {', '.join(served)}: `lakehouse model rollback {ledger.model}@{served[-1]}`"


def withdraw(ledger: Ledger, author: Author, *, guards: tuple[Guard, ...] = ()) -> Decision:
    """Take a staged version back."""
    staged = ledger.staged
    if staged is None:
        return Decision(())
    return Decision((replace(_event(ledger, staged.version, "rolled_back", State.ARCHIVED, author), guards=guards),))


def approve(ledger: Ledger, version: str | None, author: Author) -> Decision:
    """Approve a version that is validated or staged; nothing if it is approved.

    Raises:
        TransitionRefused: it is neither.
    """
    wanted = version or candidate_of(ledger)
    standing = ledger.standing(wanted)
    if standing.state not in {State.VALIDATED, State.STAGED}:
        raise TransitionRefused(
            f"model {ledger.model}@{wanted}",
            "can't be approved",
            expected="validated or staged",
            found=str(standing.state),
            fix=f"See `lakehouse model history {ledger.model}` for the versions that wait",
        )
    if standing.approved_by is not None:
        return Decision(())
    return Decision((_event(ledger, wanted, "approved", standing.state, author),))


def set_threshold(ledger: Ledger, version: str, threshold: float | None, *, own: float, author: Author) -> Decision:
    """Let the version in production answer by another threshold, or by its own again (None); nothing if it does.

    Args:
        ledger: of the model.
        version: that was in production when the threshold was chosen.
        threshold: the probability from which the positive class is answered.
        own: that of the model.
        author: who acts.

    Raises:
        TransitionRefused: another version is in production.
    """
    if ledger.production != version:
        raise TransitionRefused(
            f"model {ledger.model}",
            "has another version in production than the threshold is for",
            expected=f"version {version}",
            found=f"version {ledger.production}" if ledger.production else "none",
            fix="Try again",
        )
    known = ledger.standing(version).threshold
    if known == threshold:
        return Decision(())
    event = _event(ledger, version, "threshold_reset" if threshold is None else "threshold_set", State.PRODUCTION, author)
    before, after = (own if one is None else one for one in (known, threshold))
    return Decision((replace(event, threshold=after, threshold_before=before),))


def archive(ledger: Ledger, version: str, author: Author) -> Decision:
    """Put a version away for good; nothing if it is.

    Raises:
        TransitionRefused: it is in production: something has to be.
    """
    standing = ledger.standing(version)
    if standing.state is State.ARCHIVED:
        return Decision(())
    if standing.state is State.PRODUCTION:
        raise _refused(ledger, version, State.ARCHIVED, "it is in production: promote another version, or roll back")
    return Decision((_event(ledger, version, "archived", State.ARCHIVED, author),))


def _event(ledger: Ledger, version: str, kind: str, after: State, author: Author) -> Event:
    known = ledger.standings.get(version)
    return Event(ledger.model, version, kind, known.state if known else None, after, author.now, author.actor, author.reason, author.run)


def _next_of(ledger: Ledger, version: str) -> State:
    return _ORDER[_ORDER.index(ledger.standing(version).state) + 1]


def _told(guards: Iterable[Guard]) -> str:
    return "; ".join(f"{one.id}: {one.detail}" for one in guards)


def _refused(ledger: Ledger, version: str, to: State, why: str) -> TransitionRefused:
    return TransitionRefused(
        f"model {ledger.model}@{version}",
        f"may not go from {ledger.standing(version).state} to {to}",
        found=why or None,
        fix=f"See `lakehouse model history {ledger.model}`, and minimums and rollout in its contract",
    )
