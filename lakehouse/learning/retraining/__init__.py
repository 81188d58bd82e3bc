"""Retraining: what makes a model train again, decided over facts from tables, and recorded with its reason."""

from lakehouse.learning.retraining.deciding import Held, RetrainingDue, RetrainingFacts, Trigger, decide_retraining
from lakehouse.learning.retraining.observing import retraining_due, retraining_facts
from lakehouse.learning.retraining.training import NOT_DUE, train_when_due

__all__ = [
    "NOT_DUE",
    "Held",
    "RetrainingDue",
    "RetrainingFacts",
    "Trigger",
    "decide_retraining",
    "retraining_due",
    "retraining_facts",
    "train_when_due",
]
