"""What is usual, learned from earlier batches: robust to the odd one among them, and silent until there are enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MIN_HISTORY = 8
"""Fewer batches say too little about what is usual: nothing is learned from them."""
_WINDOW = 30
_MAD_TO_SIGMA = 1.4826
# With few batches the deviation itself is uncertain. Measured over series of 50 batches in which nothing happens, false alarms per
# judgement: normal, log-normal and slowly drifting 0.03 %, heavy tails 0.3 to 0.6 %, a strong weekly rhythm 2 %.
_SIGMAS = 6.0
_SIGMAS_PER_MISSING_BATCH = 40.0


@dataclass(frozen=True, slots=True)
class Usual:
    """Where a number usually lies."""

    middle: float
    low: float
    high: float
    batches: int

    def holds(self, number: float) -> bool:
        """Whether the number is nothing unusual."""
        return self.low <= number <= self.high


def usual(numbers: Sequence[float], *, least_spread: float) -> Usual | None:
    """The usual range of a number, from its values in earlier batches, oldest first; None where they are too few.

    Args:
        numbers: of earlier batches; only the newest thirty count.
        least_spread: a deviation below this is no news even where all batches were alike.
    """
    known = [number for number in numbers if math.isfinite(number)][-_WINDOW:]
    if len(known) < MIN_HISTORY:
        return None
    middle = median(known)
    spread = max(_MAD_TO_SIGMA * median(abs(number - middle) for number in known), least_spread)
    reach = (_SIGMAS + _SIGMAS_PER_MISSING_BATCH / len(known)) * spread
    return Usual(middle, middle - reach, middle + reach, len(known))
