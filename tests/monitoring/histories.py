"""Histories of models, written without training any."""

from dataclasses import replace
from datetime import datetime

from lakehouse.learning.lifecycle import Event, State
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.tables import Lake


def has_happened(lake: Lake, now: datetime, *versions: tuple[str, int, str], model: str = "churn") -> None:
    """Write a history: each version with its training set, in production or staged in the end."""
    journal = DeltaJournal(lake)
    for version, training_set, last in versions:
        ledger = journal.ledger(model)
        states = [None, *State][: 7 if last == "promoted" else 6]
        kinds = ("drafted", "training", "registered", "validated", "staged", "promoted")
        events = [
            Event(model, version, kind, before, after, now, "test", training_set=training_set if kind == "registered" else None)
            for kind, before, after in zip(kinds, states, states[1:], strict=False)
        ]
        if last == "promoted" and ledger.production is not None:
            events.append(replace(events[-1], version=ledger.production, kind="archived", before=State.PRODUCTION, after=State.ARCHIVED))
        assert journal.add(ledger.numbered(events))
