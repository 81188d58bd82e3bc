"""A model registry and a history in memory, in which the process can be killed at any step, and a walk through them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from lakehouse.contracts import Rollout
from lakehouse.learning.lifecycle import Author, Decision, Event, Facts, Guard, Ledger, Made, Observed, Signature, State, Verdict, judge
from lakehouse.learning.lifecycle.board import Board, Posted, wanted_aliases
from lakehouse.learning.lifecycle.deciding import advance, approve, archive, candidate_of, promote, register, roll_back, withdraw
from lakehouse.learning.lifecycle.journal import Journal
from lakehouse.learning.lifecycle.rollout import COMPARED, MINIMUMS
from lakehouse.learning.lifecycle.running import Outcome, carry_out, look

START = datetime(2026, 1, 1, tzinfo=UTC)
# Written down a second time, on purpose: what the walk may do is not read off the code that it tests.
MAY_FOLLOW = {
    (None, "draft"),
    ("draft", "training"),
    ("training", "trained"),
    ("trained", "validated"),
    ("validated", "staged"),
    ("staged", "production"),
    ("archived", "production"),
    *((state, "archived") for state in ("trained", "validated", "staged", "production")),
}


class Killed(Exception):
    """The process ends here."""


@dataclass
class Fuse:
    """Counts steps down; the process is killed when it comes to 0. None never kills."""

    left: int | None = None

    def burn(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Killed


@dataclass
class MemoryJournal(Journal):
    """A history in a list, with the same promise: one decision of each number."""

    fuse: Fuse
    kept: list[Event] = field(default_factory=list)
    before_add: Callable[[], None] | None = None

    def events(self, model: str) -> tuple[Event, ...]:
        return tuple(one for one in self.kept if one.model == model)

    def ledger(self, model: str) -> Ledger:
        return Ledger(model).after(self.events(model))

    def add(self, events: Sequence[Event], *, inputs: Mapping[str, int] | None = None) -> bool:
        self.fuse.burn()
        if self.before_add is not None:
            other, self.before_add = self.before_add, None
            other()
        if any(one.decision >= events[0].decision for one in self.kept):
            return False
        self.kept.extend(events)
        self.fuse.burn()
        return True


@dataclass
class MemoryBoard(Board):
    """A registry in two dictionaries."""

    fuse: Fuse
    versions: dict[str, Posted] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def posted(self, name: str) -> Mapping[str, Posted]:
        return self.versions

    def aliases(self, name: str) -> Mapping[str, str]:
        return self.shown

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.fuse.burn()
        self.shown[alias] = version

    def remove_alias(self, name: str, alias: str) -> None:
        self.fuse.burn()
        del self.shown[alias]

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        self.fuse.burn()
        posted = self.versions[version]
        self.versions[version] = replace(posted, tags={**posted.tags, **tags})


@contextmanager
def nobody_waits() -> Iterator[None]:
    yield


class World:
    """One model, its contract's rollout, a clock, and everything that can be done with it.

    Args:
        rollout: of the contract.
        journal: where its history is kept.
        board: where its versions are shown.
        post: makes a new version in the registry, and gives its number and the run that made it.
    """

    model = "walked"

    def __init__(self, rollout: Rollout, journal: Journal, board: Board, post: Callable[[], tuple[str, str]]) -> None:
        self.rollout, self.journal, self.board, self._post = rollout, journal, board, post
        self.now = START
        self.pending: tuple[Made, Facts] | None = None
        self.ever: set[str] = set()

    def author(self, who: str, *, by_hand: bool = True) -> Author:
        return Author(who, self.now, f"{who} says so" if by_hand else "", "run", by_hand)

    def train(self, *, reaches: bool, beats: bool, algorithm: str, features: str) -> Outcome:
        """What a training does: complete what a killed one left, then register."""
        if self.pending is not None:
            self._register()
        version, made_by = self._post()
        self.ever.add(version)
        made = Made(
            version, made_by, f"digest {version}", Signature.of(algorithm=algorithm, problem="p", target="t", features=[features]), 0
        )
        self.pending = made, self.facts(reaches=reaches, beats=beats)
        return self._register()

    def facts(self, *, reaches: bool = True, beats: bool = True, errors: int = 0, metric: float = 0.9) -> Facts:
        seen = Observed(requests=200, errors=errors, metric=metric, labels=200)
        compared = Guard(COMPARED, beats, "compared")
        return Facts((Guard(MINIMUMS, reaches, "measured"),), compared, seen, Observed(metric=0.9, labels=200))

    def _register(self) -> Outcome:
        assert self.pending is not None
        made, facts = self.pending
        done = self.do(lambda ledger: register(ledger, made, self.rollout, facts, self.author("train", by_hand=False)))
        self.pending = None
        return done

    def promote(self, version: str | None, **facts: object) -> Outcome:
        known = self.facts(**facts)  # pyright: ignore[reportArgumentType]
        return self.do(lambda ledger: promote(ledger, version or candidate_of(ledger), self.rollout, known, self.author("ann")))

    def approve(self, version: str | None) -> Outcome:
        return self.do(lambda ledger: approve(ledger, version, self.author("bob")))

    def archive(self, version: str) -> Outcome:
        return self.do(lambda ledger: archive(ledger, version, self.author("ann")))

    def roll_back(self, to: str | None) -> Outcome:
        return self.do(lambda ledger: roll_back(ledger, to, self.author("ann")))

    def watch(self, candidate: Facts, champion: Facts) -> Outcome:
        """As Lifecycle.watch, with facts that are given."""

        def decide(ledger: Ledger) -> Decision:
            judged = judge(ledger, self.rollout, candidate=candidate, champion=champion, now=self.now)
            if judged.verdict is Verdict.WAIT or judged.version is None:
                return Decision(())
            author = replace(self.author("watch", by_hand=False), reason=judged.reason)
            if judged.verdict is Verdict.GO_ON:
                return advance(ledger, judged.version, self.rollout, candidate, author)
            if ledger.staged is not None and ledger.staged.version == judged.version:
                return withdraw(ledger, author, guards=judged.guards)
            return roll_back(ledger, ledger.line[-2], author, guards=judged.guards)

        return self.do(decide)

    def do(self, decide: Callable[[Ledger], Decision]) -> Outcome:
        return carry_out(self.journal, self.board, self.model, decide, turn=nobody_waits)

    def pass_time(self, hours: float) -> None:
        self.now += timedelta(hours=hours)

    def require_sound(self) -> None:
        """Everything that must be true of a history, told by walking through it once more."""
        events = self.journal.events(self.model)
        assert [one.number for one in events] == list(range(1, len(events) + 1))
        states: dict[str, str] = {}
        ready: dict[str, set[str]] = {}
        ever_in_production: set[str] = set()
        decided = 0
        for event in events:
            if event.decision != decided:
                assert event.decision == decided + 1
                self._require_one_production(states, ever_in_production)
                decided = event.decision
            assert states.get(event.version) == (str(event.before) if event.before else None)
            if event.before is not event.after:
                assert (str(event.before) if event.before else None, str(event.after)) in MAY_FOLLOW
            states[event.version] = str(event.after)
            ready.setdefault(event.version, set()).add(event.kind)
            assert all(guard.passed for guard in event.guards) or event.kind in {"held", "rejected", "rolled_back"}
            if event.after is State.PRODUCTION:
                assert {"validated", "staged"} <= ready[event.version]
                assert not self.rollout.approval or "approved" in ready[event.version]
                if event.before is State.ARCHIVED:
                    assert event.version in ever_in_production
                ever_in_production.add(event.version)
            assert event.actor
        self._require_one_production(states, ever_in_production)
        registered = [one for one in events if one.kind == "registered"]
        waiting = {self.pending[0].version} if self.pending is not None else set()
        assert {one.version for one in registered} | waiting == self.ever
        numbers = [tuple(int(part) for part in (one.semantic or "").split(".")) for one in registered]
        assert all(low < high for low, high in pairwise(numbers))

    def _require_one_production(self, states: Mapping[str, str], ever_in_production: set[str]) -> None:
        found = list(states.values())
        assert found.count("production") == (1 if ever_in_production else 0)
        assert found.count("staged") <= 1

    def require_shown(self) -> None:
        """The registry shows what the history says, once somebody has looked; and no version is ever gone."""
        ledger = look(self.journal, self.board, self.model)
        posted = self.board.posted(self.model)
        assert set(posted) == self.ever
        assert self.board.aliases(self.model) == wanted_aliases(ledger)
        states = {version: posted[version].tags.get("lakehouse.state") for version in ledger.standings}
        assert states == {version: str(standing.state) for version, standing in ledger.standings.items()}
