"""The life of a model version: draft, training, trained, validated, staged, production, archived."""

from lakehouse.learning.lifecycle.deciding import Author, Decision, Made
from lakehouse.learning.lifecycle.rollout import Facts, Judgement, Observed, Verdict, judge
from lakehouse.learning.lifecycle.semantic import Signature, next_version
from lakehouse.learning.lifecycle.states import Event, Guard, HistoryDamaged, Ledger, Standing, State, TransitionRefused
from lakehouse.learning.lifecycle.traffic import Traffic, assigned, assigned_sql

__all__ = [
    "Author",
    "Decision",
    "Event",
    "Facts",
    "Guard",
    "HistoryDamaged",
    "Judgement",
    "Ledger",
    "Made",
    "Observed",
    "Signature",
    "Standing",
    "State",
    "Traffic",
    "TransitionRefused",
    "Verdict",
    "assigned",
    "assigned_sql",
    "judge",
    "next_version",
]
