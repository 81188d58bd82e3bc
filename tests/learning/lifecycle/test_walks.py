"""Random walks over the life of a model, with kills between any two steps: no forbidden state, one version in production, a whole history."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lakehouse.contracts import Rollout
from lakehouse.learning.lifecycle import TransitionRefused
from lakehouse.learning.lifecycle.board import Posted
from tests.learning.lifecycle.worlds import Fuse, Killed, MemoryBoard, MemoryJournal, World

MANY = bool(os.environ.get("LAKEHOUSE_TEST_MANY_EXAMPLES"))
ROLLOUTS = [
    Rollout(),
    Rollout(staged_hours=6),
    Rollout(approval=True),
    Rollout("canary", steps=(5.0, 25.0)),
    Rollout("canary", steps=(5.0,), approval=True, staged_hours=1),
    Rollout("ab", steps=(50.0,)),
    Rollout("shadow", step_hours=3),
]
kills = st.none() | st.integers(0, 8)
versions = st.none() | st.integers(1, 8).map(str)


class Life(RuleBasedStateMachine):
    """Whatever people, trainings and rollouts do, in any order, killed anywhere."""

    @initialize(rollout=st.sampled_from(ROLLOUTS), beats=st.lists(st.booleans(), min_size=1, max_size=4))
    def begin(self, rollout: Rollout, beats: list[bool]) -> None:
        """With some versions, for most walks would never come to a second one."""
        self.fuse = Fuse()
        self.board = MemoryBoard(self.fuse)
        self.journal = MemoryJournal(self.fuse)
        self.world = World(rollout, self.journal, self.board, self.post)
        self.runs = 0
        for one in beats:
            self.world.train(reaches=True, beats=one, algorithm="a", features="x")

    def post(self) -> tuple[str, str]:
        self.runs += 1
        version, run = str(len(self.board.versions) + 1), f"run {self.runs}"
        self.board.versions[version] = Posted(run)
        return version, run

    def attempt(self, what, kill: int | None) -> None:
        """Do something that may be refused, in a process that may be killed."""
        self.fuse.left = kill
        try:
            what()
        except (TransitionRefused, Killed):
            pass
        finally:
            self.fuse.left = None

    @rule(reaches=st.booleans(), beats=st.booleans(), algorithm=st.sampled_from("ab"), features=st.sampled_from("xy"), kill=kills)
    def train(self, kill: int | None, **how) -> None:
        self.attempt(lambda: self.world.train(**how), kill)

    @rule(version=versions, reaches=st.booleans(), errors=st.sampled_from([0, 150]), kill=kills)
    def promote(self, version: str | None, reaches: bool, errors: int, kill: int | None) -> None:
        self.attempt(lambda: self.world.promote(version, reaches=reaches, errors=errors), kill)

    @rule(version=versions, kill=kills)
    def approve(self, version: str | None, kill: int | None) -> None:
        self.attempt(lambda: self.world.approve(version), kill)

    @rule(version=st.integers(1, 8).map(str), kill=kills)
    def archive(self, version: str, kill: int | None) -> None:
        self.attempt(lambda: self.world.archive(version), kill)

    @rule(to=versions, kill=kills)
    def roll_back(self, to: str | None, kill: int | None) -> None:
        self.attempt(lambda: self.world.roll_back(to), kill)

    @rule(errors=st.sampled_from([0, 150]), metric=st.sampled_from([0.9, 0.5]), of_champion=st.sampled_from([0, 150]), kill=kills)
    def watch(self, errors: int, metric: float, of_champion: int, kill: int | None) -> None:
        world = self.world
        self.attempt(lambda: world.watch(world.facts(errors=errors, metric=metric), world.facts(errors=of_champion)), kill)

    @precondition(lambda self: self.board.versions)
    @rule(mine=versions, others=versions)
    def two_at_once(self, mine: str | None, others: str | None) -> None:
        """Somebody else decides between my look and my decision."""
        self.journal.before_add = lambda: self.attempt(lambda: self.world.roll_back(others), None)
        self.attempt(lambda: self.world.promote(mine), None)
        self.journal.before_add = None

    @precondition(lambda self: self.board.versions)
    @rule(to=versions, is_rollback=st.booleans())
    def read_while_another_decides(self, to: str | None, is_rollback: bool) -> None:
        """Somebody decides, and shows it, between a reader's look at the history and its look at the registry."""
        other = self.world.roll_back if is_rollback else self.world.promote
        self.board.before_posted = lambda: self.attempt(lambda: other(to), None)
        self.world.look()
        self.board.before_posted = None
        before = dict(self.board.shown)
        self.world.require_shown()
        assert self.board.shown == before

    @rule(version=st.integers(1, 8).map(str), other=st.integers(1, 8).map(str), beats=st.booleans())
    def compare(self, version: str, other: str, beats: bool) -> None:
        self.world.compare(version, other, beats=beats)

    @precondition(lambda self: self.world.pending is None and len(self.board.versions) > 1)
    @rule(left=st.integers(0, 3))
    def restore_the_registry(self, left: int) -> None:
        """Numbers that were given are then given again, to versions that other runs make."""
        self.world.lose({version for version in self.board.versions if int(version) > left})

    @rule(hours=st.sampled_from([-6, 1, 7, 30]))
    def pass_time(self, hours: int) -> None:
        self.world.pass_time(hours)

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "world"):
            self.world.require_sound()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.require_shown()


TestLife = Life.TestCase
# Ten thousand walks take a quarter of an hour where the processors are shared.
TestLife.pytestmark = [pytest.mark.timeout(3600 if MANY else 300)]
TestLife.settings = settings(
    max_examples=10_000 if MANY else 60,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
