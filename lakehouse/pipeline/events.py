"""How long work tells whoever watches it where it stands."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a step stands."""

    STARTED = "started"
    WAITING = "waiting"
    ADVANCED = "advanced"
    FINISHED = "finished"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one step.

    Args:
        step: what kind of work: `sample`, `ingest`, `transform`, `train`, `predict` or `check`.
        subject: what it is done to: a dataset, table or model.
        state: where it stands now.
        detail: one clause for people.
        done: units done so far, when they can be counted.
        total: units in all, when known.
    """

    step: str
    subject: str
    state: State
    detail: str = ""
    done: int | None = None
    total: int | None = None


Progress = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """The progress of work that nobody watches."""


@contextlib.contextmanager
def counted(progress: Progress, step: str, subject: str, *, total: int | None = None) -> Generator[Callable[[int], None]]:
    """One step whose units are counted: gives the function that adds to the count."""
    done = 0
    progress(Event(step, subject, State.STARTED, done=0, total=total))

    def advance(units: int) -> None:
        nonlocal done
        done += units
        progress(Event(step, subject, State.ADVANCED, done=done, total=total))

    try:
        yield advance
    except BaseException:
        progress(Event(step, subject, State.FAILED))
        raise
    progress(Event(step, subject, State.FINISHED, detail=f"{done:,}" if done else "", done=done, total=total))
