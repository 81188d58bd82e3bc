"""How often and how long a writer tries again after another one was first."""

import random
import threading
import time

from lakehouse.errors import ConcurrentWrite

MAX_ATTEMPTS = 200
"""One of sixteen writers that never pause gets its turn within them, all but surely."""

_SHORTEST_S = 0.005
_LONGEST_S = 1.0
_began = threading.local()


def wait_after_conflict(table: object, attempt: int, *, undone: str = "nothing was written") -> None:
    """Pause before the next attempt, somewhere between no time and one that doubles, so that writers do not meet again.

    Args:
        table: what was written to.
        attempt: how many have failed, this one included.
        undone: what the error says of the state.

    Raises:
        ConcurrentWrite: there were too many attempts.
    """
    since: dict[str, float] = _began.__dict__
    if attempt == 1:
        since[str(table)] = time.monotonic()
    if attempt >= MAX_ATTEMPTS:
        seconds = time.monotonic() - since.get(str(table), time.monotonic())
        raise ConcurrentWrite(
            str(table),
            f"was changed by other writers each of the {attempt} times that it was tried in {seconds:.0f} s; {undone}",
            fix="Run again when fewer processes write to it",
        )
    time.sleep(random.uniform(0, min(_SHORTEST_S * 2 ** min(attempt, 16), _LONGEST_S)))  # noqa: S311
