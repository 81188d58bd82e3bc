"""The life of a home's models: what people, trainings and rollouts do with versions."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from lakehouse.contracts import ModelContract
from lakehouse.learning.lifecycle.board import CHAMPION
from lakehouse.learning.lifecycle.deciding import (
    Author,
    Decision,
    Made,
    advance,
    approve,
    archive,
    candidate_of,
    promote,
    register,
    roll_back,
    set_threshold,
    withdraw,
)
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.lifecycle.observing import facts_of
from lakehouse.learning.lifecycle.rollout import Facts, Judgement, Verdict, judge
from lakehouse.learning.lifecycle.running import Outcome, carry_out, look
from lakehouse.learning.lifecycle.states import Event, Ledger, TransitionRefused
from lakehouse.learning.lifecycle.traffic import Traffic
from lakehouse.learning.registry import LoadedModel, Registry, unheard
from lakehouse.tables import Lake


class Lifecycle:
    """The versions of a home's models: where they stand, and everything that moves them.

    Args:
        registry: of the home.
        lake: its tables.
        waiting: told, in one line, that another process is at it.
    """

    def __init__(self, registry: Registry, lake: Lake, *, waiting: Callable[[str], None] = unheard) -> None:
        self._lake = lake
        self._registry = registry
        self._journal = DeltaJournal(lake)
        self._waiting = waiting

    def history(self, model: str) -> tuple[Event, ...]:
        """Everything that ever happened to a model's versions, oldest first."""
        return self._journal.events(model)

    def recorded(self, model: str) -> Ledger:
        """Where the versions of a model stand, from the table alone."""
        return self._journal.ledger(model)

    def look(self, model: str) -> Ledger:
        """Where the versions of a model stand; the registry shows the same afterwards, whatever was killed before."""
        if not self._registry.is_present:
            return self._journal.ledger(model)
        return look(self._journal, self._registry, model, turn=partial(self._turn, model))

    def production(self, model: str) -> str | None:
        """The version in production: what the alias `champion` stands for."""
        self.look(model)
        return self._registry.version(model, CHAMPION) if self._registry.is_present else None

    def traffic(self, contract: ModelContract) -> Traffic | None:
        """Who answers for a model's entities now; None where no version is in production."""
        ledger = self.look(contract.name)
        champion = self._registry.version(contract.name, CHAMPION) if self._registry.is_present else None
        return None if champion is None else traffic_of(contract, ledger, champion)

    def register(
        self,
        contract: ModelContract,
        made: Made,
        facts: Callable[[Ledger], Facts],
        author: Author,
        *,
        inputs: Mapping[str, int] | None = None,
    ) -> Outcome:
        """Take a trained version into the history, and let it go as far as the contract's guards allow."""

        def decide(ledger: Ledger) -> Decision:
            posted = {version: one.run for version, one in self._registry.posted(contract.name).items()}
            return register(ledger, made, contract.rollout, facts, author, posted=posted)

        return self._carry_out(contract.name, decide, inputs=inputs)

    def promote(self, contract: ModelContract, version: str | None, author: Author) -> Outcome:
        """Let a version, or the newest that may win, go as far towards production as the guards allow.

        Raises:
            TransitionRefused: it can go nowhere; the message names the guards that do not hold.
        """

        def decide(ledger: Ledger) -> Decision:
            wanted = version or candidate_of(ledger)
            return promote(ledger, wanted, contract.rollout, facts_of(self._lake, contract, ledger, wanted), author)

        outcome = self._carry_out(contract.name, decide)
        if outcome.missing:
            return outcome
        # It went as far as it could: what it waits for next.
        waiting = self._judge(contract, outcome.ledger, author)
        return replace(outcome, missing=tuple(one for one in waiting.guards if not one.passed))

    def roll_back(self, model: str, to: str | None, author: Author) -> Outcome:
        """Take back a canary, or return to an earlier version in production; no version is deleted.

        Raises:
            TransitionRefused: there is nothing to return to.
        """
        return self._carry_out(model, lambda ledger: roll_back(ledger, to, author))

    def approve(self, model: str, version: str | None, author: Author) -> Outcome:
        """Approve a version that is validated or staged.

        Raises:
            TransitionRefused: it is neither.
        """
        return self._carry_out(model, lambda ledger: approve(ledger, version, author))

    def archive(self, model: str, version: str, author: Author) -> Outcome:
        """Put a version away for good.

        Raises:
            TransitionRefused: it is in production.
        """
        return self._carry_out(model, lambda ledger: archive(ledger, version, author))

    def load(self, model: str, version: str | None = None) -> LoadedModel:
        """A version of a model, or its champion, as it answers now: with the threshold that people have set for it.

        Raises:
            ModelNotFound: there is none.
        """
        loaded = self._registry.load(model, version)
        standing = self._journal.ledger(model).standings.get(loaded.version)
        return loaded if standing is None else replace(loaded, threshold=standing.threshold)

    def set_threshold(self, model: str, version: str, threshold: float | None, *, own: float, author: Author) -> Outcome:
        """Let the version in production answer by another threshold than its own; None takes that back.

        Raises:
            TransitionRefused: another version is in production.
        """
        return self._carry_out(model, lambda ledger: set_threshold(ledger, version, threshold, own=own, author=author))

    def judge(self, contract: ModelContract, author: Author) -> Judgement:
        """What a rollout comes to now, without doing it."""
        return self._judge(contract, self.recorded(contract.name), author)

    def watch(self, contract: ModelContract, author: Author) -> Outcome:
        """Do what a rollout comes to now: its next step, its end in production, or its way back. Nothing where it has to wait."""
        return self._carry_out(contract.name, partial(self._watched, contract, author=author))

    def _watched(self, contract: ModelContract, ledger: Ledger, *, author: Author) -> Decision:
        judgement = self._judge(contract, ledger, author)
        if judgement.verdict is Verdict.WAIT or judgement.version is None:
            return Decision((), tuple(one for one in judgement.guards if not one.passed))
        told = Author(author.actor, author.now, judgement.reason, author.run)
        if judgement.verdict is Verdict.GO_ON:
            facts = facts_of(self._lake, contract, ledger, judgement.version)
            return advance(ledger, judgement.version, contract.rollout, facts, told)
        if ledger.staged is not None and ledger.staged.version == judgement.version:
            return withdraw(ledger, told, guards=judgement.guards)
        return roll_back(ledger, ledger.line[-2], told, guards=judgement.guards)

    def _judge(self, contract: ModelContract, ledger: Ledger, author: Author) -> Judgement:
        moving, production = ledger.staged or ledger.challenger, ledger.production
        candidate = facts_of(self._lake, contract, ledger, moving.version) if moving is not None else Facts()
        champion = facts_of(self._lake, contract, ledger, production) if production is not None else Facts()
        return judge(ledger, contract.rollout, candidate=candidate, champion=champion, now=author.now)

    def _carry_out(self, model: str, decide: Callable[[Ledger], Decision], *, inputs: Mapping[str, int] | None = None) -> Outcome:
        if not self._registry.is_present:
            raise TransitionRefused(f"model {model}", "has no version: the registry is empty", fix=f"Run `lakehouse train {model}`")
        return carry_out(self._journal, self._registry, model, decide, turn=partial(self._turn, model), inputs=inputs)

    def _turn(self, model: str) -> AbstractContextManager[object]:
        return self._registry.turn("changing", model, waiting=self._waiting)


def traffic_of(contract: ModelContract, ledger: Ledger, champion: str) -> Traffic:
    """Who answers, as the ledger and the contract say."""
    staged = ledger.staged
    # A registry that was restored, or another program's, may not have what the history tells of.
    if staged is None or ledger.production != champion:
        return Traffic(contract.name, champion)
    shadow = contract.rollout.strategy == "shadow" and not staged.share
    return Traffic(contract.name, champion, staged.version if shadow or staged.share else None, staged.share, shadow)
