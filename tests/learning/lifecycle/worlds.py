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
    before_posted: Callable[[], None] | None = None

    def posted(self, name: str) -> Mapping[str, Posted]:
        if self.before_posted is not None:
            other, self.before_posted = self.before_posted, None
            other()
        return dict(self.versions)

    def aliases(self, name: str) -> Mapping[str, str]:
        return dict(self.shown)

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
        self.pending: Made | None = None
        self.ever: set[str] = set()
        # Whether versions reach the minimums, and which others they were compared with: those that they beat, and those that they do not.
        self.reaches: dict[str, bool] = {}
        self.compared: dict[tuple[str, str], bool] = {}
        self._gone: set[str] = set()
        self._checked = 0

    def author(self, who: str, *, by_hand: bool = True) -> Author:
        return Author(who, self.now, f"{who} says so" if by_hand else "", "run", by_hand)

    def train(self, *, reaches: bool, beats: bool, algorithm: str, features: str) -> Outcome:
        """What a training does: complete what a killed one left, then register."""
        if self.pending is not None:
            self._register()
        champion = self.look().production
        version, made_by = self._post()
        self.ever.add(version)
        self.compared = {pair: won for pair, won in self.compared.items() if version not in pair}
        if champion is not None:
            self.compared[version, champion] = beats
        self.reaches[version] = reaches
        self.pending = Made(
            version, made_by, f"digest {version}", Signature.of(algorithm=algorithm, problem="p", target="t", features=[features]), 0
        )
        return self._register()

    def facts(self, *, reaches: bool = True, errors: int = 0, metric: float = 0.9) -> Facts:
        """What is measured of a version, whichever is in production."""
        seen = Observed(requests=200, errors=errors, metric=metric, labels=200)
        return Facts((Guard(MINIMUMS, reaches, "measured"),), None, seen, Observed(metric=0.9, labels=200), standard_error=0.01)

    def beside(self, ledger: Ledger, version: str, known: Facts) -> Facts:
        """The same, and whether it beats the version that is in production by this ledger."""
        champion = ledger.production
        if champion is None or champion == version:
            return known
        won = self.compared.get((version, champion))
        said = f"beats version {champion}" if won is not None else f"was not compared with version {champion}"
        return replace(known, comparison=Guard(COMPARED, bool(won), said))

    def compare(self, version: str, other: str, *, beats: bool) -> None:
        """What somebody does by hand."""
        if version in self.ever and other in self.ever:
            self.compared[version, other] = beats

    def _register(self) -> Outcome:
        made = self.pending
        assert made is not None
        known = self.facts(reaches=self.reaches[made.version])
        author = self.author("train", by_hand=False)

        def decide(ledger: Ledger) -> Decision:
            posted = {version: one.run for version, one in self.board.posted(self.model).items()}
            return register(ledger, made, self.rollout, lambda now: self.beside(now, made.version, known), author, posted=posted)

        done = self.do(decide)
        self.pending = None
        return done

    def promote(self, version: str | None, **facts: object) -> Outcome:
        known = self.facts(**facts)  # pyright: ignore[reportArgumentType]

        def decide(ledger: Ledger) -> Decision:
            wanted = version or candidate_of(ledger)
            return promote(ledger, wanted, self.rollout, self.beside(ledger, wanted, known), self.author("ann"))

        return self.do(decide)

    def approve(self, version: str | None) -> Outcome:
        return self.do(lambda ledger: approve(ledger, version, self.author("bob")))

    def archive(self, version: str) -> Outcome:
        return self.do(lambda ledger: archive(ledger, version, self.author("ann")))

    def roll_back(self, to: str | None) -> Outcome:
        return self.do(lambda ledger: roll_back(ledger, to, self.author("ann")))

    def watch(self, candidate: Facts, champion: Facts) -> Outcome:
        """As Lifecycle.watch, with facts that are given."""

        def decide(ledger: Ledger) -> Decision:
            moving = ledger.staged or ledger.challenger
            seen = self.beside(ledger, moving.version, candidate) if moving is not None else candidate
            judged = judge(ledger, self.rollout, candidate=seen, champion=champion, now=self.now)
            if judged.verdict is Verdict.WAIT or judged.version is None:
                return Decision(())
            author = replace(self.author("watch", by_hand=False), reason=judged.reason)
            if judged.verdict is Verdict.GO_ON:
                return advance(ledger, judged.version, self.rollout, seen, author)
            if ledger.staged is not None and ledger.staged.version == judged.version:
                return withdraw(ledger, author, guards=judged.guards)
            return roll_back(ledger, ledger.line[-2], author, guards=judged.guards)

        return self.do(decide)

    def do(self, decide: Callable[[Ledger], Decision]) -> Outcome:
        return carry_out(self.journal, self.board, self.model, decide, turn=nobody_waits)

    def look(self) -> Ledger:
        return look(self.journal, self.board, self.model, turn=nobody_waits)

    def lose(self, versions: set[str]) -> None:
        """The registry was restored to a time when these were not there."""
        board = self.board
        assert isinstance(board, MemoryBoard)
        self._gone |= versions
        board.versions = {version: posted for version, posted in board.versions.items() if version not in versions}
        board.shown = {alias: version for alias, version in board.shown.items() if version not in versions}

    def pass_time(self, hours: float) -> None:
        self.now += timedelta(hours=hours)

    def require_sound(self) -> None:
        """Everything that must be true of a history, told by walking through it once more."""
        events = self.journal.events(self.model)
        assert [one.number for one in events] == list(range(1, len(events) + 1))
        assert all(one.at <= other.at for one, other in pairwise(events))
        states: dict[str, str] = {}
        ready: dict[str, set[str]] = {}
        ever_in_production: set[str] = set()
        is_answered, decided = False, 0
        for place, event in enumerate(events):
            if event.decision != decided:
                assert event.decision == decided + 1
                self._require_one_production(states, is_answered=is_answered)
                decided = event.decision
            assert states.get(event.version) == (str(event.before) if event.before else None)
            if event.before is not event.after:
                assert (str(event.before) if event.before else None, str(event.after)) in MAY_FOLLOW
            if event.kind == "lost":
                assert event.version in self._gone
                is_answered = is_answered and states.pop(event.version) != "production"
                states.pop(event.version, None)
                ready.pop(event.version, None)
                ever_in_production.discard(event.version)
                continue
            if place >= self._checked:
                self._require_compared(event, states)
            states[event.version] = str(event.after)
            ready.setdefault(event.version, set()).add(event.kind)
            assert all(guard.passed for guard in event.guards) or event.kind in {"held", "rejected", "rolled_back"}
            if event.after is State.PRODUCTION:
                assert {"validated", "staged"} <= ready[event.version]
                assert not self.rollout.approval or "approved" in ready[event.version]
                if event.before is State.ARCHIVED:
                    assert event.version in ever_in_production
                ever_in_production.add(event.version)
                is_answered = True
            assert event.actor
        self._checked = len(events)
        self._require_one_production(states, is_answered=is_answered)
        registered = [one for one in events if one.kind == "registered"]
        waiting = {self.pending.version} if self.pending is not None else set()
        assert {one.version for one in registered} | waiting == self.ever
        numbers = [tuple(int(part) for part in (one.semantic or "").split(".")) for one in registered]
        assert all(low < high for low, high in pairwise(numbers))

    def _require_compared(self, event: Event, states: Mapping[str, str]) -> None:
        """Nobody goes on towards the place of a version without having beaten that one; only a rollback does not ask."""
        champion = next((version for version, state in states.items() if state == "production"), event.previous)
        if event.kind in {"staged", "canary", "promoted"} and champion is not None:
            assert self.compared.get((event.version, champion)) is True

    def _require_one_production(self, states: Mapping[str, str], *, is_answered: bool) -> None:
        found = list(states.values())
        assert found.count("production") == is_answered
        assert found.count("staged") <= 1

    def require_shown(self) -> None:
        """The registry shows what the history says, once somebody has looked; and no version goes but with the whole registry."""
        ledger = self.look()
        posted = self.board.posted(self.model)
        here = {version: one for version, one in ledger.standings.items() if version in posted and one.made_by == posted[version].run}
        wanted, shown = wanted_aliases(ledger), self.board.aliases(self.model)
        assert {alias: shown.get(alias) for alias, version in wanted.items() if version in here} == {
            alias: version for alias, version in wanted.items() if version in here
        }
        assert not {alias for alias, version in shown.items() if version in here} - set(wanted)
        states = {version: posted[version].tags.get("lakehouse.state") for version in here}
        assert states == {version: str(standing.state) for version, standing in here.items()}
