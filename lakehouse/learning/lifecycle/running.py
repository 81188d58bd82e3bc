"""Decisions become history: one at a time, each written once, and shown in the registry, whatever is killed in between."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite
from lakehouse.learning.lifecycle.board import Board, is_settled, settle
from lakehouse.learning.lifecycle.deciding import Decision
from lakehouse.learning.lifecycle.journal import Journal
from lakehouse.learning.lifecycle.states import Event, Guard, Ledger

_TRIES = 20
Turn = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision came to.

    Attributes:
        ledger: where the versions stand now.
        events: what happened; none if it had happened before.
        missing: guards that keep it from going further.
    """

    ledger: Ledger
    events: tuple[Event, ...] = ()
    missing: tuple[Guard, ...] = ()


def look(journal: Journal, board: Board, model: str, *, turn: Turn) -> Ledger:
    """Where the versions of a model stand; what a killed process left undone in the registry is done first.

    Args:
        journal: of all models.
        board: the registry.
        model: its name.
        turn: keeps others of this home away meanwhile; taken only where something is to be done.
    """
    ledger = journal.ledger(model)
    if is_settled(board, ledger):
        return ledger
    # Somebody may have decided since the history was read, and be about to show it: only in one's turn is it true until it is shown.
    with turn():
        return _settled(journal, board, model)


def _settled(journal: Journal, board: Board, model: str) -> Ledger:
    ledger = journal.ledger(model)
    settle(board, ledger)
    return ledger


def carry_out(
    journal: Journal,
    board: Board,
    model: str,
    decide: Callable[[Ledger], Decision],
    *,
    turn: Turn,
    inputs: Mapping[str, int] | None = None,
) -> Outcome:
    """Decide on what is true now, write the decision, and show it.

    The decision counts from the instant in which it is written. If somebody else decided at the same time, only one of the two is
    written, and the other is decided anew.

    Args:
        journal: of all models.
        board: the registry.
        model: its name.
        decide: gives the events that follow from a ledger; asked again where another was faster.
        turn: keeps others of this home away meanwhile.
        inputs: table versions that the decision is about.

    Raises:
        TransitionRefused: what is asked for is not allowed.
        ConcurrentWrite: others never stopped deciding.
    """
    with turn():
        for _ in range(_TRIES):
            ledger = _settled(journal, board, model)
            decision = decide(ledger)
            if not decision.events:
                return Outcome(ledger, (), decision.missing)
            events = ledger.numbered(decision.events)
            # A decision that contradicts the history is never written.
            then = ledger.after(events)
            reached(Point.BEFORE_TRANSITION)
            if journal.add(events, inputs=inputs):
                reached(Point.TRANSITION_COMMITTED)
                settle(board, then)
                return Outcome(then, events, decision.missing)
    raise ConcurrentWrite(f"model {model}", "is changed by others all the time; nothing was changed", fix="Try again")
