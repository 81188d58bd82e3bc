"""Rollouts that nobody attends to: what has become of them, and what is to be done."""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.learning.lifecycle.deciding import Author
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.lifecycle.rollout import Verdict
from lakehouse.learning.lifecycle.running import Outcome
from lakehouse.learning.lifecycle.states import Ledger
from lakehouse.learning.registry import Registry
from lakehouse.settings import Settings
from lakehouse.tables import Lake

_ACTOR = "watch"


@dataclass(frozen=True, slots=True)
class Due:
    """Whether something is to be done about a rollout.

    Attributes:
        decision: the newest, on which the next one follows; None where nothing is to be done.
        reason: why, or why not.
    """

    decision: int | None
    reason: str


def watch_rollout(settings: Settings, lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> Outcome:
    """Do what the rollout of a model has come to: the next step, its end in production, or the way back; mostly nothing.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model, whose `rollout` decides.
        run: recorded with what happens.
        now: the time.
    """
    registry = Registry(settings)
    lifecycle = Lifecycle(registry, lake)
    if not registry.is_present:
        return Outcome(Ledger(contract.name))
    return lifecycle.watch(contract, Author(_ACTOR, now, run=run))


def rollout_due(settings: Settings, lake: Lake, contract: ModelContract, *, now: datetime) -> Due:
    """Whether `watch_rollout` would do something now; nothing is written, and the registry is not asked.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        now: the time.
    """
    lifecycle = Lifecycle(Registry(settings), lake)
    judgement = lifecycle.judge(contract, Author(_ACTOR, now))
    if judgement.verdict is Verdict.WAIT:
        return Due(None, judgement.reason)
    return Due(lifecycle.recorded(contract.name).decision, judgement.reason)
